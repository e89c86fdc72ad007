import io

import numpy as np
import pytest
import soundfile

from distill_user_dir.data import audio


def write(path, samples=1000, rate=16000, channels=1):
    shape = (samples,) if channels == 1 else (samples, channels)
    soundfile.write(str(path), np.zeros(shape), rate, "PCM_16")
    return str(path)


@pytest.mark.parametrize("ext", ["flac", "wav"])
def test_length_is_that_of_the_data(tmp_path, ext):
    path = write(tmp_path / f"a.{ext}", samples=1234)
    assert audio.num_samples(path) == 1234 == len(soundfile.read(path)[0])


def refused(path, *told, **options):
    with pytest.raises(audio.AudioError) as error:
        audio.num_samples(path, **options)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    for part in told:
        assert part in message


def test_refusals_name_file_and_numbers(tmp_path):
    refused(str(tmp_path / "none.wav"), "no such file")
    refused(write(tmp_path / "rate.wav", rate=44100), "44100 Hz, expected 16000", "resample")
    refused(write(tmp_path / "two.wav", channels=2), "2 channels, expected 1")
    refused(write(tmp_path / "empty.wav", samples=0), "0 samples, expected at least 1")
    refused(write(tmp_path / "short.wav", samples=399), "399 samples, expected at least 400", min_samples=400)
    text = tmp_path / "text.wav"
    text.write_text("not\naudio\n" * 20)
    refused(str(text), "not readable as audio")
    refused(str(tmp_path), "no such file")


def test_flac_without_a_length_in_its_header(tmp_path):
    # STREAMINFO's total samples are the low 36 bits of bytes 21 to 25; 0 means unknown
    path = write(tmp_path / "stream.flac", samples=5000)
    content = bytearray(io.open(path, "rb").read())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    io.open(path, "wb").write(content)
    with pytest.raises(audio.AudioError, match="stream.flac: "):
        audio.num_samples(path)


def test_scan_keeps_order(tmp_path):
    good = [write(tmp_path / f"{i}.wav", samples=500 + i) for i in range(20)]
    bad = [write(tmp_path / "rate.wav", rate=8000), str(tmp_path / "none.wav")]
    paths = [bad[0], *good, bad[1]]
    lengths, errors = audio.scan(paths, 16000, 400, workers=4, progress=False)
    assert lengths == [0, *range(500, 520), 0]
    assert [error.split(": ")[0] for error in errors] == bad
