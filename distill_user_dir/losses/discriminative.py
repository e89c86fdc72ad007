"""The discriminative loss (Wang et al., section 3.2): which of the teacher's clusters a frame belongs to.

Sums over the frames given; their number is the first dimension. All in float32, and never a tensor bigger than
(frames x clusters).
"""

from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

TARGETS = ("soft", "hard", "kmeans", "distances")


def soft_loss(student: Tensor, teacher: Tensor, student_temperature: float, teacher_temperature: float) -> Tensor:
    """KL divergence from the teacher's posterior to the student's: (F, C) logits of both -> summed over F frames."""
    with torch.no_grad():
        posterior = F.log_softmax(teacher.float() / teacher_temperature, dim=-1)
    log_probs = F.log_softmax(student.float() / student_temperature, dim=-1)
    return F.kl_div(log_probs, posterior, reduction="sum", log_target=True)


def hard_loss(student: Tensor, clusters: Tensor, student_temperature: float) -> Tensor:
    """Cross-entropy to one cluster a frame: (F, C) logits, (F,) long -> summed over F frames."""
    return F.cross_entropy(student.float() / student_temperature, clusters, reduction="sum")


def agreement(student: Tensor, clusters: Tensor) -> Tuple[Tensor, Tensor]:
    """(F, C) logits, (F,) long -> the number of frames whose likeliest cluster is the given one, and (C,) long, how
    often each cluster was given: the largest of these is what always saying the commonest cluster would reach."""
    hits = (student.detach().argmax(-1) == clusters).sum()
    counts = torch.zeros(student.size(-1), dtype=torch.long, device=student.device)
    return hits, counts.scatter_add_(0, clusters, torch.ones_like(clusters))  # a bincount asks the device for its size
