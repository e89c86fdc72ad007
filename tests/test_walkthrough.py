"""recipes/README.md from top to bottom, then README.md and the pages of docs/: each command as written.

LibriSpeech is one of some seconds. Only what a machine without a GPU and without a day needs is added: gpus=cpu,
common.cpu=true, numbers of updates.
"""

import contextlib
import importlib
import io
import json
import os
import random
import re
import shlex
import subprocess
import sys
from glob import glob
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hydra.core.global_hydra import GlobalHydra

from distill_user_dir import infer, tune
from manifests import synthetic
from manifests.grammar import DIGITS
from manifests.speakers import Engines
from tests.decoding.letter_model import write_arpa
from tests.helpers import RECIPES, ROOT, train, write_hubert

pytestmark = pytest.mark.slow
MODULES = {"distill_user_dir.infer": infer.main, "distill_user_dir.tune": tune.main}
QUICK = {"profile": ["--seconds", "0.1", "--rounds", "1"], "results": [], "slim": [], "export": [], "transcribe": []}
QUICK["similarity"] = ["--frames", "20"]
PAGES = sorted(path for path in (ROOT / "docs").glob("*.md") if "```bash" in path.read_text(encoding="utf-8"))
SPLITS = {"train-clean-100": 60, "train-clean-360": 2, "train-other-500": 2, "dev-other": 3, "test-other": 3}
LIGHT = {f"1h/{fold}/clean": 1 for fold in range(6)}
LIGHT["9h/other"] = 1
CLEAN = synthetic.Settings(train=130, snr=None)


