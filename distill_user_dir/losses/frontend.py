"""The loss of front-end distillation (Wang et al., section 3.3), as a sum over valid frames."""

from torch import Tensor

from distill_user_dir.losses.regression import DISTANCES


def frontend_loss(student: Tensor, teacher: Tensor, valid: Tensor, distance: str) -> Tensor:
    """(B, T, D), (B, T, D), (B, T) bool -> the distance averaged over D, summed over the valid frames, in float32."""
    return DISTANCES[distance](student[valid].float() - teacher[valid].float()).mean(-1).sum()
