import itertools
import math

import pytest
import torch

from distill_user_dir.losses.ctc import Units, best_path, blank_weights, ctc, frame_kl


def test_frame_kl_by_hand():
    student, teacher, t = torch.tensor([[1.0, 0.0, -1.0], [0.0, 2.0, 0.5]]), torch.tensor([[0.0, 3.0, 1.0]] * 2), 2.0
    found = frame_kl(student, teacher, t)
    for row in range(2):
        exps = [[math.exp(float(x) / t) for x in logits[row]] for logits in (student, teacher)]
        q, p = ([e / sum(one) for e in one] for one in exps)
        assert float(found[row]) == pytest.approx(t * t * sum(a * math.log(a / b) for a, b in zip(p, q)), rel=1e-5)


def test_blank_weights_by_hand():
    """A blank of probability 0.9 and one of 0.5, at a threshold between them."""
    logits = torch.log(torch.tensor([[0.9, 0.1], [0.5, 0.5]]))
    assert blank_weights(logits, 0.8, 0.25).tolist() == [0.25, 1.0]


def test_best_path_is_each_utterances_own():
    torch.manual_seed(0)
    logits, frames = torch.randn(6, 30, 4), torch.tensor([30, 1, 17, 8, 30, 3])
    logits[4, :, 0] = 9.0  # nothing but blank
    found = best_path(logits, torch.arange(30) >= frames[:, None])
    for one, count, units in zip(logits, frames, found.flat.split(found.lengths.tolist())):
        path = one[:count].argmax(-1).unique_consecutive()
        assert units.tolist() == path[path != 0].tolist()
    assert found.lengths[4] == 0


def probability(probs, units):
    """Of these units, summed over all paths."""
    total = 0.0
    for path in itertools.product(range(probs.size(1)), repeat=len(probs)):
        spelled = [unit for i, unit in enumerate(path) if unit and (i == 0 or unit != path[i - 1])]
        total += math.prod(float(probs[t, unit]) for t, unit in enumerate(path)) if spelled == units else 0.0
    return total


def test_ctc_is_a_sum_over_the_utterances_with_units():
    torch.manual_seed(1)
    logits = torch.randn(3, 4, 3, requires_grad=True)
    log_probs, frames = logits.log_softmax(-1), torch.tensor([4, 3, 4])
    found = ctc(log_probs, frames, Units(torch.tensor([1, 1, 2]), torch.tensor([2, 1, 0])))
    expected = [-math.log(probability(log_probs[i, :n].exp(), units)) for i, n, units in ((0, 4, [1, 1]), (1, 3, [2]))]
    assert float(found) == pytest.approx(sum(expected), rel=1e-5)
    found.backward()
    assert not logits.grad[2].any() and not logits.grad[1, 3].any() and logits.grad[:2].any()


def test_too_many_units_are_no_infinite_loss():
    log_probs = torch.zeros(1, 2, 3).log_softmax(-1)
    assert float(ctc(log_probs, torch.tensor([2]), Units(torch.tensor([1, 1]), torch.tensor([2])))) == 0
