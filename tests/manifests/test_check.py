"""A folder with one of everything that can be wrong, and one with nothing."""

import re

import numpy as np
import pytest
import soundfile

from manifests import check
from tests.helpers import write_corpus, write_labels


@pytest.fixture
def data(tmp_path):
    folder = write_corpus(tmp_path, {"train": [16000] * 8, "valid": [12000, 14000], "test": [12000] * 3})
    write_labels(folder, ["train", "valid"])
    return folder


def run(data, capsys, *options):
    status = check.main([str(data), *options])
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith(("error: ", "warning: "))]
    return status, out, lines


def path_of(data, split, number):
    return data / "wav" / split / f"{number:03d}.wav"


def rewrite(data, split, number, change, rate=16000):
    path = str(path_of(data, split, number))
    soundfile.write(path, change(soundfile.read(path)[0]), rate, "FLOAT")


def with_nan(audio):
    return np.concatenate([audio[:50], [np.nan], audio[51:]])


def edit(path, line, text):
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text("\n".join(lines) + "\n")


def test_a_good_folder_has_a_table_a_picture_and_status_0(data, capsys):
    status, out, lines = run(data, capsys)
    assert status == 0 and not lines and out.splitlines()[-1] == "0 errors, 0 warnings"
    cells = [line.split() for line in out.splitlines()[1:4]]
    assert cells[1] == ["train", "8", "0.00", "1.00", "1.00", "1.00", "0", "0"]
    assert [row[0] for row in cells] == ["test", "train", "valid"]
    assert cells[2][3:6] == ["0.75", "0.81", "0.88"]
    assert (data / "lengths.png").read_bytes().startswith(b"\x89PNG")


AUDIO = {
    "no such file": lambda data: path_of(data, "train", 0).unlink(),
    "not readable as audio": lambda data: path_of(data, "train", 0).write_bytes(b"no audio"),
    "8000 Hz, expected 16000": lambda data: rewrite(data, "train", 0, lambda audio: audio, 8000),
    "2 channels": lambda data: rewrite(data, "train", 0, lambda audio: np.stack([audio, audio], 1)),
    "8000 samples read, 16000 in the manifest": lambda data: rewrite(data, "train", 0, lambda audio: audio[:8000]),
    "1 samples are not finite": lambda data: rewrite(data, "train", 0, with_nan),
}


@pytest.mark.parametrize("told", AUDIO)
def test_bad_audio_is_an_error_with_its_line(data, capsys, told):
    AUDIO[told](data)
    status, out, lines = run(data, capsys)
    assert status == 1 and "1 errors, 0 warnings" in out
    (line,) = lines
    assert line.startswith(f"error: {data}/train.tsv:2: ") and told in line and "000.wav" in line


def test_a_flac_that_was_cut(data, capsys):
    audio = soundfile.read(str(path_of(data, "train", 0)))[0]
    path = data / "wav" / "train" / "cut.flac"
    soundfile.write(str(path), audio, 16000)
    path.write_bytes(path.read_bytes()[:9000])
    edit(data / "train.tsv", 2, "train/cut.flac\t16000")
    status, out, (line,) = run(data, capsys)
    assert status == 1 and "train.tsv:2: " in line and "cut" in line


LABELS = {
    "train.ltr:3: .*002.wav has 'Q', not in its dictionary": lambda data: edit(data / "train.ltr", 3, "O N E Q |"),
    "train.ltr:2: .* has an empty transcript": lambda data: edit(data / "train.ltr", 2, ""),
    "train.ltr:1: .*has 40 units, for which CTC needs 79 frames, and its 16000 samples are 49": lambda data: edit(
        data / "train.ltr", 1, " ".join("O" * 40)
    ),
    "train.km:1: .* has 10 labels, and its 16000 samples are 49 frames at task.label_rate=50": lambda data: edit(
        data / "train.km", 1, " ".join("1" * 10)
    ),
    "train.km:4: .* has label '99', which is none of the 20": lambda data: edit(data / "train.km", 4, "99 " * 49),
    "valid.ltr: 3 lines, but .*valid.tsv lists 2": lambda data: (data / "valid.ltr").write_text("O\nO\nO\n"),
    "dict.ltr.txt: no dictionary": lambda data: (data / "dict.ltr.txt").write_text("no count\n"),
    "test.tsv:3: expected `name<TAB>samples`": lambda data: edit(data / "test.tsv", 3, "test/001.wav 12000"),
    "test.tsv: no UTF-8": lambda data: (data / "test.tsv").write_bytes(b"\xff\xfe\n"),
}


@pytest.mark.parametrize("told", LABELS)
def test_bad_labels_and_lists_are_errors(data, capsys, told):
    LABELS[told](data)
    status, _, lines = run(data, capsys)
    assert status == 1

    assert all(line.startswith("error: ") for line in lines) and re.search(told, "\n".join(lines))


def test_labels_of_100_a_second_are_known_as_such(data, capsys):
    write_labels(data, ["train", "valid"], rate=100)
    assert run(data, capsys)[0] == 0
    assert run(data, capsys, "--label-rate", "50")[0] == 1


def test_an_utterance_in_training_and_in_the_test_set(data, capsys):
    samples, rate = soundfile.read(str(path_of(data, "train", 3)))
    other = data / "wav" / "test" / "other_name.flac"  # another name and another format, the same samples
    soundfile.write(str(other), samples, rate, "PCM_16")
    edit(data / "test.tsv", 2, "test/other_name.flac\t16000")
    status, _, (line,) = run(data, capsys)
    assert status == 1 and "test.tsv:2: test/other_name.flac is " in line and "train.tsv:5 too; take one out" in line


def test_silence_clipping_and_what_is_there_twice_are_warnings(data, capsys):
    rewrite(data, "train", 0, lambda audio: audio * 1e-4)
    rewrite(data, "train", 1, lambda audio: np.clip(audio * 10, -1, 1))
    rewrite(data, "train", 3, lambda audio: soundfile.read(str(path_of(data, "train", 2)))[0])
    status, out, lines = run(data, capsys)
    assert status == 0 and "0 errors, 3 warnings" in out
    assert [line.split(": ")[2].split(" ", 1)[1].split(" (")[0] for line in lines] == [
        "is silent",
        "is clipped",
        "sounds as line 4 does, sample by sample",
    ]


def test_a_folder_without_manifests(tmp_path, capsys):
    assert check.main([str(tmp_path)]) == 1 and "no {split}.tsv in it" in capsys.readouterr().err
