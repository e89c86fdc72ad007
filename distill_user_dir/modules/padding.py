"""Lengths and masks: whatever is padding is known here, and nowhere guessed from values."""

from typing import NamedTuple, Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def padding_mask(lengths: Tensor, size: int) -> Tensor:
    """(B,) valid positions -> (B, size) bool, True where padded."""
    return torch.arange(size, device=lengths.device) >= lengths.unsqueeze(1)


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """A small tensor of the CPU's on the device. From ordinary memory the copy would wait until the device has nothing
    left to do; from pinned memory it takes its turn."""
    if x.device.type == "cpu" and device.type == "cuda":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def lengths_of(source: Tensor, mask: Optional[Tensor], known: Optional[Sequence[int]] = None) -> Tensor:
    """(B, N) audio and its (B, N) bool padding mask, or None where nothing is padded -> (B,) long samples; on the CPU
    where they are `known` there, so that what follows from them need not be read from the device."""
    if known is not None:
        return torch.tensor(known)
    if mask is None:
        return torch.full((source.size(0),), source.size(1), dtype=torch.long, device=source.device)
    return (~mask).sum(1)


class Chosen(NamedTuple):
    """Some frames of a batch. index: (count,) long, their places among all B * T, or None where these are all of them;
    count: their number, which the CPU knows without asking the device."""

    index: Optional[Tensor]
    count: int

    @classmethod
    def where(cls, mask: Tensor, device: torch.device) -> "Chosen":
        """From a (B, T) bool mask; no device waits where that is on the CPU."""
        if bool(mask.all()):
            return cls(None, mask.numel())
        index = mask.flatten().nonzero()[:, 0]
        return cls(to_device(index, device), index.size(0))

    def of(self, x: Tensor) -> Tensor:
        """(B, T, ...) -> (count, ...)."""
        flat = x.flatten(0, 1)
        return flat if self.index is None else flat.index_select(0, self.index)


def normalise_audio(source: Tensor, lengths: Optional[Tensor]) -> Tensor:
    """(B, N) audio, (B,) samples or None where nothing is padded -> (B, N): zero mean and unit variance over the valid
    samples, padding 0.

    What `HubertDataset` does to one utterance at a time (`F.layer_norm`, eps 1e-5) where `normalize` is set.
    """
    if lengths is None:
        return F.layer_norm(source, source.shape[1:])
    valid = ~padding_mask(lengths, source.size(1))
    count = lengths.unsqueeze(1)
    mean = (source * valid).sum(1, keepdim=True) / count
    centred = (source - mean) * valid
    variance = centred.pow(2).sum(1, keepdim=True) / count
    return centred * torch.rsqrt(variance + 1e-5)
