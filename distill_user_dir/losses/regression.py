"""The regression loss (Wang et al., section 3.1; DistilHuBERT, equation 1), as sums over valid frames."""

from typing import Dict

import torch
import torch.nn.functional as F
from torch import Tensor

DISTANCES = {"l1": torch.abs, "l2": torch.square}


def regression(
    student: Tensor, teacher: Tensor, valid: Tensor, distance: str, cosine_weight: float
) -> Dict[str, Tensor]:
    """One layer's loss: distance averaged over the features + cosine_weight * (-log sigmoid(cosine)), in float32.

    student, teacher: (B, T, D); valid: (B, T) bool. Returns sums over the valid frames: `loss`, `distance` and
    `cosine` (the plain cosine similarity, for the log). Divide by the number of valid frames for means.
    """
    student, teacher = student[valid].float(), teacher[valid].float()
    per_frame = DISTANCES[distance](student - teacher).mean(-1)
    cosine = F.cosine_similarity(student, teacher, dim=-1)
    loss = per_frame.sum()
    if cosine_weight != 0:
        loss = loss - cosine_weight * F.logsigmoid(cosine).sum()
    return {"loss": loss, "distance": per_frame.sum().detach(), "cosine": cosine.sum().detach()}
