import pytest

from distill_user_dir.files import replacing, write_lines


def test_written_lines(tmp_path):
    path = tmp_path / "train.tsv"
    write_lines(str(path), ["/data", "a b/c.flac\t400"])
    assert path.read_bytes() == b"/data\na b/c.flac\t400\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["train.tsv"]


def test_what_was_there_stays_where_writing_fails(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(OSError, match="full"), replacing(str(path)) as temporary:
        with open(temporary, "w") as stream:
            stream.write("new")
        assert path.read_text() == "old"
        raise OSError("full")
    assert path.read_text() == "old" and [entry.name for entry in tmp_path.iterdir()] == ["a"]
