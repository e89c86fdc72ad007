import json

import pytest

from distill_user_dir import results

FOUND = {"wer": 12.5, "wer_interval": [10.0, 15.25], "cer": 4.0, "rtf": 0.02, "utterances": 7}


def write(folder, content):
    folder.mkdir(parents=True)
    (folder / "wer.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return str(folder)


def test_a_line_a_decode(tmp_path, capsys):
    folders = [write(tmp_path / "a" / "clean", FOUND), write(tmp_path / "b", dict(FOUND, wer=101.0))]
    assert results.main(folders) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == "WER % 95% interval CER % x real time utterances".split()
    assert rows[1:] == [
        "a/clean 12.50 10.00 to 15.25 4.00 50 7".split(),
        "b 101.00 10.00 to 15.25 4.00 50 7".split(),
    ]


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"wer": 1}', json.dumps(dict(FOUND, cer="x")), json.dumps(dict(FOUND, wer_interval=[1]))]
)
def test_another_file_is_named(tmp_path, capsys, content):
    assert results.main([write(tmp_path / "a", content)]) == 1
    assert f"{tmp_path}/a/wer.json: " in capsys.readouterr().err
    assert results.main([str(tmp_path)]) == 1
    assert "no such file; the decode has not ended" in capsys.readouterr().err
