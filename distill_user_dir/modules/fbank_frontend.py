"""The front-end on log-mel features: normalised Fbank, SpecAugment, one strided convolution with GLU, a Linear."""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill_user_dir.modules.fbank import Float32Tables, KaldiFbank
from distill_user_dir.modules.padding import padding_mask
from distill_user_dir.modules.spec_augment import SpecAugment

SMALLEST_STD = 1e-5


class GlobalNorm(Float32Tables):
    """Each bin to zero mean and unit variance by statistics of the training data, which are buffers of the checkpoint
    and stay float32."""

    def __init__(self, bins: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(bins))
        self.register_buffer("std", torch.ones(bins))

    def set(self, mean: Tensor, std: Tensor) -> None:
        """(bins,) each, as `data.fbank_stats.read_stats` gives them."""
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, bins), (B,) -> (B, T, bins)."""
        return (x - self.mean) / self.std


class UtteranceNorm(nn.Module):
    """Each bin to zero mean and unit variance over the valid frames of its utterance."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, bins), (B,) long valid frames -> (B, T, bins)."""
        valid = ~padding_mask(lengths, x.size(1)).unsqueeze(2)
        count = lengths.clamp(min=1).view(-1, 1, 1)
        centred = x - (x * valid).sum(1, keepdim=True) / count
        variance = (centred * valid).square().sum(1, keepdim=True) / count
        return centred * torch.rsqrt(variance + SMALLEST_STD)


NORMS = {"global": GlobalNorm, "utterance": lambda bins: UtteranceNorm()}


class FbankFrontend(nn.Module):
    """Fbank of (B, N) audio in [-1, 1], normalised and augmented; Conv1d (odd kernel, padding kernel // 2) to twice
    the width, GLU, Linear (Wang et al., section 3.3).

    With `kernel` odd its frames are those of one convolution over the audio, without padding, as wide as a window and
    with `stride` Fbank shifts: at 25 ms, 10 ms and stride 2 those of HuBERT's CNN, for every length.
    """

    def __init__(
        self, dim: int, fbank: KaldiFbank, norm: nn.Module, augment: SpecAugment, kernel: int = 5, stride: int = 2
    ):
        super().__init__()
        if kernel < 1 or kernel % 2 == 0 or stride < 1:
            raise ValueError(f"model.fbank_kernel={kernel}, model.fbank_stride={stride}: the kernel has to be odd")
        self.fbank, self.norm, self.augment = fbank, norm, augment
        bins = fbank.mel.size(1)
        self.conv = nn.Conv1d(bins, 2 * dim, kernel, stride, padding=kernel // 2)
        self.proj = nn.Linear(dim, dim)

    def forward(self, source: Tensor, lengths: Optional[Tensor] = None) -> Tensor:
        """(B, N) audio, (B,) samples or None where nothing is padded -> (B, T, dim)."""
        return self.proj(self.convolve(source, lengths))

    def convolve(self, source: Tensor, lengths: Optional[Tensor] = None) -> Tensor:
        """As `forward`, without the Linear, which is to a Fbank what `post_extract_proj` is to a CNN."""
        x = self.fbank(source)
        ragged = lengths is not None
        frames = torch.full((x.size(0),), x.size(1), device=x.device) if not ragged else self.fbank.num_frames(lengths)
        x = self.augment(self.norm(x, frames), frames)
        if ragged:  # what lies behind an utterance is what lies behind one alone: the convolution's zeros
            x = x.masked_fill(padding_mask(frames, x.size(1)).unsqueeze(2), 0)
        return F.glu(self.conv(x.to(self.proj.weight.dtype).transpose(1, 2)), 1).transpose(1, 2)
