"""Audio and text that a stranger could have made: each command tells of it in one line, waits for nothing, takes no
memory, and pairs no audio with another's words."""

import gzip
import os
import sys

import numpy as np
import pytest
import soundfile
import torch

from distill_user_dir import profile, results, slim
from distill_user_dir.checkpoints.loading import load
from distill_user_dir.data.arrays import read_centres
from distill_user_dir.data.audio import num_samples
from distill_user_dir.data.fbank_stats import read_stats
from distill_user_dir.data.manifest import check_labels, read_manifest
from distill_user_dir.decoding.lexicon import check_lexicon
from distill_user_dir.modules.fbank import KaldiFbank
from distill_user_dir.student import load_student
from manifests import (
    check,
    corpus,
    fbank_stats,
    features,
    kmeans,
    letters,
    lexicon,
    sentencepieces,
    subset,
    tsv,
)
from tests.own_process import MEGABYTES, SECONDS, command

CASES = {}


def refused(name, *told):
    """A case: `make(folder)` prepares it and returns a call, which is refused in a line that holds `told`."""

    def keep(make):
        assert name not in CASES, name
        CASES[name] = make, told
        return make

    return keep


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))
    return str(path)


def pipe(folder, name):
    os.mkfifo(folder / name)
    return str(folder / name)


def wav(folder, name, samples=8000, rate=16000):
    soundfile.write(str(folder / name), np.random.RandomState(0).uniform(-0.3, 0.3, samples), rate, "PCM_16")
    return str(folder / name)


def manifest(folder, name, samples):
    return write(folder, "train.tsv", f"{folder}\n{name}\t{samples}\n")


def silence(folder, seconds, rate=16000):
    """A FLAC of zeros: a few bytes a second."""
    path = str(folder / "long.flac")
    with soundfile.SoundFile(path, "w", rate, 1, "PCM_16", format="FLAC") as file:
        for _ in range(seconds):
            file.write(np.zeros(rate, dtype=np.int16))
    return path


# what reads the audio of a manifest, as a function of its folder
READERS = {
    "check": lambda folder: command(check.main, folder),
    "features": lambda folder: command(features.main, folder, "train", folder / "out"),
    "fbank_stats": lambda folder: command(fbank_stats.main, folder, "train", "--workers", 1),
}
AUDIO = {
    "a pipe": (lambda folder: (pipe(folder, "a.wav"), manifest(folder, "a.wav", 8000)), "a.wav: no such file"),
    "no audio": (lambda folder: manifest(folder, "a.wav", 8000), "a.wav: no such file"),
    "a device": (
        lambda folder: (os.symlink("/dev/zero", folder / "a.wav"), manifest(folder, "a.wav", 8000)),
        "no such",
    ),
    "82 minutes in 250 KB": (
        lambda folder: (silence(folder, 4920), manifest(folder, "long.flac", 4920 * 16000)),
        "4920 s by its header, and 1200 s are the most",
    ),
    "a name with an escape code": (lambda folder: manifest(folder, "\x1b[31ma.wav", 8000), "\\x1b[31ma.wav: no such"),
    "a slice beyond its .zip": (
        lambda folder: (write(folder, "a.zip", b"PK"), manifest(folder, "a.zip:0:999", 8000)),
        "beyond the end of the .zip",
    ),
}
for reader, read in READERS.items():
    for kind, (make, told) in AUDIO.items():

        @refused(f"{reader}: {kind}", told)
        def _(folder, make=make, read=read):
            make(folder)
            return lambda: read(folder)


@refused("corpus: a pipe as audio", "errors in 1 utterances")
def _(folder):
    pipe(folder, "a.wav")
    table = write(folder, "t.csv", "path,text\na.wav,A\n")
    return lambda: command(corpus.main, table, "--dest", folder / "data")


