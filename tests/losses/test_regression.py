import numpy as np
import pytest
import torch

from distill_user_dir.losses.regression import regression


@pytest.fixture
def given():
    """(student, teacher, valid): two utterances of 7 and 4 frames, 5 features."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 7, 5, generator=generator) for _ in range(2))
    return student, teacher, torch.tensor([[True] * 7, [True] * 4 + [False] * 3])


def by_hand(student, teacher, frames, distance, weight):
    """The formula, frame by frame: (loss, distance, cosine), summed."""
    total, far, near = 0.0, 0.0, 0.0
    for b, t in frames:
        s, h = student[b, t].astype(np.float64), teacher[b, t].astype(np.float64)
        d = np.mean(np.abs(s - h) if distance == "l1" else (s - h) ** 2)
        c = np.dot(s, h) / (np.linalg.norm(s) * np.linalg.norm(h))
        total, far, near = total + d + weight * np.log(1 + np.exp(-c)), far + d, near + c
    return total, far, near


FRAMES = [(0, t) for t in range(7)] + [(1, t) for t in range(4)]


@pytest.mark.parametrize("distance", ["l1", "l2"])
@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_formula(given, distance, weight):
    student, teacher, valid = given
    sums = regression(student[valid], teacher[valid], distance, weight)
    expected = by_hand(student.numpy(), teacher.numpy(), FRAMES, distance, weight)
    assert [float(sums[name]) for name in ("loss", "distance", "cosine")] == pytest.approx(expected, rel=1e-5)


def test_worked_example():
    student, teacher = torch.tensor([[[3.0, 0.0]]]), torch.tensor([[[0.0, 4.0]]])
    sums = regression(student[0], teacher[0], "l1", 1.0)
    assert float(sums["loss"]) == pytest.approx(3.5 + np.log(2))  # cosine 0: -log(1/2)
    sums = regression(student[0], teacher[0], "l2", 0.0)
    assert float(sums["loss"]) == pytest.approx(12.5)


@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_gradient_is_autograds(given, distance):
    student, teacher, valid = given
    student.requires_grad_()
    (3 * regression(student[valid], teacher[valid], distance, 2.5)["loss"]).backward()
    found, student.grad = student.grad, None
    s, t = student[valid], teacher[valid]
    far = (s - t).abs() if distance == "l1" else (s - t) ** 2
    cosine = torch.nn.functional.cosine_similarity(s, t, dim=-1)
    (3 * (far.mean(-1) - 2.5 * torch.nn.functional.logsigmoid(cosine)).sum()).backward()
    assert torch.allclose(found, student.grad, rtol=1e-4, atol=1e-6)


def test_padding_is_without_influence_and_gradient(given):
    student, teacher, valid = given
    before = regression(student[valid], teacher[valid], "l1", 1.0)
    student, teacher = student.clone(), teacher.clone()
    student[~valid], teacher[~valid] = 1e6, float("nan")
    student.requires_grad_()
    after = regression(student[valid], teacher[valid], "l1", 1.0)
    assert all(torch.equal(before[name], after[name]) for name in before)
    after["loss"].backward()
    assert (student.grad[~valid] == 0).all() and (student.grad[valid] != 0).all()


def test_half_precision_is_computed_in_float32(given):
    student, teacher, valid = given
    student, teacher = student.half(), teacher.half()
    sums = regression(student[valid], teacher[valid], "l2", 1.0)
    expected = by_hand(student.numpy(), teacher.numpy(), FRAMES, "l2", 1.0)
    assert sums["loss"].dtype == torch.float32 and float(sums["loss"]) == pytest.approx(expected[0], rel=1e-5)
