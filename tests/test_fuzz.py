"""Strangers' files: whatever is in them, no code of theirs runs, nothing hangs or takes memory without bound, and only
our own one-line errors come out. `make fuzz` runs many more cases than the suite does."""

import contextlib
import io
import os
import resource
import signal
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill_user_dir.checkpoints.loading import CheckpointError, load
from distill_user_dir.data.arrays import read_centres
from distill_user_dir.data.audio import AudioError
from distill_user_dir.data.fbank_stats import read_stats
from distill_user_dir.data.frame_labels import check_frame_labels
from distill_user_dir.data.manifest import Manifest, check_labels, read_dictionary, read_manifest
from distill_user_dir.modules.fbank import KaldiFbank
from distill_user_dir.student import load_student
from manifests.corpus import read_table
from manifests.letters import read_files
from tests.helpers import dictionary, write_hubert

CASES = int(os.environ.get("FUZZ", "40"))  # of each test
SECONDS, MEGABYTES = 20, 600
fuzzed = settings(
    max_examples=CASES,
    deadline=None,
    derandomize=CASES <= 100,  # in the suite the same cases every time
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module", autouse=True)
def bounded_memory(tmp_path_factory):
    write_hubert(tmp_path_factory.mktemp("before") / "hubert.pt", "tiny")  # what is imported late
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES * 1024


@pytest.fixture(scope="module")
def canary(tmp_path_factory):
    """A path that any code which runs would make."""
    path = tmp_path_factory.mktemp("canary") / "alive"
    yield str(path)
    assert not path.exists()


@contextlib.contextmanager
def only_our_errors():
    def late(*_):
        raise TimeoutError(f"more than {SECONDS} s")

    previous = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    except ValueError as error:
        assert type(error) in (ValueError, CheckpointError, AudioError), repr(error)
        assert str(error).strip()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def hubert(folder):
    path = write_hubert(folder / "hubert.pt", "tiny")
    return open(path, "rb").read(), load(path)


# Cut, changed, doubled or foreign bytes anywhere, as a place in thousandths and what is done there.
CHANGES = st.lists(
    st.tuples(st.integers(0, 999), st.sampled_from(["flip", "cut", "insert", "repeat", "zero"]), st.binary(max_size=8)),
    min_size=1,
    max_size=6,
)


def mutated(content, changes):
    content = bytearray(content)
    for place, what, extra in changes:
        at = len(content) * place // 1000
        if what == "flip" and content:
            content[at] ^= extra[0] if extra else 1
        elif what == "cut":
            del content[at:]
        elif what == "insert":
            content[at:at] = extra
        elif what == "repeat":
            content[at:at] = content[at : at + 300]
        elif what == "zero":
            content[at : at + 64] = bytes(64)
    return bytes(content)


@fuzzed
@given(changes=CHANGES)
def test_bytes_of_a_checkpoint(folder, hubert, changes):
    with only_our_errors():
        load_student(write(folder, "bytes.pt", mutated(hubert[0], changes)))


@fuzzed
@given(changes=CHANGES)
def test_bytes_of_the_pickle_inside(folder, hubert, changes):
    """In an archive that is sound, so that they get as far as unpickling."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(hubert[0])) as source, zipfile.ZipFile(made, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            target.writestr(entry, mutated(content, changes) if entry.filename.endswith(".pkl") else content)
    with only_our_errors():
        load_student(write(folder, "pickle.pt", made.getvalue()))


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


FUNCTIONS = [os.system, os.mkdir, eval, exec, open, bytearray, getattr, __import__, torch.load, torch.ones, np.ones]


@fuzzed
@given(
    function=st.sampled_from(FUNCTIONS),
    number=st.sampled_from([0, 1, 10**6, 10**11]),
    place=st.sampled_from(["cfg", "args", "model", "task_state", "extra_state", "top"]),
    protocol=st.integers(2, 4),
    legacy=st.booleans(),
)
def test_calls_in_a_checkpoint(folder, hubert, canary, function, number, place, protocol, legacy):
    arguments = {
        os.system: (f"touch {canary}",),
        os.mkdir: (canary,),
        eval: (f"open({canary!r}, 'w')",),
        exec: (f"open({canary!r}, 'w')",),
        open: (canary, "w"),
        getattr: (os, "system"),
        __import__: ("antigravity",),
        torch.load: (canary,),
    }.get(function, (number,))
    state = dict(hubert[1])
    call = Call(function, arguments) if function is not getattr else Call(getattr, ("text", "upper"))
    if place == "top":
        state = call
    elif place == "model":
        state["model"] = {**state["model"], "w": call}
    else:
        state[place] = {"x": [call]}
    path = str(folder / "call.pt")
    torch.save(state, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    with only_our_errors(), pytest.raises(CheckpointError):
        load(path)
        raise AssertionError("it was loaded")


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([10**6, 10**9, 2**63, -(10**9)]),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        ["${model.a}", "${model.encoder_layers}", "${oc.env:HOME}", "${", "[(9,9,9)] * 64", "gelu", "fbank"]
    ),
    st.lists(st.integers(-1, 10**6), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@fuzzed
@given(data=st.data())
def test_values_of_a_checkpoints_configs(folder, hubert, data):
    state = dict(hubert[1])
    configs = {part: dict(state["cfg"][part]) for part in ("model", "task", "common")}
    for _ in range(data.draw(st.integers(1, 3))):
        part = data.draw(st.sampled_from(["model", "model", "task"]))
        configs[part][data.draw(st.sampled_from(sorted(configs[part])))] = data.draw(ODD)
    state["cfg"] = configs
    path = str(folder / "config.pt")
    torch.save(state, path)
    with only_our_errors():
        load_student(path)


@fuzzed
@given(
    depth=st.integers(1, 300),
    twice=st.booleans(),
    size=st.sampled_from([(10**6, 10**6), (10**12,), (2, 3)]),
    on=st.text(),
)
def test_containers_and_weights_that_grow(folder, hubert, depth, twice, size, on):
    """Lists that hold lists that hold lists, and weights of one number that claim to be of many."""
    state, nested = dict(hubert[1]), [1]
    for _ in range(depth):
        nested = [nested, nested] if twice else [nested]
    model = {**state["cfg"]["model"], "latent_temp": nested, on: nested}
    state["cfg"] = {**state["cfg"], "model": model}
    state["model"] = {**state["model"], "final_proj.weight": torch.zeros(1).expand(size)}
    torch.save(state, str(folder / "grown.pt"))
    with only_our_errors(), pytest.raises(CheckpointError):
        load_student(str(folder / "grown.pt"))


def test_an_archive_that_unpacks_to_more(folder, hubert):
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(hubert[0])) as source, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, bytes(10**7) if "/data/" in entry.filename else source.read(entry))
    with pytest.raises(CheckpointError, match="compressed or encrypted, which torch.save never does"):
        load(write(folder, "bomb.pt", made.getvalue()))


LINES = st.lists(
    st.one_of(
        st.text(max_size=20),
        st.tuples(st.text(max_size=10), st.integers(-5, 10**20)).map(lambda pair: f"{pair[0]}\t{pair[1]}"),
        st.tuples(st.text(max_size=10), st.integers(-5, 10**20)).map(lambda pair: f"{pair[0]} {pair[1]}"),
        st.sampled_from(
            ["a.wav\t16000", "0 1", "/tmp", "9" * 5000, "a\t" + "9" * 5000, "../../etc/passwd\t1", "\0\t1"]
        ),
    ),
    max_size=6,
).map(lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass"))
TEXTS = st.one_of(LINES, st.binary(max_size=200), LINES.map(lambda text: b"/tmp\n" + text))


@fuzzed
@given(content=TEXTS)
def test_manifests(folder, content):
    with only_our_errors():
        read_manifest(write(folder, "train.tsv", content))


@fuzzed
@given(content=TEXTS)
def test_dictionaries(folder, content):
    with only_our_errors():
        read_dictionary(write(folder, "dict.km.txt", content))


@fuzzed
@given(content=TEXTS, size=st.integers(0, 10**15))
def test_frame_labels(folder, content, size):
    path = write(folder, "train.km", content)
    count = max(1, content.count(b"\n"))
    manifest = Manifest("train.tsv", "/tmp", ["a.wav"] * count, [size] * count)
    with only_our_errors():
        check_labels(manifest, path)
        check_frame_labels(manifest, path, dictionary(range(3)), 16000, 50.0)


@fuzzed
@given(content=TEXTS)
def test_transcripts(folder, content):
    with only_our_errors():
        read_files([write(folder, "train.trans.txt", content)], [])


@fuzzed
@given(content=st.one_of(TEXTS, st.text().map(lambda text: f'path,text\n"{text}'.encode("utf-8", "surrogatepass"))))
@pytest.mark.parametrize("ext", ["csv", "jsonl"])
def test_tables(folder, ext, content):
    with only_our_errors():
        read_table(write(folder, f"train.{ext}", content), ["path", "text"], None)


@fuzzed
@given(changes=CHANGES, kind=st.sampled_from(["float32", "float64", "object"]))
def test_cluster_centres(folder, changes, kind):
    made = io.BytesIO()
    np.save(made, np.ones((3, 4), kind), allow_pickle=True)
    with only_our_errors():
        read_centres(write(folder, "kmeans.npy", mutated(made.getvalue(), changes)))


@fuzzed
@given(
    content=st.one_of(
        TEXTS,
        st.recursive(
            st.one_of(st.none(), st.floats(), st.text(max_size=5)), lambda inner: st.lists(inner, max_size=3)
        ).map(lambda value: str({"mean": value, "std": value}).replace("'", '"').encode("utf-8", "surrogatepass")),
        st.integers(1, 200000).map(lambda depth: b"[" * depth),
    )
)
def test_fbank_statistics(folder, content):
    with only_our_errors():
        read_stats(write(folder, "fbank.json", content), KaldiFbank().options, 80)