@refused("corpus: a pipe to resample", "errors in 1 utterances")
def _(folder):
    pipe(folder, "a.wav")
    table = write(folder, "t.csv", "path,text\na.wav,A\n")
    return lambda: command(corpus.main, table, "--dest", folder / "data", "--resample", folder / "wav")


RATES = {"1 Hz": 1, "3 Hz": 3, "2 GHz": 2**31 - 1, "383,999 Hz": 383_999}
for told, hertz in RATES.items():

    @refused(f"corpus: {told} to resample", "errors in 1 utterances")
    def _(folder, hertz=hertz):
        header = bytearray(open(wav(folder, "a.wav", 1000), "rb").read())
        header[24:28] = hertz.to_bytes(4, "little")
        write(folder, "a.wav", bytes(header))
        table = write(folder, "t.csv", "path,text\na.wav,A\n")
        return lambda: command(corpus.main, table, "--dest", folder / "data", "--resample", folder / "wav")


@refused("corpus: 82 minutes to resample", "errors in 1 utterances")
def _(folder):
    silence(folder, 4920, 8000)
    table = write(folder, "t.csv", "path,text\nlong.flac,A\n")
    return lambda: command(corpus.main, table, "--dest", folder / "data", "--resample", folder / "wav")


@refused("tsv: a FLAC whose header says 2^36 samples", "1 of 1 files refused")
def _(folder):
    (folder / "audio").mkdir()
    path = folder / "audio" / "a.flac"
    soundfile.write(str(path), np.zeros(5000), 16000, "PCM_16")
    content = bytearray(path.read_bytes())
    content[21] |= 0x0F
    content[22:26] = b"\xff" * 4
    path.write_bytes(content)
    return lambda: command(tsv.main, folder / "audio", "--dest", folder / "data")


@refused("tsv: a name with a carriage return", "1 of 2 files refused")
def _(folder):
    (folder / "audio").mkdir()
    wav(folder, "audio/a\rb.wav"), wav(folder, "audio/c.wav")
    return lambda: command(tsv.main, folder / "audio", "--dest", folder / "data")


@refused("tsv: a name that is no UTF-8", "1 of 1 files refused")
def _(folder):
    (folder / "audio").mkdir()
    os.rename(wav(folder, "audio/a.wav"), os.fsencode(str(folder / "audio")) + b"/\xff.wav")
    return lambda: command(tsv.main, folder / "audio", "--dest", folder / "data")


# --- options


for option in ("--length 1e7", "--length 0", "--shift 0", "--shift 1e9", "--bins 0", "--bins -3", "--bins 1000000000"):

    @refused(f"fbank_stats {option}", "expected a number above 0")
    def _(folder, option=option):
        wav(folder, "a.wav"), manifest(folder, "a.wav", 8000)
        return lambda: command(fbank_stats.main, folder, "train", "--workers", 1, *option.split())


for option, told in {
    "--seconds 0": "expected a number above 0",
    "--seconds 0.001": "less than one frame",
    "--batch 0": "expected a number above 0",
    "--rounds -1": "expected a number above 0",
    "--device cuda:77": "--device cuda:77: not there",
    "--device none": "--device none: not there",
}.items():

    @refused(f"profile {option}", told)
    def _(folder, option=option):
        return lambda: command(profile.main, *option.split())


@refused("features --device cuda:77", "--device cuda:77: not there")
def _(folder):
    wav(folder, "a.wav"), manifest(folder, "a.wav", 8000)
    hubert = ["--feature", "hubert", "--checkpoint", "none.pt", "--layer", 1, "--device", "cuda:77"]
    return lambda: command(features.main, folder, "train", folder / "out", *hubert)


# --- packages that are not there


def without(module, call):
    """The call as it is where a package is not installed."""

    def run():
        for name in [name for name in sys.modules if name == module or name.startswith(f"{module}.")]:
            del sys.modules[name]
        sys.modules[module] = None
        call()

    return run


