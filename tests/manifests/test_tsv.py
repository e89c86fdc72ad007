import os

import pytest

from manifests import tsv


def lines(path):
    return path.read_text().splitlines()


def test_same_as_fairseq(libri, tmp_path, example):
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    example("wav2vec/wav2vec_manifest.py", libri, "--dest", theirs, "--valid-percent", 0)
    tsv.main([str(libri), "--dest", str(ours)])
    assert os.listdir(theirs) == os.listdir(ours) == ["train.tsv"]
    expected, found = lines(theirs / "train.tsv"), lines(ours / "train.tsv")
    assert found[0] == expected[0]
    assert found[1:] == sorted(expected[1:])
    assert (ours / "train.tsv").stat().st_size == (theirs / "train.tsv").stat().st_size


def test_valid_is_drawn_as_fairseq_does(libri, tmp_path, example):
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    options = ["--valid-percent", "0.5", "--seed", "3"]
    example("wav2vec/wav2vec_manifest.py", libri, "--dest", theirs, *options)
    assert tsv.main([str(libri), "--dest", str(ours), *options]) == 0
    for split in ("train.tsv", "valid.tsv"):
        assert len(lines(theirs / split)) == len(lines(ours / split)) > 1
        assert lines(theirs / split)[0] == lines(ours / split)[0]
    train, valid = lines(ours / "train.tsv")[1:], lines(ours / "valid.tsv")[1:]
    everything = lines(theirs / "train.tsv")[1:] + lines(theirs / "valid.tsv")[1:]
    assert sorted(train + valid) == sorted(everything)


def test_extensions_links_and_hidden_files(tmp_path, audio):
    root = tmp_path / "odd [name]"
    for name in ("b.wav", "a.flac", "deep/er/c.flac", "d.aiff", ".hidden/e.wav"):
        audio(str(root / name), samples=480)
    link = tmp_path / "link"
    link.symlink_to(root)
    counts = tsv.make_manifest(str(link), str(tmp_path / "out"), name="test", progress=False)
    assert counts == {"test": 3}
    expected = [str(root.resolve()), "a.flac\t480", "b.wav\t480", "deep/er/c.flac\t480"]
    assert lines(tmp_path / "out" / "test.tsv") == expected
    assert tsv.make_manifest(str(root), str(tmp_path / "one"), exts=[".wav"], progress=False) == {"train": 1}


@pytest.fixture
def mixed(tmp_path, audio):
    root = tmp_path / "mixed"
    audio(str(root / "good.wav"), samples=400)
    audio(str(root / "rate.wav"), rate=8000)
    audio(str(root / "stereo.wav"), channels=2)
    audio(str(root / "short.wav"), samples=399)
    audio(str(root / "empty.flac"), samples=0)
    (root / "text.flac").write_text("no audio")
    (root / "ta\tb.wav").write_bytes((root / "good.wav").read_bytes())
    return root


BAD = ("rate.wav", "stereo.wav", "short.wav", "empty.flac", "text.flac", "ta\\tb.wav")


def test_every_bad_file_is_named_and_nothing_written(mixed, tmp_path, capsys):
    assert tsv.main([str(mixed), "--dest", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    for name in BAD:
        assert sum(name in line for line in told.splitlines()) == 1, name
    assert "6 of 7 files refused" in told and "good.wav" not in told
    assert not (tmp_path / "out").exists()


def test_skip_bad(mixed, tmp_path, capsys):
    assert tsv.main([str(mixed), "--dest", str(tmp_path / "out"), "--skip-bad"]) == 0
    told = capsys.readouterr().err
    assert all(name in told for name in BAD) and "6 of 7 files left out" in told
    assert lines(tmp_path / "out" / "train.tsv")[1:] == ["good.wav\t400"]


def test_nothing_to_list(tmp_path, capsys):
    (tmp_path / "audio").mkdir()
    assert tsv.main([str(tmp_path / "audio"), "--dest", str(tmp_path / "out")]) == 1
    assert str(tmp_path / "audio") in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--valid-percent", "1.5"], ["--valid-percent", "0.1", "--name", "valid"]])
def test_impossible_shares(libri, tmp_path, options):
    assert tsv.main([str(libri), "--dest", str(tmp_path / "out"), *options]) == 1
    assert not (tmp_path / "out").exists()


def test_empty_split_is_refused(libri, tmp_path, capsys):
    assert tsv.main([str(libri), "--dest", str(tmp_path / "out"), "--valid-percent", "0.000001"]) == 1
    assert "nothing in valid" in capsys.readouterr().err
