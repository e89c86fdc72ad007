"""Lengths and masks: whatever is padding is known here, and nowhere guessed from values."""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor


def padding_mask(lengths: Tensor, size: int) -> Tensor:
    """(B,) valid positions -> (B, size) bool, True where padded."""
    return torch.arange(size, device=lengths.device) >= lengths.unsqueeze(1)


def lengths_of(source: Tensor, mask: Optional[Tensor]) -> Tensor:
    """(B, N) audio and its (B, N) bool padding mask, or None where nothing is padded -> (B,) long samples."""
    if mask is None:
        return torch.full((source.size(0),), source.size(1), dtype=torch.long, device=source.device)
    return (~mask).sum(1)


def normalise_audio(source: Tensor, lengths: Tensor) -> Tensor:
    """(B, N) audio, (B,) samples -> (B, N): zero mean and unit variance over the valid samples, padding 0.

    What `HubertDataset` does to one utterance at a time (`F.layer_norm`, eps 1e-5) where `normalize` is set.
    """
    if source.size(0) == 1 or bool((lengths == source.size(1)).all()):
        return F.layer_norm(source, source.shape[1:])
    valid = ~padding_mask(lengths, source.size(1))
    count = lengths.unsqueeze(1)
    mean = (source * valid).sum(1, keepdim=True) / count
    centred = (source - mean) * valid
    variance = centred.pow(2).sum(1, keepdim=True) / count
    return centred * torch.rsqrt(variance + 1e-5)
