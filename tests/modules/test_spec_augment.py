import pytest
import torch

from distill_user_dir.modules.spec_augment import SpecAugment, bands


def runs(mask):
    """Lengths of the runs of True in a (N,) mask."""
    text = "".join("x" if value else " " for value in mask.tolist())
    return [len(run) for run in text.split()]


def test_widths_and_starts_are_uniform():
    """One band in many rows: the widths 0 to 4 equally often; each start that is possible for a width equally often."""
    torch.manual_seed(0)
    rows = 50000
    mask = bands(torch.full((rows,), 10), 10, 1, torch.full((rows,), 4))
    widths = mask.sum(1)
    assert torch.bincount(widths, minlength=5) / rows == pytest.approx(torch.full((5,), 0.2), abs=0.01)
    starts = mask[widths == 4].int().argmax(1)
    assert torch.bincount(starts) / len(starts) == pytest.approx(torch.full((7,), 1 / 7), abs=0.02)
    assert all(len(runs(row)) <= 1 for row in mask[:500])


def test_masks_are_whole_bands_within_the_utterance():
    torch.manual_seed(0)
    lengths = torch.tensor([200, 50, 5, 1])
    augment = SpecAugment(2, 30, 2, 40, 0.5).train()
    seen = 0
    for _ in range(50):
        x = augment(torch.ones(4, 200, 80), lengths)
        for one, length in zip(x, lengths.tolist()):
            dropped_bins = (one == 0).all(0)
            dropped_frames = (one == 0).all(1)
            assert int(dropped_bins.sum()) <= 60 and len(runs(dropped_bins)) <= 2
            assert not bool(dropped_frames[length:].any())
            assert int(dropped_frames.sum()) <= min(80, 2 * (length // 2)) and len(runs(dropped_frames)) <= 2
            assert bool(((one == 0) == (dropped_bins | dropped_frames.unsqueeze(1))).all())
            seen += int(dropped_bins.any()) + int(dropped_frames.any())
    assert seen > 200


def test_the_seed_decides():
    augment, x, lengths = SpecAugment(2, 30, 2, 40).train(), torch.ones(3, 100, 80), torch.tensor([100, 80, 9])
    torch.manual_seed(1)
    first, second = augment(x, lengths), augment(x, lengths)
    torch.manual_seed(1)
    assert torch.equal(augment(x, lengths), first) and not torch.equal(first, second)


def test_nothing_happens_in_eval_mode_or_without_masks():
    x, lengths = torch.ones(3, 100, 80), torch.tensor([100, 80, 9])
    state = torch.get_rng_state()
    assert SpecAugment(2, 30, 2, 40).eval()(x, lengths) is x
    assert SpecAugment(0, 30, 0, 40).train()(x, lengths) is x
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("wrong", [(-1, 30, 2, 40, 1.0), (2, 30, 2, 40, 1.5)])
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="SpecAugment"):
        SpecAugment(*wrong)
