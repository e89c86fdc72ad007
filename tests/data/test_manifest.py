"""Manifests: read as fairseq reads them, refused with file and line."""

import pytest
from fairseq.data.audio.hubert_dataset import load_audio

from distill_user_dir.data.manifest import check_sizes, read_manifest


def write(tmp_path, *lines):
    path = tmp_path / "train.tsv"
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def test_reads_what_fairseq_reads(tmp_path):
    path = write(tmp_path, tmp_path, "a b/c.flac\t400", "d.wav\t16000")
    root, names, _, total, sizes = load_audio(path, None, None)
    manifest = read_manifest(path)
    assert (manifest.root, manifest.names, manifest.sizes) == (root, names, sizes)
    assert total == len(manifest.names)


@pytest.mark.parametrize("line", ["a.flac", "a.flac\t", "a.flac\t-1", "\t400", "a.flac 400", "", "a\tb\t400"])
def test_bad_line_is_named(tmp_path, line):
    with pytest.raises(ValueError, match="train.tsv:3: ") as error:
        read_manifest(write(tmp_path, tmp_path, "b.flac\t400", line))
    assert "\n" not in str(error.value)


def test_empty_and_missing_and_without_root(tmp_path):
    with pytest.raises(ValueError, match="train.tsv: no utterance"):
        read_manifest(write(tmp_path, tmp_path))
    with pytest.raises(ValueError, match="train.tsv:1: .*nowhere"):
        read_manifest(write(tmp_path, tmp_path / "nowhere", "a.wav\t400"))
    with pytest.raises(ValueError, match="other.tsv: no such manifest"):
        read_manifest(str(tmp_path / "other.tsv"))


def test_too_short_is_named_unless_left_out(tmp_path):
    manifest = read_manifest(write(tmp_path, tmp_path, "a.wav\t400", "b.wav\t399"))
    with pytest.raises(ValueError, match="train.tsv:3: b.wav has 399 samples, and one frame needs 400"):
        check_sizes(manifest, least=400, min_size=0)
    check_sizes(manifest, least=400, min_size=400)
