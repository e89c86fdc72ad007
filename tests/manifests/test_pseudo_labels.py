import json

import pytest

from distill_user_dir.decoding.wer import utterance_ids
from manifests import pseudo_labels
from tests.helpers import write_corpus


@pytest.fixture
def data(tmp_path):
    return write_corpus(tmp_path / "data", {"train": [9000, 8000, 16000, 12000]})


def written(data, rows):
    """{place in the manifest: (words, confidence)} as transcribe writes it."""
    names = [line.split("\t")[0] for line in (data / "train.tsv").read_text().splitlines()[1:]]
    path = data / "words.jsonl"
    lines = [
        json.dumps({"file": str(data / "wav" / names[at]), "seconds": 1.0, "text": text, "confidence": confidence})
        for at, (text, confidence) in rows.items()
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def run(data, path, *options):
    return pseudo_labels.main([str(data), "train", str(path), "pseudo", *options])


def read(path):
    return path.read_text().splitlines()


def test_labels_of_what_is_sure(data, capsys):
    path = written(data, {2: ("SIX TEN", 0.95), 0: ("ONE", 0.5), 1: ("", 1.0)})
    assert run(data, path, "--confidence", "0.9") == 0
    told = "pseudo: 1 utterances, 0.00 h, 2 words; left out: 1 below 0.9, 1 without words, 1 not in "
    assert capsys.readouterr().out == f"{told}{path}\n"
    assert read(data / "pseudo.tsv") == [str(data / "wav"), "train/002.wav\t16000"]
    assert read(data / "pseudo.ltr") == ["S I X | T E N |"] and read(data / "pseudo.wrd") == ["SIX TEN"]
    assert run(data, path) == 0 and len(read(data / "pseudo.tsv")) == 3


def test_labels_from_a_decode(data):
    names = utterance_ids([line.split("\t")[0] for line in read(data / "train.tsv")[1:]])
    path = data / "utterances.tsv"
    path.write_text(f"id\tword_errors\thyp\n{names[3]}\t0\tTWO\n{names[0]}\t0\t\n")
    assert run(data, path) == 0
    assert read(data / "pseudo.ltr") == ["T W O |"] and read(data / "pseudo.tsv")[1] == "train/003.wav\t12000"
    assert run(data, path, "--confidence", "0.5") == 1


def test_each_fault_is_told_with_its_place(data, capsys):
    faults = {
        "words.jsonl:2: 'R Ö' not in": written(data, {0: ("ONE", 1), 1: ("ÖRE", 1)}).read_text(),
        "none of 1 utterances is left; 1 have words, the surest 0.25": written(data, {0: ("ONE", 0.25)}).read_text(),
        "words.jsonl:1: '/x.wav' is not in": '{"file": "/x.wav", "text": "ONE", "confidence": 1}\n',
        "words.jsonl:1: no line of": '{"text": "ONE"}\n',
        "(confidence nan)": '{"file": "x", "text": "ONE", "confidence": NaN}\n',
        "too large": '{"file": "x", "text": "ONE", "confidence": 1%s}\n' % ("0" * 400),
        "words.jsonl:1: neither": "ONE TWO\n",
    }
    twice = written(data, {0: ("ONE", 1)}).read_text()
    faults[f"words.jsonl:2: '{data}"] = twice + twice
    for told, content in faults.items():
        (data / "words.jsonl").write_text(content)
        assert run(data, data / "words.jsonl", *(["--confidence", "0.5"] if "0.25" in told else [])) == 1
        assert told in capsys.readouterr().err and not (data / "pseudo.tsv").exists()
