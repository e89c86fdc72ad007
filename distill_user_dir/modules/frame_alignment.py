"""Frames and frame labels of another rate, aligned as fairseq's `HubertModel.forward_targets` does."""

import torch
from torch import Tensor


def labelled_frames(frames: Tensor, labels: Tensor, ratio: float) -> Tensor:
    """(B,) frames, (B,) labels of each utterance, labels a frame -> (B,) frames that are kept.

    As fairseq, an utterance whose labels end early loses its last frames; unlike fairseq, which trims a batch by its
    longest, each by its own labels, so that padding changes nothing.
    """
    trimmed = (labels.double() / ratio).long().clamp(min=1)
    return torch.where(ratio * frames > labels, trimmed, frames)


def align(labels: Tensor, frames: int, ratio: float) -> Tensor:
    """(B, L) labels -> (B, frames) long: that of frame t is number floor(t * ratio), at most the last one."""
    index = (torch.arange(frames, dtype=torch.double, device=labels.device) * ratio).long()
    return labels[:, index.clamp(max=labels.size(1) - 1)].long()
