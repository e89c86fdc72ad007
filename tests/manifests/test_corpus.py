"""Folders, CSV and JSON-lines files; other sample rates; and everything that can be wrong with them."""

import json

import numpy as np
import pytest
import soundfile

from manifests import corpus, resample
from tests.manifests.conftest import write_audio

TEXTS = {"a/one": "The cat.", "a/two": "It's a  dog", "b/three": "no", "four": "A hat, a cat"}
WORDS = ["THE CAT", "IT'S A DOG", "NO", "A HAT A CAT"]


@pytest.fixture
def audio(tmp_path):
    for seed, name in enumerate(TEXTS):
        write_audio(str(tmp_path / "audio" / f"{name}.wav"), samples=800 + 160 * seed, seed=seed)
    return tmp_path / "audio"


def run(*arguments):
    return corpus.main([str(argument) for argument in arguments])


def read(path):
    return path.read_text().splitlines()


def write_csv(path, rows, header="path,text"):
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def as_csv(audio, path):
    return write_csv(path, [f'audio/{name}.wav,"{text}"' for name, text in TEXTS.items()])


def as_json(audio, path):
    lines = [json.dumps({"text": text, "audio_filepath": f"{name}.wav"}) for name, text in TEXTS.items()]
    path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    return path


CLEAN = ["--upper", "--remove", ".,"]


def test_a_folder_a_csv_and_json_lines_give_the_same(audio, tmp_path, capsys):
    transcripts = tmp_path / "all.txt"
    transcripts.write_text("".join(f"{name.split('/')[-1]} {text}\n" for name, text in TEXTS.items()))
    sources = {
        "folder": [audio, "--transcripts", transcripts],
        "csv": [as_csv(audio, tmp_path / "all.csv")],
        "json": [as_json(audio, tmp_path / "all.jsonl"), "--audio", audio, "--columns", "audio_filepath", "text"],
    }
    for name, arguments in sources.items():
        assert run(*arguments, "--dest", tmp_path / name, "--name", "dev", *CLEAN) == 0
        assert capsys.readouterr().out == "dev: 4 utterances, 0.00 h, 10 words\n"
        assert read(tmp_path / name / "dev.tsv")[0] == str(audio)
    assert read(tmp_path / "csv" / "dev.wrd") == WORDS
    assert read(tmp_path / "csv" / "dev.tsv")[1:] == [f"{n}.wav\t{800 + 160 * i}" for i, n in enumerate(TEXTS)]
    assert read(tmp_path / "csv" / "dev.ltr")[0] == "T H E | C A T |"
    for ending in ("tsv", "ltr", "wrd"):
        assert read(tmp_path / "csv" / f"dev.{ending}") == read(tmp_path / "json" / f"dev.{ending}")
        assert sorted(read(tmp_path / "folder" / f"dev.{ending}")) == sorted(read(tmp_path / "csv" / f"dev.{ending}"))


def test_splits_share_the_first_ones_dictionary(audio, tmp_path, capsys):
    table, data = as_csv(audio, tmp_path / "all.csv"), tmp_path / "data"
    assert run(table, "--dest", data, *CLEAN) == 0
    symbols, inode = read(data / "dict.ltr.txt"), (data / "dict.ltr.txt").stat().st_ino
    assert run(write_csv(tmp_path / "dev.csv", ["audio/four.wav,A CAT"]), "--dest", data, "--name", "dev") == 0
    assert read(data / "dict.ltr.txt") == symbols
    assert (data / "dict.ltr.txt").stat().st_ino == inode  # not written again: two calls may run side by side
    foreign = write_csv(tmp_path / "x.csv", ["audio/four.wav,A ZÖO", "audio/a/one.wav,A CAT"])
    assert run(foreign, "--dest", data, "--name", "x") == 1
    assert (
        f"{foreign}:2: 'Ö' not in {data / 'dict.ltr.txt'}" in capsys.readouterr().err and not (data / "x.tsv").exists()
    )
    assert run(foreign, "--dest", data, "--name", "x", "--skip-bad") == 0
    assert read(data / "x.wrd") == ["A CAT"] and "1 errors in 2 utterances, left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    "rows, options, expected",
    [
        (["audio/none.wav,A"], [], "none.wav: no such file"),
        (["audio/four.wav,A", "audio/./four.wav,B"], [], "all.csv:3: 'audio/./four.wav' is at"),
        (["audio/four.wav,"], [], "all.csv:2: the transcript of four.wav is empty"),
        (['audio/four.wav," .,"'], CLEAN, "all.csv:2: the transcript of four.wav is empty"),
        (["audio/four.wav"], [], "all.csv:2: no text in this row"),
        ([",A"], [], "all.csv:2: no path in this row"),
        (["audio/four.wav,A|B"], [], "all.csv:2: '|' stands for a space"),
        (["audio/four.wav,A BÉ"], ["--characters", "AB"], "all.csv:2: É not among --characters"),
        (["all.csv,A"], [], "all.csv: not readable as audio"),
    ],
)
def test_bad_rows_are_named(audio, tmp_path, capsys, rows, options, expected):
    table = write_csv(tmp_path / "all.csv", [*rows, "audio/a/one.wav,THE END"])
    assert (
        run(table, "--dest", tmp_path / "data", *options, *(["--characters", "ABDEHNT|"] if not options else [])) == 1
    )
    told = capsys.readouterr().err
    assert expected in told and "nothing written; --skip-bad leaves them out" in told
    assert not (tmp_path / "data").exists()


