import pytest
import torch

from distill_user_dir.losses.frontend import frontend_loss


@pytest.mark.parametrize("distance, power", [("l1", 1), ("l2", 2)])
def test_by_hand_over_valid_frames(distance, power):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 5, 3), torch.randn(2, 5, 3)
    valid = torch.tensor([[True] * 5, [True, True, False, False, False]])
    expected = 0.0
    for b, frames in ((0, 5), (1, 2)):
        for t in range(frames):
            expected += sum(abs(float(student[b, t, d] - teacher[b, t, d])) ** power for d in range(3)) / 3
    assert float(frontend_loss(student[valid], teacher[valid], distance)) == pytest.approx(expected, rel=1e-5)
    student[1, 2:] = float("inf")  # whatever is in the padding
    assert float(frontend_loss(student[valid], teacher[valid], distance)) == pytest.approx(expected, rel=1e-5)
