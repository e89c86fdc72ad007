import numpy as np
import pytest
import torch
from fairseq.data.data_utils import compute_mask_indices

from distill_user_dir.modules.span_mask import span_mask


def runs(row):
    """Lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row.int().numpy(), [0]])))
    return (edges[1::2] - edges[::2]).tolist()


@pytest.mark.parametrize(
    "length, prob, span, least", [(300, 0.65, 10, 2), (80, 0.3, 10, 2), (60, 0.05, 10, 2), (768, 0.5, 64, 0)]
)
def test_share_is_fairseqs(length, prob, span, least):
    draws = 3000
    np.random.seed(1)
    theirs = [compute_mask_indices((1, length), None, prob, span, min_masks=least).mean() for _ in range(draws)]
    torch.manual_seed(1)
    ours = span_mask(torch.full((draws,), length), length, prob, span, least).float().mean(1).numpy()
    error = np.sqrt((np.var(theirs) + np.var(ours)) / draws)
    assert abs(np.mean(ours) - np.mean(theirs)) < 4 * error < 0.02
    assert np.std(ours) == pytest.approx(np.std(theirs), rel=0.15, abs=1e-6)


def test_a_short_neighbour_takes_no_spans_away():
    torch.manual_seed(0)
    lengths = torch.tensor([300, 25]).repeat(1000)
    ours = span_mask(lengths, 300, 0.65, 10, 2)[::2].float().mean()
    alone = span_mask(torch.full((1000,), 300), 300, 0.65, 10, 2).float().mean()
    assert float(ours) == pytest.approx(float(alone), abs=0.01)


@pytest.mark.parametrize("span", [1, 3, 10])
def test_within_the_utterance_and_never_all_of_it(span):
    torch.manual_seed(2)
    lengths = torch.arange(0, 200).repeat(5)
    for prob in (0.05, 0.65, 1.0):
        mask = span_mask(lengths, 200, prob, span, 2)
        for row, length in zip(mask, lengths.tolist()):
            assert not row[length:].any()
            assert length == 0 or not row[:length].all()
            assert all(run >= span for run in runs(row))
            assert length > span or not row.any()
            assert length < 3 * span + 1 or row.any()


def test_every_frame_but_the_last_can_be_masked():
    torch.manual_seed(3)
    share = span_mask(torch.full((4000,), 40), 40, 0.65, 10, 2).float().mean(0)
    assert (share[:39] > 0).all() and share[39] == 0  # a span never begins where it would reach the end, as fairseq's
    np.random.seed(3)
    theirs = np.mean([compute_mask_indices((1, 40), None, 0.65, 10, min_masks=2)[0] for _ in range(4000)], axis=0)
    assert np.abs(share.numpy() - theirs).max() < 0.05


def test_same_seed_same_mask():
    lengths = torch.tensor([100, 80])
    torch.manual_seed(5)
    first, second = span_mask(lengths, 100, 0.5, 10), span_mask(lengths, 100, 0.5, 10)
    torch.manual_seed(5)
    assert torch.equal(span_mask(lengths, 100, 0.5, 10), first)
    assert not torch.equal(first, second)
