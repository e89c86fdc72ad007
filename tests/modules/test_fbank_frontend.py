import json

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from distill_user_dir.data.fbank_stats import read_stats
from distill_user_dir.modules.conv_layers import num_frames
from distill_user_dir.modules.fbank import KaldiFbank
from distill_user_dir.modules.fbank_frontend import FbankFrontend, GlobalNorm, UtteranceNorm
from distill_user_dir.modules.spec_augment import SpecAugment
from tests.helpers import noise

HUBERT = [(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 2


def frontend(norm=None, augment=(0, 0, 0, 0), **options):
    torch.manual_seed(0)
    norm = GlobalNorm(80) if norm is None else norm
    return FbankFrontend(24, KaldiFbank(), norm, SpecAugment(*augment), **options).eval()


def test_frames_are_those_of_huberts_cnn():
    front, audio = frontend(), noise(4000)[None]
    for length in [*range(400, 1100), *range(1100, 4000, 37)]:
        assert front(audio[:, :length]).size(1) == num_frames(torch.tensor([length]), HUBERT).item()


@pytest.mark.parametrize("kernel, stride", [(1, 2), (3, 2), (7, 4), (5, 1)])
def test_frames_of_other_kernels_are_those_of_one_convolution(kernel, stride):
    front, audio = frontend(kernel=kernel, stride=stride), noise(4000)[None]
    for length in range(400, 4000, 37):
        assert front(audio[:, :length]).size(1) == num_frames(torch.tensor([length]), [(1, 400, 160 * stride)]).item()


@pytest.mark.parametrize("norm", [GlobalNorm(80), UtteranceNorm()], ids=["global", "utterance"])
@torch.no_grad()
def test_padding_changes_nothing(norm):
    front = frontend(norm)
    lengths = torch.tensor([16000, 400, 7300, 12345])
    audio = [noise(length, seed) for seed, length in enumerate(lengths.tolist())]
    together = front(pad_sequence(audio, batch_first=True) + 0.0, lengths)
    junk = pad_sequence(audio, batch_first=True, padding_value=0.7)  # whatever lies in the padding
    assert torch.equal(front(junk, lengths)[0], together[0])
    for one, other, alone in zip(together, front(junk, lengths), audio):
        expected = front(alone[None])[0]
        assert float((one[: len(expected)] - expected).abs().max()) < 1e-4
        assert float((other[: len(expected)] - expected).abs().max()) < 1e-4


def test_normalisation_by_hand():
    x, lengths = torch.randn(2, 30, 80) * 3 + 5, torch.tensor([30, 12])
    found = UtteranceNorm()(x, lengths)
    for one, raw, length in zip(found, x, lengths.tolist()):
        expected = (raw[:length] - raw[:length].mean(0)) / raw[:length].var(0, unbiased=False).add(1e-5).sqrt()
        assert torch.allclose(one[:length], expected, atol=1e-5)
    norm = GlobalNorm(80)
    norm.mean.fill_(5.0), norm.std.fill_(3.0)
    assert torch.allclose(norm(x, lengths), (x - 5) / 3)


def test_silence_is_finite():
    for norm in (GlobalNorm(80), UtteranceNorm()):
        assert bool(frontend(norm)(torch.zeros(2, 5000)).isfinite().all())


def test_augments_in_training_only():
    front, audio, lengths = frontend(augment=(2, 30, 2, 40)), noise(16000).expand(3, -1), torch.tensor([16000] * 3)
    assert torch.equal(front(audio, lengths), front(audio, lengths))
    front.train()
    assert not torch.equal(front(audio, lengths)[0], front(audio, lengths)[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_half_models_have_the_features_of_whole_ones(dtype):
    """Only what comes behind the normalisation is half: statistics and features are float32's."""
    norm = GlobalNorm(80)
    norm.mean.fill_(8.123456), norm.std.fill_(3.123456)
    front, audio = frontend(norm), noise(8000)[None].double()
    expected, seen = front(audio), []
    front.to(dtype)
    assert front.norm.mean.dtype == torch.float32 and float(front.norm.mean[0]) == pytest.approx(8.123456, abs=1e-6)
    front.augment.register_forward_hook(lambda module, inputs, output: seen.append(output))
    found = front(audio)
    assert found.dtype == dtype and seen[0].dtype == torch.float32
    assert float((found.float() - expected).abs().max()) < (0.01 if dtype == torch.float16 else 0.05)


def test_statistics_are_in_the_checkpoint():
    assert {"norm.mean", "norm.std"} <= frontend().state_dict().keys()
    assert not any(key.startswith("fbank.") for key in frontend().state_dict())  # tables are made, not kept


def stats(**changes):
    content = {"mean": [8.0] * 80, "std": [3.0] * 80, "frames": 100, "options": KaldiFbank().options}
    return {**content, **changes}


def test_statistics_are_read(tmp_path):
    (tmp_path / "fbank.json").write_text(json.dumps(stats()))
    norm = GlobalNorm(80)
    norm.set(*read_stats(str(tmp_path / "fbank.json"), KaldiFbank().options, 80))
    assert float(norm.mean[3]) == 8 and float(norm.std[3]) == 3


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "no statistics"),
        ("[1]", "no statistics"),
        (json.dumps(stats(mean=None)), "no statistics"),
        (json.dumps(stats(mean=["a"] * 80)), "no statistics"),
        (json.dumps(stats(mean=[1.0] * 40)), "40 means and 80 deviations, expected 80"),
        (json.dumps(stats(std=[3.0] * 7 + [0.0] * 73)), "bin 7 has mean 8 and deviation 0"),
        (json.dumps(stats(std=[3.0] * 79 + [float("nan")])), "bin 79 .* deviation nan"),
        (json.dumps(stats(options={"num_mel_bins": 40})), "but the model has"),
    ],
)
def test_statistics_that_do_not_fit_are_refused(tmp_path, text, message):
    (tmp_path / "fbank.json").write_text(text)
    with pytest.raises(ValueError, match=f"fbank.json: .*{message}"):
        read_stats(str(tmp_path / "fbank.json"), KaldiFbank().options, 80)
    with pytest.raises(ValueError, match="none.json: no statistics.*No such file"):
        read_stats(str(tmp_path / "none.json"), KaldiFbank().options, 80)


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match="fbank_kernel=4.*odd"):
        frontend(kernel=4)
