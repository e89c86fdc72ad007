"""A small LibriSpeech: real folder layout, flac, `.trans.txt`; and Libri-light's limited splits."""

import shutil

import pytest
import soundfile

from manifests import items, letters, librispeech, tsv
from tests.manifests.conftest import write_audio

TEXTS = ["THE CAT", "IT'S A DOG AND A CAT", "NO", "SEVEN SHEEP SLEEP", "ON", "A HAT"]


def write_tree(root, start=0, texts=TEXTS):
    """SPEAKER/CHAPTER/ID.flac, two utterances a chapter."""
    for index, text in enumerate(texts, start=start):
        speaker, chapter = 19 + index // 4, 7 + index // 2
        folder = root / str(speaker) / str(chapter)
        name = f"{speaker}-{chapter}-{index:04d}"
        write_audio(str(folder / f"{name}.flac"), samples=800 + 160 * index, seed=index)
        with open(folder / f"{speaker}-{chapter}.trans.txt", "a") as stream:
            stream.write(f"{name} {text}\n")


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "LibriSpeech"
    for start, split in enumerate(("train-clean-100", "train-clean-360", "dev-other")):
        write_tree(root / split, start=10 * start)
    return root


@pytest.fixture
def light(tmp_path):
    root = tmp_path / "librispeech_finetuning"
    for fold in range(6):
        write_tree(root / "1h" / str(fold) / "clean", start=100 + fold, texts=["THE CAT"])
    write_tree(root / "9h" / "other", start=200, texts=["A HAT", "NO DOG"])
    return root


def run(*arguments):
    return librispeech.main([str(argument) for argument in arguments])


def read(path):
    return path.read_text().splitlines()


def test_every_split_that_is_there_as_the_single_tools_write_them(tree, tmp_path, capsys):
    assert run(tree, "--dest", tmp_path / "data") == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in told] == ["train-clean-100", "train-clean-360", "dev-other"]
    assert "6 utterances" in told[0] and "15 words (LibriSpeech has 28539 utterances)" in told[0]
    for split in ("train-clean-100", "dev-other"):
        tsv.make_manifest(str(tree / split), str(tmp_path / "single"), split, progress=False)
        letters.write_labels(str(tmp_path / "single" / f"{split}.tsv"), str(tmp_path / "labels"), split)
        for ending in ("ltr", "wrd"):
            assert read(tmp_path / "data" / f"{split}.{ending}") == read(tmp_path / "labels" / f"{split}.{ending}")
        ours, theirs = (read(tmp_path / folder / f"{split}.tsv") for folder in ("data", "single"))
        assert ours[0] == str(tree) and ours[1:] == [f"{split}/{line}" for line in theirs[1:]]
    assert read(tmp_path / "data" / "dict.ltr.txt") == letters.LIBRISPEECH


def test_a_joined_split_is_the_training_splits_one_after_another(tree, tmp_path):
    data = tmp_path / "data"
    assert run(tree, "--dest", data, "--join", "train_960") == 0
    for ending, header in (("tsv", 1), ("ltr", 0), ("wrd", 0)):
        parts = [read(data / f"{split}.{ending}") for split in ("train-clean-100", "train-clean-360")]
        assert read(data / f"train_960.{ending}") == parts[0] + parts[1][header:]


def test_libri_light(tree, light, tmp_path):
    data = tmp_path / "data"
    assert run(tree, "--dest", data) == 0
    assert run(tree, "--dest", data, "--splits", "dev-other", "--limited", light, "--fold", 2) == 0
    names = {
        split: [line.split("\t")[0] for line in read(data / f"{split}.tsv")[1:]]
        for split in ("train_10m", "train_1h", "train_10h")
    }
    assert [name.split("/")[:2] for name in names["train_10m"]] == [["1h", "2"]]
    assert [name.split("/")[1] for name in names["train_1h"]] == list("012345")
    assert names["train_10h"][:6] == names["train_1h"] and len(names["train_10h"]) == 8
    assert read(data / "train_10h.tsv")[0] == str(light)


