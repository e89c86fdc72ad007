"""What a fine-tuned teacher teaches: its units, frame by frame, and the words that these spell.

All in float32, and nothing larger than (frames x units).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

BLANK = 0


class Units(NamedTuple):
    """The units of a batch. flat: (sum of lengths,) long, one utterance behind the other; lengths: (B,) long, 0 for an
    utterance without any."""

    flat: Tensor
    lengths: Tensor


def frame_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """(F, V) logits of both -> (F,) temperature^2 KL(teacher || student), both at this temperature (Hinton et al.,
    arXiv 1503.02531)."""
    with torch.no_grad():
        posterior = F.log_softmax(teacher.float() / temperature, dim=-1)
    log_probs = F.log_softmax(student.float() / temperature, dim=-1)
    return temperature**2 * F.kl_div(log_probs, posterior, reduction="none", log_target=True).sum(-1)


def blank_weights(teacher: Tensor, threshold: float, weight: float) -> Tensor:
    """(F, V) logits -> (F,) `weight` for frames whose blank is likelier than the threshold, 1 for the others."""
    blank = teacher.float().softmax(-1)[:, BLANK]
    return torch.where(blank > threshold, torch.full_like(blank, weight), torch.ones_like(blank))


def best_path(logits: Tensor, padded: Tensor, special: int = 1) -> Units:
    """(B, T, V) logits, (B, T) bool -> the units of each utterance's best path, without repetitions and blanks.
    special: so many units, the first, are no letters, and taken for blank."""
    path = logits.argmax(-1)
    path = path.masked_fill(padded | (path < special), BLANK)
    before = F.pad(path, (1, 0), value=BLANK)[:, :-1]
    kept = (path != BLANK) & (path != before)
    return Units(path[kept], kept.sum(1))


def ctc(log_probs: Tensor, frames: Tensor, units: Units) -> Tensor:
    """(B, T, V) log-probabilities, (B,) valid frames -> -log p(units), summed over the utterances that have some; 0 for
    one that is too short for its units."""
    with torch.backends.cudnn.flags(enabled=False):
        losses = F.ctc_loss(
            log_probs.float().transpose(0, 1),
            units.flat,
            frames,
            units.lengths,
            BLANK,
            reduction="none",
            zero_infinity=True,
        )
    return torch.where(units.lengths > 0, losses, torch.zeros_like(losses)).sum()