def a_wav(folder):
    wav(folder, "a.wav"), manifest(folder, "a.wav", 8000)
    write(folder, "train.wrd", "A\n"), write(folder, "t.csv", "path,text\na.wav,A\n")
    write(folder, "dict.ltr.txt", "A 1\n| 1\n")


EXTRAS = {
    "matplotlib": lambda folder: command(check.main, folder),
    "kaldi_native_fbank": lambda folder: command(features.main, folder, "train", folder / "out"),
    "npy_append_array": lambda folder: command(features.main, folder, "train", folder / "out"),
    "scipy": lambda folder: command(corpus.main, folder / "t.csv", "--dest", folder / "d", "--resample", folder / "w"),
    "sentencepiece": lambda folder: command(sentencepieces.main, folder, "--learn", "train", "--size", 5),
    "sklearn": lambda folder: command(kmeans.main, folder, "--clusters", 2),
}
for package, run in EXTRAS.items():

    @refused(f"without {package}", f"{package}", "is needed", "pip install")
    def _(folder, package=package, run=run):
        a_wav(folder)
        return without(package, lambda: run(folder))


@refused("profile --plot without matplotlib", "matplotlib is needed")
def _(folder):
    return without("matplotlib", lambda: command(profile.main, "--plot", folder / "p.png"))


# --- text


LATIN = "THÉ".encode("latin-1") + b"\tT H E |\n"


@refused("a lexicon in Latin-1", "x.txt: no UTF-8 text behind line 0")
def _(folder):
    write(folder, "dict.ltr.txt", "T 1\n| 1\n")
    return lambda: check_lexicon(write(folder, "x.txt", LATIN), str(folder / "dict.ltr.txt"))


@refused("words in Latin-1", "x.txt: no UTF-8 text")
def _(folder):
    units = write(folder, "dict.ltr.txt", "T 1\n| 1\n")
    words = write(folder, "x.txt", LATIN)
    return lambda: command(lexicon.main, units, "--dest", folder / "out", "--words", words)


@refused("an ARPA file in Latin-1", "x.arpa: no UTF-8 text")
def _(folder):
    units = write(folder, "dict.ltr.txt", "T 1\n| 1\n")
    arpa = write(folder, "x.arpa", b"\\data\\\n\\1-grams:\n-1\t" + LATIN)
    return lambda: command(lexicon.main, units, "--dest", folder / "out", "--arpa", arpa)


@refused("a .wrd in Latin-1", "train.wrd: no UTF-8 text")
def _(folder):
    write(folder, "train.wrd", LATIN)
    return lambda: command(sentencepieces.main, folder, "--learn", "train", "--size", 5)


def arpa(folder, content):
    units = write(folder, "dict.ltr.txt", "T 1\n| 1\n")
    write(folder, "x.arpa.gz", content)
    return lambda: command(lexicon.main, units, "--dest", folder / "out", "--arpa", folder / "x.arpa.gz")


@refused("an .arpa.gz of one line of 200 MB", "x.arpa.gz:1: a line of more than")
def _(folder):
    return arpa(folder, gzip.compress(b"a" * 200_000_000, 1))


@refused("an .arpa.gz that is cut", "x.arpa.gz: damaged or cut")
def _(folder):
    return arpa(folder, gzip.compress(b"\\data\\\n" * 10000)[:-20])


