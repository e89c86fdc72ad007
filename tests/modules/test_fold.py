import pytest
import torch
from torch import nn

from distill_user_dir.checkpoints.building import build_hubert
from distill_user_dir.checkpoints.hubert import hubert_in
from distill_user_dir.modules.block_convolution import BlockConvolution
from distill_user_dir.modules.fold import fold
from tests.helpers import batch


@pytest.mark.parametrize("size", [1, 37, 128, 129, 130, 258, 499])
@pytest.mark.parametrize("channels, groups, taps", [(48, 4, 16), (32, 16, 128), (12, 3, 7)])
@torch.no_grad()
def test_block_convolution_equals_torchs(size, channels, groups, taps):
    torch.manual_seed(0)
    conv = nn.Conv1d(channels, channels, taps, padding=taps // 2, groups=groups)
    x = torch.randn(3, channels, size)
    expected = conv(x)
    assert BlockConvolution(conv)(x).shape == expected.shape
    assert float((BlockConvolution(conv)(x) - expected).abs().max()) < 1e-5


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
