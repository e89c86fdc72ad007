"""Against kaldi-native-fbank."""

import glob

import kaldi_native_fbank
import numpy as np
import pytest
import soundfile
import torch
from torch.nn.utils.rnn import pad_sequence

from distill_user_dir.modules.fbank import KaldiFbank
from manifests.synthetic import Settings, synthesise
from tests.helpers import noise

BELOW = 80 * np.log(10) / 10  # nepers of power under a frame's loudest bin; float32 rounds what is weaker


def kaldi(samples, **mel):
    """(N,) in [-1, 1] -> (T, bins)."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0.0
    for name, value in {"num_bins": 80, **mel}.items():
        section = options.frame_opts if hasattr(options.frame_opts, name) else options.mel_opts
        setattr(section, name, value)
    extractor = kaldi_native_fbank.OnlineFbank(options)
    extractor.accept_waveform(options.frame_opts.samp_freq, (samples * 32768).tolist())
    extractor.input_finished()
    return torch.from_numpy(np.stack([extractor.get_frame(t) for t in range(extractor.num_frames_ready)]))


def difference(ours, theirs):
    """The largest, of what is within 80 dB of the loudest bin of its frame."""
    assert ours.shape == theirs.shape and ours.dtype == torch.float32
    heard = theirs > theirs.max(-1, keepdim=True).values - BELOW
    return float((ours - theirs).abs()[heard].max())


def test_speech_equals_kaldis(tmp_path):
    synthesise(str(tmp_path), Settings("commands", 40, 30, 30), progress=False)
    paths = glob.glob(str(tmp_path / "*" / "*" / "*.flac"))
    assert len(paths) == 100
    fbank = KaldiFbank()
    for path in paths:
        samples, _ = soundfile.read(path, dtype="float32")
        assert difference(fbank(torch.from_numpy(samples)[None])[0], kaldi(samples)) < 1e-3


def test_every_length_from_one_window_on_equals_kaldis():
    fbank, audio = KaldiFbank(), noise(2000)
    lengths = torch.arange(400, 2001)
    for length, frames in zip(lengths.tolist(), fbank.num_frames(lengths).tolist()):
        found = fbank(audio[None, :length])[0]
        assert len(found) == frames
        assert difference(found, kaldi(audio[:length].numpy())) < 1e-3
    assert fbank.num_frames(torch.tensor([0, 399])).tolist() == [0, 0]


@pytest.mark.parametrize("scale", [1e-4, 1.0, 3.0])
def test_noise_of_any_level_equals_kaldis(scale):
    audio = scale * noise(16000)
    assert difference(KaldiFbank()(audio[None])[0], kaldi(audio.numpy())) < 1e-3


def test_silence_is_the_floor():
    found = KaldiFbank()(torch.zeros(1, 1600))
    assert torch.equal(found[0], kaldi(np.zeros(1600, dtype=np.float32)))
    assert bool(found.isfinite().all())


@pytest.mark.parametrize(
    "ours, theirs",
    [
        ({"num_mel_bins": 40}, {"num_bins": 40}),
        ({"window_type": "hanning"}, {"window_type": "hanning"}),
        ({"window_type": "hamming", "frame_shift": 20.0}, {"window_type": "hamming", "frame_shift_ms": 20.0}),
        ({"window_type": "rectangular", "frame_length": 30.0}, {"window_type": "rectangular", "frame_length_ms": 30.0}),
        ({"preemphasis_coefficient": 0.0}, {"preemph_coeff": 0.0}),
        ({"remove_dc_offset": False}, {"remove_dc_offset": False}),
        ({"low_freq": 100.0, "high_freq": -400.0}, {"low_freq": 100.0, "high_freq": -400.0}),
        ({"sample_frequency": 8000.0, "num_mel_bins": 23}, {"samp_freq": 8000.0, "num_bins": 23}),
    ],
    ids=str,
)
def test_options_are_kaldis(ours, theirs):
    audio = noise(16000)
    assert difference(KaldiFbank(**ours)(audio[None])[0], kaldi(audio.numpy(), **theirs)) < 1e-3


def test_padding_and_batches_change_nothing():
    fbank = KaldiFbank()
    audio = [noise(length, seed) for seed, length in enumerate((16000, 400, 5000, 9999))]
    together = fbank(pad_sequence(audio, batch_first=True))
    for one, alone in zip(together, audio):
        expected = fbank(alone[None])[0]
        assert float((one[: len(expected)] - expected).abs().max()) < 1e-4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_told_to_be_half_has_the_same_features(dtype):
    audio = noise(16000)[None]
    expected = KaldiFbank()(audio)
    model = torch.nn.Sequential(KaldiFbank(), torch.nn.Linear(80, 4)).to(dtype)
    assert model[1].weight.dtype == dtype
    assert torch.equal(model[0](audio), expected)
    assert torch.equal(model.to(torch.float32)[0](audio), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model[0](audio), expected)


def test_gradients_reach_the_audio():
    audio = noise(1200).double()[None].requires_grad_()
    KaldiFbank()(audio).sum().backward()
    assert bool(audio.grad.isfinite().all()) and float(audio.grad.abs().sum()) > 0


def test_dither_has_the_deviation_asked_for():
    """Over silence, with a rectangular window and nothing else, energies are those of the noise alone."""
    torch.manual_seed(0)
    options = {"window_type": "rectangular", "preemphasis_coefficient": 0.0, "remove_dc_offset": False}
    power = KaldiFbank(dither=2.0, **options)(torch.zeros(1, 160000)).exp().mean((0, 1))
    weights = KaldiFbank(**options).mel.sum(0)
    assert power / weights == pytest.approx(torch.full((80,), 400 * 2.0**2), rel=0.1)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"window_type": "kaiser"}, "kaiser: there are povey"),
        ({"high_freq": 9000.0}, "not within 0 to 8000 Hz"),
        ({"num_mel_bins": 300}, "num_mel_bins=300"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        KaldiFbank(**options)


def test_less_than_a_window_is_refused():
    with pytest.raises(ValueError, match="399 samples are less than a window of 400"):
        KaldiFbank()(torch.zeros(1, 399))
