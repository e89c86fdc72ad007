import pytest
import torch
from torch import nn

from distill_user_dir.checkpoints.building import build_hubert
from distill_user_dir.checkpoints.hubert import hubert_in
from distill_user_dir.modules.block_convolution import BlockConvolution
from distill_user_dir.modules.fold import fold
from tests.helpers import batch


@pytest.mark.parametrize("size", [1, 37, 127, 128, 129, 255, 499])
@pytest.mark.parametrize("channels, groups, taps", [(48, 4, 16), (32, 16, 128), (12, 3, 7)])
@torch.no_grad()
def test_block_convolution_equals_torchs(size, channels, groups, taps):
    torch.manual_seed(0)
    conv = nn.Conv1d(channels, channels, taps, padding=taps // 2, groups=groups)
    x = torch.randn(3, channels, size)
    expected = conv(x)
    assert BlockConvolution(conv)(x).shape == expected.shape
    assert float((BlockConvolution(conv)(x) - expected).abs().max()) < 1e-5


@torch.no_grad()
def test_block_convolution_has_the_room_of_torchs_in_half_precision():
    """A sum over the 256 samples of a block would overflow where no number of the convolution itself is large."""
    torch.manual_seed(0)
    conv = nn.Conv1d(32, 32, 128, padding=64, groups=2)
    x = torch.full((1, 32, 300), 1000.0) + torch.randn(1, 32, 300)
    expected = conv(x)
    found = BlockConvolution(conv).half()(x.half()).float()
    assert float((found - expected).abs().max()) < 2e-3 * float(expected.abs().max())


@pytest.mark.parametrize("size", ["tiny", "tiny_large"])
@torch.no_grad()
def test_a_folded_model_is_the_same_function(checkpoints, size):
    checkpoint = hubert_in(checkpoints(size))
    model, folded = build_hubert(checkpoint).eval(), fold(build_hubert(checkpoint).eval())
    _, source, padded = batch([16000, 24000, 400])
    expected, found = (one.encode(source, padded, keep=(1, 2, 3)) for one in (model, folded))
    valid = ~expected.padding_mask
    for layer in (1, 2, 3):
        assert float((expected.layers[layer] - found.layers[layer])[valid].abs().max()) < 2e-5