def commands(path):
    """Every line of the bash blocks, continued lines joined."""
    blocks = re.findall(r"^```bash\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


class Speech:
    """Spoken digits, a few seconds each."""

    def __init__(self, engines):
        self.engines = engines
        self.stock = iter(synthetic.utterances(CLEAN, "train"))

    def next(self):
        utterance = next(self.stock)
        return utterance.words, synthetic.waveform(utterance, CLEAN, self.engines)


def write_libri(root, folders, speech):
    """SPEAKER/CHAPTER/ID.flac and SPEAKER-CHAPTER.trans.txt below each folder, as LibriSpeech and Libri-light are."""
    for number, (folder, count) in enumerate(folders.items(), start=100):
        chapter = root / folder / str(number) / "7"
        chapter.mkdir(parents=True)
        for i in range(count):
            words, samples = speech.next()
            name = f"{number}-7-{i:04d}"
            soundfile.write(str(chapter / f"{name}.flac"), samples, 16000, "PCM_16")
            with open(str(chapter / f"{number}-7.trans.txt"), "a") as stream:
                stream.write(f"{name} {words}\n")


def sentence(rng):
    """Words of as many parts as sentencepiece needs to find 100 units."""
    parts = [consonant + vowel for consonant in "bdfgklmnprst" for vowel in "aeiou"]
    return " ".join("".join(rng.choice(parts) for _ in range(rng.randint(1, 3))) for _ in range(6))


def write_own(folder, speech):
    """train.csv, valid.csv and test.csv with 32 kHz audio, and texts as people write them."""
    folder.mkdir()
    rng = random.Random(1)
    for split, count in (("train", 12), ("valid", 2), ("test", 2)):
        rows = ["path,text"]
        for i in range(count):
            soundfile.write(str(folder / f"{split}{i}.wav"), np.repeat(speech.next()[1], 2), 32000, "PCM_16")
            rows.append(f'{split}{i}.wav,"{sentence(rng).capitalize()}, {sentence(rng)}."')
        (folder / f"{split}.csv").write_text("\n".join(rows) + "\n")


def write_audio(folder, speech):
    """What README.md's commands name, below `folder`: AUDIO/train, AUDIO/test and the transcripts of both."""
    for split, count in (("train", 12), ("test", 2)):
        (folder / "AUDIO" / split).mkdir(parents=True)
        with open(str(folder / f"{split}.txt"), "w") as stream:
            for i in range(count):
                words, samples = speech.next()
                soundfile.write(str(folder / "AUDIO" / split / f"{i}.flac"), samples, 16000, "PCM_16")
                stream.write(f"{i} {words.lower()}\n")


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """What the README's first commands name, by variable."""
    folder = tmp_path_factory.mktemp("walk")
    with Engines(CLEAN.voices) as engines:
        speech = Speech(engines)
        write_libri(folder / "LibriSpeech", SPLITS, speech)
        write_libri(folder / "light", LIGHT, speech)
        write_own(folder / "own", speech)
        write_audio(folder, speech)
    write_arpa(folder / "4-gram.arpa", dict.fromkeys(DIGITS, -1.0), {("ONE", "TWO"): -0.5})
    write_hubert(folder / "hubert.pt", "base", sets=(500,))
    names = {"LIBRISPEECH": "LibriSpeech", "LIGHT": "light", "LM": "4-gram.arpa", "TEACHER": "hubert.pt", "OWN": "own"}
    return {**{key: folder / name for key, name in names.items()}, "DATA": folder / "data", "OUT": folder / "out"}


def overrides(words):
    """Of a training: the device, and how long it is."""
    given = {"gpus": "cpu", "optimization.max_update": 1, "dataset.validate_after_updates": 0}
    given.update({"dataset.num_workers": 0, "checkpoint.save_interval_updates": 1})
    if "frontend=fbank" in words:
        given.update({"optimization.max_update": 2, "criterion.frontend_updates": 1})
    if words[words.index("--config-name") + 1].startswith("librispeech") and "recipes/distill" in " ".join(words):
        given.update({"lr_scheduler.warmup_updates": 0, "dataset.batch_size": 2})
    given["hydra.run.dir"] = next(word for word in words if word.startswith("checkpoint.save_dir=")).split("=")[1]
    return given


def run(line, monkeypatch):
    """One command of the README, in this process -> its status."""
    words = [part for word in shlex.split(os.path.expandvars(line)) for part in (sorted(glob(word)) or [word])]
    if words[:3] == ["python", "-m", "distill_user_dir.train"]:
        words = ["fairseq-hydra-train", *words[3:]]
    if words[0] == "fairseq-hydra-train":
        folder, name = Path(words[2]), words[4]
        assert words[1] == "--config-dir" and folder.parent == RECIPES and words[3] == "--config-name"
        given = dict(word.split("=", 1) for word in words[5:])
        extra = {key: value for key, value in overrides(words).items() if not key.startswith("hydra.")}
        train(folder.name, name, {**given, **extra})
        return 0
    GlobalHydra.instance().clear()
    if words[-2] == ">":  # of a transcription; a model of one update writes nothing
        with open(words[-1], "w") as file, contextlib.redirect_stdout(file):
            assert importlib.import_module(words[2]).main(words[3:-2]) == 0
        written = Path(words[-1]).read_text()
        Path(words[-1]).write_text(re.sub(r'"text": "[^"]*"', '"text": "SIX ONE"', written))
        return 0
    if words[:2] == ["python", "-m"] and words[2] in MODULES:
        extra = ["common.cpu=true", "dataset.num_workers=0"]
        monkeypatch.setattr(sys, "argv", [*words[2:], *extra])
        MODULES[words[2]]()
        return 0
    if words[:2] == ["python", "-m"]:
        name = words[2].partition(".")[2]
        return importlib.import_module(words[2]).main([*words[3:], *QUICK[name]])
    if words[1].endswith("/transcribe.py"):  # of an exported folder
        return subprocess.call([sys.executable, *words[1:]])
    assert words[0] == "python" and words[1].startswith("manifests/")
    return importlib.import_module(words[1][:-3].replace("/", ".")).main(words[2:])


@pytest.fixture(scope="module")
def walked(places):
    """What all commands of recipes/README.md have written, and the last table on the terminal."""
    with pytest.MonkeyPatch.context() as monkeypatch, contextlib.redirect_stdout(io.StringIO()) as printed:
        settle(monkeypatch, places)
        lines = commands(RECIPES / "README.md")
        assert len(lines) > 25 and {line.split()[0] for line in lines} == {"export", "python", "fairseq-hydra-train"}
        for line in lines:
            if not line.startswith("export "):
                assert run(line, monkeypatch) == 0, line
    return printed.getvalue().splitlines()[-8:]


def settle(monkeypatch, places):
    monkeypatch.chdir(ROOT)
    for key, value in {**places, "HERE": ROOT, "USER_DIR": ROOT / "distill_user_dir"}.items():
        monkeypatch.setenv(key, str(value))


def test_every_command_runs_and_ends_in_a_table(walked, places):
    assert walked[0].split()[:2] == ["WER", "%"]
    assert [line.split()[0] for line in walked[1:]] == [
        "deep_thin/4-gram-test-other",
        "deep_thin/viterbi-test-other",
        "kmeans_10m/4-gram-test-other",
        "taught/viterbi-test-other",
        "teacher/viterbi-test-other",
        "tiny/4-gram-test",
        "tiny/viterbi-test",
    ]
    check_round_trip(places)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_runs(page, walked, places, monkeypatch):
    settle(monkeypatch, places)
    for line in commands(page):
        assert run(line, monkeypatch) == 0, line


def test_the_commands_of_the_readme_run(walked, places, monkeypatch, capsys):
    settle(monkeypatch, places)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text[text.index("source .venv/bin/activate\n") :].partition("```")[0]
    folder = places["DATA"].parent
    names = {"AUDIO/": "AUDIO/", "DATA": "README-data", "STUDENT": "student", "CTC": "ctc", "RESULTS": "results"}
    lines = [line for line in block.replace("\\\n", " ").splitlines()[1:] if line.strip()]
    assert len(lines) == 5
    for line in lines:
        for name, path in names.items():
            line = re.sub(rf"(?<![\w$]){name}", f"{folder / path}{'/' if name.endswith('/') else ''}", line)
        line = re.sub(r"--transcripts (\w+)", rf"--transcripts {folder}/\1", line)
        line = line.replace("hubert_base_ls960.pt", str(places["TEACHER"]))
        line = line.replace("$PWD", str(ROOT))
        assert run(line, monkeypatch) == 0, line
    assert "2 of 2 utterances" in capsys.readouterr().out


def check_round_trip(places):
    """Reference words are the transcripts to the character, from letters and from sentencepiece's units alike."""
    for folder, data, split in (
        ("deep_thin/viterbi-test-other", places["DATA"], "test-other"),
        ("tiny/viterbi-test", places["OWN"] / "data", "test"),
    ):
        decoded = places["OUT"] / "decode" / folder
        rows = [line.split("\t") for line in (decoded / "utterances.tsv").read_text().splitlines()[1:]]
        assert [row[5] for row in rows] == (data / f"{split}.wrd").read_text().splitlines()
        assert json.loads((decoded / "wer.json").read_text())["utterances_scored"] == len(rows)
