"""HuBERT's CNN, in which padding does not change a result."""

from typing import Optional

import torch
from fairseq.models.wav2vec.wav2vec2 import ConvFeatureExtractionModel
from fairseq.modules import Fp32GroupNorm
from torch import Tensor

from distill_user_dir.modules.conv_layers import ConvLayers, num_frames
from distill_user_dir.modules.padding import padding_mask


def group_norm_over_valid(norm: Fp32GroupNorm, x: Tensor, lengths: Tensor) -> Tensor:
    """A group norm of one channel a group, with its statistics over the valid frames only.

    x: (B, C, T), lengths: (B,) valid frames. Returns (B, C, T) of x's type; computed in float32.
    Without it the shorter utterances of a batch are normalised by their padding: up to 0.87 of difference in
    the output of a HuBERT Base.
    """
    valid = ~padding_mask(lengths, x.size(2)).unsqueeze(1)
    count = lengths.clamp(min=1).view(-1, 1, 1)
    wide = x.float()
    mean = (wide * valid).sum(2, keepdim=True) / count
    variance = ((wide - mean) * valid).pow(2).sum(2, keepdim=True) / count
    scale = torch.rsqrt(variance + norm.eps) * norm.weight.float().view(1, -1, 1)
    return ((wide - mean) * scale + norm.bias.float().view(1, -1, 1)).type_as(x)


class ConvFrontend(ConvFeatureExtractionModel):
    """fairseq's feature extractor, same parameters under the same names, which is told the lengths."""

    def __init__(self, layers: ConvLayers, mode: str, conv_bias: bool, valid_statistics: bool):
        super().__init__(layers, dropout=0.0, mode=mode, conv_bias=conv_bias)
        self.layers = layers
        self.valid_statistics = valid_statistics

    def forward(self, source: Tensor, lengths: Optional[Tensor] = None) -> Tensor:
        """(B, N) audio, (B,) samples or None where nothing is padded -> (B, C, T)."""
        blocks = list(self.conv_layers)
        norm = blocks[0][2]
        if lengths is None or not self.valid_statistics or not isinstance(norm, Fp32GroupNorm):
            return super().forward(source)
        x = blocks[0][1](blocks[0][0](source.unsqueeze(1)))
        x = blocks[0][3](group_norm_over_valid(norm, x, num_frames(lengths, self.layers[:1])))
        for block in blocks[1:]:
            x = block(x)
        return x
