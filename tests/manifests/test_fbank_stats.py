import json
import re

import numpy as np
import pytest
import soundfile
import torch

from distill_user_dir.modules.fbank import KaldiFbank
from manifests import fbank_stats
from tests.helpers import write_corpus


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("data"), {"train": [16000, 400, 9999, 24000, 8000]})


def test_equals_the_moments_of_all_frames_at_once(data):
    assert fbank_stats.main([str(data), "train", "--workers", "1"]) == 0
    found = json.loads((data / "fbank.json").read_text())
    frames = []
    for path in sorted((data / "wav" / "train").iterdir()):
        samples, _ = soundfile.read(str(path), dtype="float32")
        frames.append(KaldiFbank()(torch.from_numpy(samples)[None])[0].double().numpy())
    together = np.concatenate(frames)
    assert found["frames"] == len(together) and found["options"] == KaldiFbank().options
    assert found["mean"] == pytest.approx(together.mean(0), rel=1e-9)
    assert found["std"] == pytest.approx(together.std(0), rel=1e-9)


def test_many_workers_write_the_same_file(data, tmp_path):
    for workers in (1, 2):
        assert (
            fbank_stats.main([str(data), "train", "--dest", str(tmp_path / f"{workers}"), "--workers", f"{workers}"])
            == 0
        )
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_sums_keep_their_digits():
    """A large mean beside a small deviation, over many parts: the naive sum of squares has no digit left."""
    random = np.random.RandomState(0)
    parts = [1e8 + random.randn(10, 3) for _ in range(1000)]
    found = sum((fbank_stats.moments_of(part) for part in parts[1:]), fbank_stats.moments_of(parts[0]))
    assert np.sqrt(found.squares / found.frames) == pytest.approx(np.concatenate(parts).std(0), rel=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda wav: soundfile.write(str(wav), np.zeros(8000), 8000),
            "8000 Hz, expected 16000",
        ),
        (lambda wav: soundfile.write(str(wav), np.zeros((16000, 2)), 16000), "2 channels, expected 1"),
        (lambda wav: wav.write_bytes(b"junk"), "000.wav: .*replace it"),
        (lambda wav: soundfile.write(str(wav), np.zeros(16000), 16000), "bin 0 has mean -15.9424 and deviation 0"),
    ],
    ids=["rate", "channels", "junk", "silence"],
)
def test_bad_audio_is_named(tmp_path, capsys, change, message):
    folder = write_corpus(tmp_path / "bad", {"train": [16000]})
    change(folder / "wav" / "train" / "000.wav")
    assert fbank_stats.main([str(folder), "train", "--workers", "1"]) == 1
    error = capsys.readouterr().err.strip()
    assert re.search(message, error.splitlines()[-1])  # behind the progress bar
    assert not (folder / "fbank.json").exists()


def test_too_short_is_named(tmp_path, capsys):
    folder = write_corpus(tmp_path / "short", {"train": [16000, 399]})
    assert fbank_stats.main([str(folder), "train", "--workers", "1"]) == 1
    assert "001.wav: shorter than one window of 400" in capsys.readouterr().err