@refused("an .arpa.gz with a bit flipped", "x.arpa.gz: damaged or cut")
def _(folder):
    content = bytearray(gzip.compress(os.urandom(3000)))
    content[len(content) // 2] ^= 1
    content[-6] ^= 1
    return arpa(folder, bytes(gzip.compress(b"x\n" * 100)[:30]) + bytes(content[30:]))


@refused("an .arpa.gz that is none", "x.arpa.gz: damaged or cut")
def _(folder):
    return arpa(folder, b"no gzip")


@refused("pipe: a manifest", "train.tsv: no such manifest")
def _(folder):
    return lambda: read_manifest(pipe(folder, "train.tsv"))


@refused("pipe: transcripts", "t.txt: no file but a device or pipe")
def _(folder):
    wav(folder, "a.wav"), manifest(folder, "a.wav", 8000)
    return lambda: command(letters.main, folder / "train.tsv", "--transcripts", pipe(folder, "t.txt"))


@refused("pipe: words", "x.txt: no file but a device or pipe")
def _(folder):
    units = write(folder, "dict.ltr.txt", "T 1\n| 1\n")
    return lambda: command(lexicon.main, units, "--dest", folder / "o", "--words", pipe(folder, "x.txt"))


@refused("pipe: a table", "t.jsonl: no file but a device or pipe")
def _(folder):
    return lambda: command(corpus.main, pipe(folder, "t.jsonl"), "--dest", folder / "data")


@refused("pipe: statistics", "no file but a device or pipe")
def _(folder):
    return lambda: read_stats(pipe(folder, "fbank.json"), KaldiFbank().options, 80)


@refused("pipe: results", "no file but a device or pipe")
def _(folder):
    pipe(folder, "wer.json")
    return lambda: command(results.main, folder)


@refused("pipe: a structure", "no file but a device or pipe")
def _(folder):
    return lambda: command(profile.main, pipe(folder, "x.yaml"))


@refused("pipe: cluster centres", "no file but a device or pipe")
def _(folder):
    return lambda: read_centres(pipe(folder, "kmeans.npy"))


@refused("labels with the line ends of Windows", "train.ltr:1: a carriage return")
def _(folder):
    wav(folder, "a.wav")
    path = manifest(folder, "a.wav", 8000)
    return lambda: check_labels(read_manifest(path), write(folder, "train.ltr", "A |\r\n"))


@refused("a table with escape codes and line ends in a path", "errors in 2 utterances")
def _(folder):
    rows = '{"path": "a\\n\\u001b[2Jb.wav", "text": "A"}\n' * 2
    return lambda: command(corpus.main, write(folder, "t.jsonl", rows), "--dest", folder / "data")


@refused("a manifest with a line of a megabyte", "train.tsv:2: expected `name<TAB>samples`, found 'xxx")
def _(folder):
    return lambda: read_manifest(write(folder, "train.tsv", f"{folder}\n" + "x" * 10**6 + "\n"))


# --- arrays


@refused("cluster centres with a NaN", "kmeans.npy: no cluster centres, or some that are not finite")
def _(folder):
    np.save(str(folder / "kmeans.npy"), np.full((2, 3), np.nan, dtype=np.float32))
    return lambda: read_centres(str(folder / "kmeans.npy"))


def shard(folder, lengths, frames=4, value=1.0):
    np.save(str(folder / "train_0_1.npy"), np.full((frames, 3), value, dtype=np.float32))
    np.save(str(folder / "kmeans.npy"), np.ones((2, 3), dtype=np.float32))
    write(folder, "train_0_1.len", lengths)
    return lambda: command(kmeans.main, folder, "--splits", "train", "--known", "--dest", folder)


for told, lengths in {"negative": "-4\n8\n", "text": "four\n", "empty": "\n4\n", "huge": "9" * 4000 + "\n"}.items():

    @refused(f"lengths: {told}", "train_0_1.len:1: no count of frames")
    def _(folder, lengths=lengths):
        return shard(folder, lengths)


@refused("lengths of more frames than there are", "train_0_1.npy: (4, 3), expected (9, 3)")
def _(folder):
    return shard(folder, "9\n")


@refused("features with a NaN", "features that are not finite")
def _(folder):
    return shard(folder, "4\n", value=np.nan)


@refused("features that are no array", "train_0_1.npy: no features")
def _(folder):
    call = shard(folder, "4\n")
    write(folder, "train_0_1.npy", b"no array")
    return call


# --- students


@refused("slim: the checkpoint itself", "the checkpoint itself, which would lose")
def _(folder):
    return lambda: command(slim.main, folder / "model.pt", folder / "model.pt")


@refused("slim: a link to the checkpoint itself", "the checkpoint itself, which would lose")
def _(folder):
    os.symlink("model.pt", folder / "link.pt")
    return lambda: command(slim.main, folder / "model.pt", folder / "link.pt")


@refused("slim: a weight of another shape", "weights of another shape, the first `encoder.layer_norm.bias`")
def _(folder):
    state = torch.load(str(folder / "model.pt"))
    state["model"]["encoder.layer_norm.bias"] = torch.zeros(7)
    torch.save(state, str(folder / "other.pt"))
    return lambda: command(slim.main, folder / "other.pt", folder / "out.pt")


@refused("slim: no file", "none.pt: no such file")
def _(folder):
    return lambda: command(slim.main, folder / "none.pt", folder / "out.pt")


@refused("slim: a folder that is not there", "No such file")
def _(folder):
    return lambda: command(slim.main, folder / "model.pt", folder / "none" / "out.pt")


for told, lengths in {"beyond": [9000, 8001], "too few": [8000], "none": [0, 8000], "negative": [-1, 8000]}.items():

    @refused(f"transcribe: lengths {told}", "samples")
    def _(folder, lengths=lengths):
        student = load_student(str(folder / "model.pt"))
        return lambda: student(torch.zeros(2, 8000), torch.tensor(lengths))


# --- what is cut, and what is read wrongly by those that are not strict


@refused("check: a WAV that is cut", "a.wav: cut, 8000 bytes of its samples are missing")
def _(folder):
    content = open(wav(folder, "a.wav", 8000), "rb").read()
    write(folder, "a.wav", content[:-8000])
    manifest(folder, "a.wav", 4000)
    return lambda: command(check.main, folder)


@refused("corpus: a name that a manifest cannot hold", "errors in 2 utterances")
def _(folder):
    (folder / "sp").mkdir()
    wav(folder, "sp/ x.wav"), wav(folder, "sp/x.wav")
    table = write(folder, "t.csv", "path,text\nsp/ x.wav,SPACE\nsp/x.wav,PLAIN\n")
    return lambda: command(corpus.main, table, "--dest", folder / "data")


TABLES = {
    "a quote that is left open": ('path,text\na.wav,"A\nb.wav,B\n', "a field of several lines"),
    "commas without quotes": ("path,text\na.wav,A, B\n", "t.csv:2: 3 fields, and the first line names 2"),
    "a column twice": ("path,text,text\na.wav,A,B\n", "t.csv:1: no column text"),
    "half a character": ('{"path": "a.wav", "text": "\\ud800"}\n', "errors in 1 utterances"),
    "an escape code": ('{"path": "a.wav", "text": "A \\u001b[2J"}\n', "errors in 1 utterances"),
}
for told, (content, line) in TABLES.items():

    @refused(f"corpus: {told}", line)
    def _(folder, content=content):
        wav(folder, "a.wav")
        table = write(folder, "t.csv" if content.startswith("path") else "t.jsonl", content)
        return lambda: command(corpus.main, table, "--dest", folder / "data")


ARPAS = {
    "cut in a word": (b"\\data\\\nngram 1=5\n\n\\1-grams:\n-1\tTT\n-1\tT", "cut behind 2 unigrams"),
    "of another count": (b"\\data\\\nngram 1=5\n\n\\1-grams:\n-1\tTT\n\n\\end\\\n", "1 unigrams, and its head says 5"),
    "with white space in a word": (
        "\\data\\\nngram 1=1\n\n\\1-grams:\n-1\tT\u00a0T\n\n\\end\\\n".encode(),
        "1 of 1 words have no spelling",
    ),
}
for told, (content, line) in ARPAS.items():

    @refused(f"an ARPA file {told}", line)
    def _(folder, content=content):
        return arpa(folder, gzip.compress(content))


@refused("a manifest with a byte order mark", "train.tsv: it begins with a byte order mark")
def _(folder):
    return lambda: read_manifest(write(folder, "train.tsv", f"\ufeff{folder}\na.wav\t8000\n"))


@refused("an empty sentencepiece model", "spm.model: no sentencepiece model but an empty file")
def _(folder):
    write(folder, "spm.model", ""), write(folder, "train.wrd", "A\n")
    return lambda: command(sentencepieces.main, folder)


KMEANS = {
    "--clusters 0": "--clusters 0: expected 1 to 4",
    "--clusters 5": "--clusters 5: expected 1 to 4",
    "--clusters 2 --percent 2": "--percent 2: expected a share",
    "--clusters 2 --percent nan": "--percent nan: expected a share",
    "--clusters 2 --seed -1": "--seed -1",
    "--clusters 2 --threads 0": "--threads 0",
    "--clusters 2 --nshard 0": "--nshard 0: expected 1 or more",
    "--known --label ../km": "--label '../km': expected letters, digits and _",
    "--known --label tsv": "--label 'tsv': expected letters, digits and _, as in km4; none of tsv",
}
for options, line in KMEANS.items():

    @refused(f"kmeans {options}", line)
    def _(folder, options=options):
        shard(folder, "4\n")
        return lambda: command(kmeans.main, folder, "--splits", "train", "--dest", folder, *options.split())


@refused("kmeans --join: labels that are none", "utterance 2 of train has labels that are none of 2")
def _(folder):
    shard(folder, "4\n")
    write(folder, "train_0_1.km", "0 1\n0 x\n")
    return lambda: command(kmeans.main, folder, "--splits", "train", "--join", "--dest", folder)


WHOLE = '{"wer": 1, "cer": 1, "rtf": 0.1, "utterances": 4, "wer_interval": [0, 2]}'
RESULTS = {
    "NaN": WHOLE.replace('"wer": 1', '"wer": NaN'),
    "negative": WHOLE.replace("0.1", "-0.1"),
    "of 400 digits": WHOLE.replace('"wer": 1', f'"wer": {"9" * 401}'),
    "half an utterance": WHOLE.replace("4,", "4.5,"),
    "nested": "[" * 100_000,
}
for told, content in RESULTS.items():

    @refused(f"results: {told}", "wer.json: no")
    def _(folder, content=content):
        write(folder, "wer.json", content)
        return lambda: command(results.main, folder)


@refused("results: a file for a folder", "no JSON")
def _(folder):
    return lambda: command(results.main, write(folder, "a.txt", ""))


STRUCTURES = {"a number": "model: 5\n", "text": "x\n", "nested": "a: " + "[" * 5000, "in itself": "a: &a [*a]\n"}
for told, content in STRUCTURES.items():

    @refused(f"profile: a structure that is {told}", "no structure of a student")
    def _(folder, content=content):
        return lambda: command(profile.main, write(folder, "x.yaml", content))


for options, line in {
    "check --label-rate inf": "--label-rate inf",
    "check --sample-rate 0": "--sample-rate 0",
    "subset --share nan": "--share nan",
    "profile --seconds inf": "--seconds inf",
    "profile --json none/x.json": "none/x.json: there is no such folder",
}.items():

    @refused(options, line)
    def _(folder, options=options):
        a_wav(folder)
        tool, *given = options.split()
        arguments = {"check": [folder], "subset": [folder, "train", "part"], "profile": []}[tool]
        main = {"check": check.main, "subset": subset.main, "profile": profile.main}[tool]
        return lambda: command(main, *arguments, *given)


@pytest.mark.parametrize("name", CASES)
def test_refused(checkpoints, tmp_path, in_its_own_process, name):
    os.symlink(checkpoints("tiny"), tmp_path / "model.pt")
    make, told = CASES[name]
    outcome = in_its_own_process(make(tmp_path))
    assert outcome.kind in ("SystemExit", "ValueError", "AudioError", "CheckpointError"), outcome
    assert all(part in outcome.text for part in told), outcome
    assert outcome.text.isprintable() and len(outcome.text) < 1000, outcome
    assert outcome.seconds < SECONDS and outcome.megabytes < MEGABYTES, outcome
    assert load(checkpoints("tiny"))["optimizer_history"]  # as it was


# --- honest data that is easily read wrongly


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFF000, 0x80000000])
def test_a_wav_that_was_written_to_a_pipe(tmp_path, length):
    """Its header cannot tell how long it is."""
    content = bytearray(open(wav(tmp_path, "a.wav", 8000), "rb").read())
    content[40:44] = length.to_bytes(4, "little")
    assert num_samples(write(tmp_path, "a.wav", bytes(content))) == 8000


