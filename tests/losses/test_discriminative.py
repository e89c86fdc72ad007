import math

import pytest
import torch

from distill_user_dir.losses.discriminative import agreement, hard_loss, soft_loss


def test_soft_loss_by_hand():
    """Two clusters, posteriors (0.9, 0.1) and (0.5, 0.5): 0.9 ln 1.8 + 0.1 ln 0.2."""
    teacher = torch.tensor([[math.log(9) / 10, 0.0]])
    student = torch.zeros(1, 2)
    expected = 0.9 * math.log(1.8) + 0.1 * math.log(0.2)
    assert float(soft_loss(student, teacher, 1.0, 0.1)) == pytest.approx(expected, rel=1e-5)


def test_soft_loss_is_none_where_both_agree_and_sums_over_frames():
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    assert float(soft_loss(x, x, 0.1, 0.1)) == pytest.approx(0, abs=1e-5)
    assert float(soft_loss(0.2 * x, 0.1 * x, 0.2, 0.1)) == pytest.approx(0, abs=1e-5)
    y = x.flip(0)
    frames = sum(float(soft_loss(x[i : i + 1], y[i : i + 1], 1.0, 0.5)) for i in range(7))
    assert float(soft_loss(x, y, 1.0, 0.5)) == pytest.approx(frames, rel=1e-5) and frames > 0


def test_only_the_student_gets_a_gradient():
    student, teacher = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    soft_loss(student, teacher, 0.1, 0.1).backward()
    assert teacher.grad is None and float(student.grad.abs().sum()) > 0


def test_hard_loss_by_hand():
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    expected = math.log(math.e + 2) - 1 + math.log(2 + math.exp(0.5))
    assert float(hard_loss(logits, torch.tensor([0, 1]), 2.0)) == pytest.approx(expected, rel=1e-5)


def test_agreement_counts():
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 3.0, 1.0], [0.0, 3.0, 1.0]])
    hits, counts = agreement(logits, torch.tensor([0, 1, 2]))
    assert int(hits) == 2 and counts.tolist() == [1, 1, 1]
    assert agreement(logits[:0], torch.zeros(0, dtype=torch.long))[1].tolist() == [0, 0, 0]


def test_no_frame_is_no_loss():
    empty = torch.zeros(0, 3, requires_grad=True)
    for loss in (soft_loss(empty, torch.zeros(0, 3), 0.1, 0.1), hard_loss(empty, torch.zeros(0).long(), 0.1)):
        assert float(loss) == 0
        loss.backward()
