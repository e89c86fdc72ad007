"""The discriminative loss of a batch, one label set at a time: never are the logits of two sets held at once."""

from functools import partial
from typing import Callable, Iterator, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from distill_user_dir.losses.discriminative import agreement, hard_loss, soft_loss
from distill_user_dir.modules.cluster_heads import SetPrediction

Target = Callable[[int], Tensor]  # of a label set, counted from 0: (F, C) logits of the teacher, or (F,) long clusters


class Temperatures(NamedTuple):
    """What divides the logits."""

    student: float
    teacher: float


def sums_of_sets(
    sets: Sequence[SetPrediction], target: Target, temperatures: Temperatures
) -> Iterator[Tuple[Tensor, Tensor, Tensor]]:
    """For each label set, over its F frames: the loss, the frames on which both agree, and (C,) how often the target is
    each cluster.

    With several sets, logits and targets are computed again in the backward pass, and not kept until then; `target`
    has to hold no more than it needs for that.
    """
    again = len(sets) > 1 and torch.is_grad_enabled()
    run = partial(checkpoint, set_sums, use_reentrant=False, preserve_rng_state=False) if again else set_sums
    for number, student in enumerate(sets):
        yield run(student, partial(target, number), temperatures)


def set_sums(
    student: SetPrediction, target: Callable[[], Tensor], temperatures: Temperatures
) -> Tuple[Tensor, Tensor, Tensor]:
    """As above, of one set. The loss comes first: a second computation ends where its gradient has what it needs."""
    logits, wanted = student.logits(), target()
    if wanted.dim() == 2:
        loss, clusters = soft_loss(logits, wanted, *temperatures), wanted.argmax(-1)
    else:
        loss, clusters = hard_loss(logits, wanted, temperatures.student), wanted
    return (loss, *agreement(logits, clusters))