LINE_ENDS = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"]


@pytest.mark.parametrize("end", LINE_ENDS, ids=[f"U+{ord(end):04X}" for end in LINE_ENDS])
def test_only_line_ends_end_lines(tmp_path, end):
    """Python's splitlines knows eight more of them: with it, a subset has the words of its neighbours."""
    names = [f"a{i}{end}b.wav" if i == 1 else f"a{i}.wav" for i in range(4)]
    write(tmp_path, "train.tsv", f"{tmp_path}\n" + "".join(f"{name}\t8000\n" for name in names))
    words = [f"ONE{end}TWO" if i == 1 else f"NUMBER {i}" for i in range(4)]
    write(tmp_path, "train.wrd", "".join(f"{word}\n" for word in words))
    write(tmp_path, "train.km", "".join(f"{i} {i}\n" for i in range(4)))
    command(subset.main, tmp_path, "train", "part", "--utterances", 3, "--seed", 5)
    listed = (tmp_path / "part.tsv").read_text(encoding="utf-8").split("\n")[1:-1]
    spoken = (tmp_path / "part.wrd").read_text(encoding="utf-8").split("\n")[:-1]
    labels = (tmp_path / "part.km").read_text(encoding="utf-8").split("\n")[:-1]
    assert len(listed) == len(spoken) == len(labels) == 3
    for line, word, label in zip(listed, spoken, labels):
        number = names.index(line.split("\t")[0])
        assert word == words[number] and label == f"{number} {number}"


