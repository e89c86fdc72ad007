"""The loss of front-end distillation (Wang et al., section 3.3), as a sum over valid frames."""

from torch import Tensor

from distill_user_dir.losses.regression import DISTANCES


def frontend_loss(student: Tensor, teacher: Tensor, distance: str) -> Tensor:
    """(F, D), (F, D) -> the distance averaged over D, summed over the F valid frames, in float32."""
    return DISTANCES[distance](student.float() - teacher.float()).mean(-1).sum()