def test_skipping_leaves_out_and_counts(audio, tmp_path, capsys):
    table = write_csv(tmp_path / "all.csv", ["audio/none.wav,A", "audio/a/one.wav,THE END", "audio/four.wav,"])
    assert run(table, "--dest", tmp_path / "data", "--skip-bad") == 0
    assert "2 errors in 3 utterances, left out" in capsys.readouterr().err
    assert read(tmp_path / "data" / "train.wrd") == ["THE END"]


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("x.csv", "file,words\na,b\n", "x.csv:1: no column path, text but 'file, words'; name them: --columns"),
        ("x.csv", "", "x.csv:1: no column path, text but nothing"),
        ("x.jsonl", '{"path": "a.wav", "text": "A"}\n{"path"\n', "x.jsonl:2: no JSON"),
        ("x.jsonl", "[1]\n", "x.jsonl:1: no JSON object with path and text"),
        ("x.jsonl", '{"path": "a.wav"}\n', "x.jsonl:1: no text in this row"),
    ],
)
def test_bad_tables_are_named(tmp_path, capsys, name, content, expected):
    (tmp_path / name).write_text(content)
    assert run(tmp_path / name, "--dest", tmp_path / "data") == 1
    assert expected in capsys.readouterr().err


def test_other_rates_are_refused_or_resampled(audio, tmp_path, capsys):
    write_audio(str(audio / "four.wav"), samples=4410, rate=44100, channels=2)
    table = as_csv(audio, tmp_path / "all.csv")
    assert run(table, "--dest", tmp_path / "data", *CLEAN) == 1
    assert "four.wav: 44100 Hz, expected 16000" in capsys.readouterr().err
    for _ in range(2):
        assert run(table, "--dest", tmp_path / "data", "--resample", tmp_path / "wav", *CLEAN) == 0
    made = list((tmp_path / "wav").rglob("*.flac"))
    assert len(made) == 1 and soundfile.info(str(made[0])).frames == 1600
    manifest = read(tmp_path / "data" / "train.tsv")
    assert manifest[0] == str(tmp_path) and manifest[4] == f"{made[0].relative_to(tmp_path)}\t1600"
    assert read(tmp_path / "data" / "train.wrd") == WORDS


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_resampling_keeps_what_is_below_8_khz_and_nothing_else(rate):
    """A tone comes out as the same tone at the new rate, written down; one that 16 kHz cannot hold is gone."""
    time, new = np.arange(rate) / rate, np.arange(16000) / 16000
    found = resample.resample(np.sin(2 * np.pi * 1000 * time) * 0.5, rate)
    assert len(found) == 16000
    assert np.abs(found - 0.5 * np.sin(2 * np.pi * 1000 * new))[400:-400].max() < 2e-3
    if rate > 24000:
        gone = resample.resample(np.sin(2 * np.pi * 11000 * time), rate)
        assert np.abs(gone[400:-400]).max() < 2e-3
    loud = resample.resample(np.sign(np.sin(2 * np.pi * 100 * time)), rate)
    assert loud.max() < 1 and loud.min() >= -1


def test_unreadable_audio_is_named_when_resampling(audio, tmp_path, capsys):
    (audio / "four.wav").write_bytes(b"no audio")
    table = as_csv(audio, tmp_path / "all.csv")
    assert run(table, "--dest", tmp_path / "data", "--resample", tmp_path / "wav", *CLEAN, "--skip-bad") == 0
    assert "four.wav: not readable as audio" in capsys.readouterr().err
    assert read(tmp_path / "data" / "train.wrd") == WORDS[:3]