@pytest.mark.parametrize("tool", ["tsv", "corpus"])
def test_folders_that_hold_links_to_themselves(tmp_path, tool, in_its_own_process):
    audio = tmp_path / "audio"
    (audio / "deep" / "er").mkdir(parents=True)
    wav(audio, "a.wav"), wav(audio, "deep/er/b.wav")
    for place in ("loop", "deep/loop", "deep/er/loop"):
        (audio / place).symlink_to(audio, target_is_directory=True)
    (audio / "again").symlink_to(audio / "deep" / "er", target_is_directory=True)
    for level in range(30):  # 2^30 ways to the last of them
        (audio / "maze" / str(level)).mkdir(parents=True)
        for way in "ab":
            (audio / "maze" / str(level) / way).symlink_to(audio / "maze" / str(level + 1), target_is_directory=True)
    write(audio, "all.trans.txt", "a A\nb B\n")
    main, options = (tsv.main, []) if tool == "tsv" else (corpus.main, ["--skip-bad"])
    outcome = in_its_own_process(lambda: command(main, audio, "--dest", tmp_path / "data", *options))
    assert outcome.kind == "none" and outcome.seconds < SECONDS, outcome
    assert "a.wav\t8000" in (tmp_path / "data" / "train.tsv").read_text()
    assert (tmp_path / "data" / "train.tsv").read_text().count("b.wav\t8000") == 1  # once, whatever leads to it
