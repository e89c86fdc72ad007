"""Regression of teacher layers (Wang et al., section 3.1): L1 or L2, and the cosine."""

from typing import Any, Dict, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

DISTANCES = {"l1": torch.abs, "l2": torch.square}
SMALLEST_NORM = 1e-8  # as F.cosine_similarity


class _Regression(torch.autograd.Function):
    """(F, D) student, (F, D) teacher -> sums over the frames: loss, distance, cosine. It keeps the gradient alone, one
    tensor of the student's size and type, where autograd would keep both sides and what lies between in float32."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, distance: str, weight: float) -> Tuple[Tensor, ...]:
        s, t = student.float(), teacher.float()
        difference = s - t
        per_frame = DISTANCES[distance](difference).mean(-1)
        s_norm, t_norm = (x.norm(dim=-1, keepdim=True).clamp(min=SMALLEST_NORM) for x in (s, t))
        cosine = (s * t).sum(-1, keepdim=True) / (s_norm * t_norm)
        loss = per_frame.sum() - weight * F.logsigmoid(cosine).sum()
        if student.requires_grad:
            gradient = difference.sign() if distance == "l1" else difference.mul_(2)
            gradient /= student.size(-1)
            slope = -weight * torch.sigmoid(-cosine) / s_norm  # of -log sigmoid, by the direction of the student
            gradient += slope / t_norm * t
            gradient -= slope * cosine / s_norm * s
            ctx.save_for_backward(gradient.to(student.dtype))
        return loss, per_frame.sum(), cosine.sum()

    @staticmethod
    def backward(ctx: Any, of_loss: Tensor, *others: Any) -> Tuple[Any, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * of_loss.to(gradient.dtype), None, None, None


def regression(student: Tensor, teacher: Tensor, distance: str, cosine_weight: float) -> Dict[str, Tensor]:
    """One layer's loss: distance averaged over the features + cosine_weight * (-log sigmoid(cosine)), in float32.

    student, teacher: (F, D), the valid frames. Returns sums over these: `loss`, `distance` and `cosine` (the plain
    cosine similarity, for the log). Divide by their number for means.
    """
    loss, far, cosine = _Regression.apply(student, teacher, distance, cosine_weight)
    return {"loss": loss, "distance": far.detach(), "cosine": cosine.detach()}
