"""Every way in times every kind of attack, and what they have in common: one door, by which all bytes come."""

import builtins
import os
import pickle
import shutil

import joblib
import numpy
import pytest
import torch

from distill_user_dir.checkpoints import archive, loading
from manifests import lexicon
from tests.checkpoints.entries import ENTRIES, TAKES, Place
from tests.checkpoints.hostile import CASES
from tests.decoding.letter_model import write_arpa
from tests.helpers import recipe
from tests.own_process import MEGABYTES, SECONDS

# one of each kind, the first, or the one that says most
CHOSEN = {**{case.kind: name for name, case in reversed(list(CASES.items()))}, "code in a config": "args of lightconv"}
MESSAGES = ("fairseq.distributed.utils", "torch.distributed", "multiprocessing", "torch.multiprocessing")


@pytest.fixture(scope="module")
def language(tmp_path_factory, corpus):
    """An ARPA file of the corpus's words, and their lexicon."""
    folder = tmp_path_factory.mktemp("language")
    words = {"ONE": -1.0, "TWO": -1.0, "SIX": -1.0, "TEN": -1.0}
    arpa = write_arpa(folder / "lm.arpa", words, {("ONE", "TWO"): -0.5})
    made = str(folder / "lexicon.txt")
    assert lexicon.main([f"{corpus}/dict.ltr.txt", "--arpa", str(arpa), "--dest", made]) == 0
    return str(arpa), made


@pytest.fixture(scope="module", autouse=True)
def composed():
    """The recipes that trainings in forks take: each fork would compose them again."""
    recipe("distill", "laptop", "student=demo")
    recipe("finetune", "laptop")


@pytest.fixture
def place(language, corpus, sound, tmp_path):
    (tmp_path / "out").mkdir()
    shutil.copy(os.path.join(os.path.dirname(sound["language_model"]), "dict.txt"), str(tmp_path / "dict.txt"))
    return Place(corpus, *language, sound["pretrained"], sound["fine_tuned"], tmp_path / "out")


def test_every_way_in_and_every_kind_is_there():
    assert set(CHOSEN) == {case.kind for case in CASES.values()} and len(CHOSEN) >= 10
    ways = "infer tune slim profile load_student features teacher_path w2v_path init_from_student restore_file "
    assert set(ENTRIES) == set(TAKES) == set((ways + "checkpoint_last lmpath").split())


@pytest.mark.parametrize("kind", CHOSEN)
@pytest.mark.parametrize("entry", ENTRIES)
def test_refused(honest, place, in_its_own_process, entry, kind):
    path = CASES[CHOSEN[kind]].make(honest)
    outcome = in_its_own_process(lambda: ENTRIES[entry](place, path))
    if kind == "no file" and entry in ("restore_file", "checkpoint_last"):
        assert outcome.kind == "none"  # fairseq takes no notice of what is no file, and starts from the beginning
        return
    assert not os.path.exists(honest.mark), "its code ran"
    assert outcome.kind in ("CheckpointError", "ValueError", "SystemExit"), outcome
    assert os.path.basename(path) in outcome.text or "checkpoint_last.pt" in outcome.text, outcome
    assert outcome.text.strip().isprintable() and len(outcome.text) < 1000, outcome
    assert outcome.seconds < SECONDS and outcome.megabytes < MEGABYTES, outcome


def called_by(frame, *modules):
    """Whether one of the modules is on the stack."""
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(modules):
            return True
        frame = frame.f_back
    return False


def forbid_unpickling(monkeypatch):
    """Whatever unpickles anything but a run's messages to its own workers fails, whoever calls it."""

    def forbidden(name, real=None):
        def fail(*arguments, **options):
            import sys

            if real is not None and called_by(sys._getframe(1), *MESSAGES):
                return real(*arguments, **options)
            if name == "numpy.load" and not options.get("allow_pickle"):
                return real(*arguments, **options)
            raise AssertionError(f"{name} past the door")

        return fail

    torchs = torch.serialization
    for module, name in (
        (torchs, "_load"),
        (torchs, "_legacy_load"),
        (torchs._weights_only_unpickler, "load"),
        (torchs._weights_only_unpickler, "Unpickler"),
        (pickle, "load"),
        (pickle, "Unpickler"),
        (pickle, "_Unpickler"),
        (joblib, "load"),
    ):
        monkeypatch.setattr(module, name, forbidden(f"{module.__name__}.{name}"))
    for module, name in ((pickle, "loads"), (pickle, "_loads"), (numpy, "load")):
        monkeypatch.setattr(module, name, forbidden(f"{module.__name__}.{name}", getattr(module, name)))


# profile starts processes that import everything anew
@pytest.mark.parametrize("entry", [pytest.param(e, marks=pytest.mark.slow if e == "profile" else ()) for e in ENTRIES])
def test_one_door(sound, distilled, place, monkeypatch, in_its_own_process, entry):
    """A sound checkpoint goes through every way in while all else that could unpickle a file is forbidden, and each
    file of weights is mapped by archive.py: nothing reads it another way."""
    path = {**sound, "student": distilled}[TAKES[entry]]
    forbid_unpickling(monkeypatch)
    read = []

    def watched(*arguments, **options):
        if str(arguments[0]).endswith(".pt") and "w" not in str(arguments[1:]):
            read.append(arguments[0])
        return opened(*arguments, **options)

    def run():
        before = len(mapped)
        ENTRIES[entry](place, path)
        assert mapped[before:] and len(mapped) >= len(read), "a file was opened and not read by the door"

    opened, mapped, map_file = builtins.open, [], archive.mapped
    monkeypatch.setattr(builtins, "open", watched)
    monkeypatch.setattr(archive, "mapped", lambda file: mapped.append(file) or map_file(file))
    outcome = in_its_own_process(run, seconds=200)  # profile starts processes of its own
    assert outcome.kind == "none", outcome


def test_what_is_forbidden_would_be_seen(tmp_path, sound, monkeypatch):
    """The test above fails where something unpickles a file past the door."""
    forbid_unpickling(monkeypatch)
    with open(sound["pretrained"], "rb") as file, pytest.raises(AssertionError, match="past the door"):
        loading.torchs_load(file)
    for unpickle in (pickle.load, joblib.load, lambda file: pickle.loads(file.read())):
        with open(sound["pretrained"], "rb") as file, pytest.raises(AssertionError, match="past the door"):
            unpickle(file)


def test_the_door_stands_in_torchs_place():
    assert torch.load is torch.serialization.load is loading.torch_load
