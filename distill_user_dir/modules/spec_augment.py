"""SpecAugment (Park et al., 2019): bands of frequency and spans of time, masked."""

import torch
from torch import Tensor, nn

from distill_user_dir.modules.padding import to_device


def bands(sizes: Tensor, size: int, count: int, widest: Tensor) -> Tensor:
    """`count` bands of 0 to `widest` positions each, anywhere within the first `sizes`: (B,), (B,) long -> (B, size)
    bool. The numbers come from torch's generator on the CPU, which the trainer seeds at each update."""
    draws = to_device(torch.rand(2, sizes.size(0), count), sizes.device)
    widths = (draws[0] * (widest.unsqueeze(1) + 1)).floor()
    starts = (draws[1] * (sizes.unsqueeze(1) - widths + 1)).floor()
    at = torch.arange(size, device=sizes.device).view(1, 1, -1)
    return ((at >= starts.unsqueeze(2)) & (at < (starts + widths).unsqueeze(2))).any(1)


class SpecAugment(nn.Module):
    """Masks features with 0, the mean of normalised ones, in training; does nothing in eval mode.

    freq_masks bands of at most freq_width bins, time_masks spans of at most time_width frames each, and of at most
    time_share of the utterance (LibriSpeech's policies: 2 x 27 bins, 2 x 100 frames, share 1).
    """

    def __init__(self, freq_masks: int, freq_width: int, time_masks: int, time_width: int, time_share: float = 1.0):
        super().__init__()
        if min(freq_masks, freq_width, time_masks, time_width) < 0 or not 0 <= time_share <= 1:
            raise ValueError("SpecAugment: numbers and widths are 0 or more, time_share is from 0 to 1")
        self.freq_masks, self.freq_width = freq_masks, freq_width
        self.time_masks, self.time_width, self.time_share = time_masks, time_width, time_share

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, F), (B,) long valid frames -> (B, T, F)."""
        if not self.training:
            return x
        batch, frames, bins = x.shape
        if self.freq_masks > 0:
            all_bins = torch.full_like(lengths, bins)
            x = x.masked_fill(bands(all_bins, bins, self.freq_masks, all_bins.clamp(max=self.freq_width))[:, None], 0)
        if self.time_masks > 0:
            widest = (lengths * self.time_share).floor().clamp(max=self.time_width)
            x = x.masked_fill(bands(lengths, frames, self.time_masks, widest).unsqueeze(2), 0)
        return x