def test_libri_lights_transcripts_may_be_of_whole_chapters(light, tmp_path):
    path = next((light / "9h").rglob("*.trans.txt"))
    path.write_text(path.read_text() + "69-107-9999 AN UTTERANCE OF THE CHAPTER\n")
    splits = librispeech.limited(str(light), 0)
    assert librispeech.prepare(splits, str(tmp_path / "data"), items.Options(progress=False))


def test_a_dictionary_that_is_there_is_kept(tree, light, tmp_path, capsys):
    data = tmp_path / "data"
    assert run(tree, "--dest", data, "--splits", "train-clean-100") == 0
    before = read(data / "dict.ltr.txt")
    assert run(tree, "--dest", data, "--splits", "dev-other", "--limited", light) == 0
    assert read(data / "dict.ltr.txt") == before
    (tmp_path / "other.txt").write_text("A 1\n| 1\n")
    assert run(tree, "--dest", data, "--dict", tmp_path / "other.txt") == 1
    assert "not the same as" in capsys.readouterr().err
    assert run(tree, "--dest", tmp_path / "new", "--dict", tmp_path / "other.txt", "--splits", "dev-other") == 1
    told = capsys.readouterr().err
    assert "20-13-0024.flac" not in told and ".trans.txt:1: 'C E H T' not in " in told


def cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])


def damage(tree, kind):
    """Breaks the tree -> what has to be told."""
    flacs = sorted((tree / "dev-other").rglob("*.flac"))
    trans = sorted((tree / "dev-other").rglob("*.trans.txt"))
    if kind == "missing split":
        shutil.rmtree(tree / "dev-other")
        return "no folder dev-other"
    if kind == "missing audio":
        flacs[1].unlink()
        return f"{trans[0]}:2: {flacs[1].stem} has no audio"
    if kind == "missing transcript":
        trans[0].write_text(read(trans[0])[0] + "\n")
        return f"{flacs[1]}: no transcript {flacs[1].stem}"
    if kind == "empty transcript":
        trans[0].write_text(f"{read(trans[0])[0]}\n{flacs[1].stem}\n")
        return f"{trans[0]}:2: the transcript of {flacs[1].name} is empty"
    if kind == "twice":
        trans[0].write_text(trans[0].read_text() + f"{flacs[1].stem} AGAIN\n")
        return f"{trans[0]}:3: {flacs[1].stem} is at {trans[0]}:2 too"
    if kind == "rate":
        write_audio(str(flacs[1]), rate=8000)
        return f"{flacs[1]}: 8000 Hz, expected 16000"
    write_audio(str(flacs[1]), samples=30000)
    cut(flacs[1])
    return f"{flacs[1]}: "


@pytest.mark.parametrize(
    "kind", ["missing split", "missing audio", "missing transcript", "empty transcript", "twice", "rate", "cut"]
)
def test_bad_input_is_named_and_nothing_is_written(tree, tmp_path, capsys, kind):
    expected = damage(tree, kind)
    arguments = [tree, "--dest", tmp_path / "data", "--splits", "train-clean-100", "dev-other", "--decode"]
    assert run(*arguments) == 1
    assert expected in capsys.readouterr().err and not (tmp_path / "data").exists()
    if kind == "missing split":
        return
    assert run(*arguments, "--skip-bad") == 0
    streams = capsys.readouterr()
    assert expected in streams.err and "1 errors in 1" in streams.err and "left out" in streams.err
    kept = 6 if kind == "twice" else 5
    assert f"dev-other: {kept} utterances" in streams.out and len(read(tmp_path / "data" / "dev-other.wrd")) == kept


def test_a_cut_file_passes_for_its_header(tree, tmp_path):
    """Which is why there is --decode."""
    path = sorted((tree / "dev-other").rglob("*.flac"))[0]
    write_audio(str(path), samples=30000)
    cut(path)
    assert soundfile.info(str(path)).frames == 30000
    assert run(tree, "--dest", tmp_path / "data") == 0


def test_joining_needs_training_splits(tree, tmp_path, capsys):
    assert run(tree, "--dest", tmp_path, "--splits", "dev-other", "--join", "all") == 1
    assert "no training split among dev-other" in capsys.readouterr().err
    assert run(tmp_path / "nowhere", "--dest", tmp_path) == 1
    assert "none of train-clean-100" in capsys.readouterr().err
