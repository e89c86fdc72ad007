"""Killed and started again is the same as never killed, to the last bit."""

import re

import pytest
import torch

from distill_user_dir.checkpoints.loading import load
from tests.commands import kill_at, run, train_command
from tests.helpers import distill_overrides

pytestmark = pytest.mark.slow

# Everything that draws random numbers is on: crops, dropout, masks, layerdrop, the order of the batches.
RANDOM = {
    "task.pad_audio": "false",
    "task.max_sample_size": 8500,
    "loss": "reg_disc",
    "data": "km50",
    "criterion.discriminative_target": "kmeans",
    "criterion.discriminative_frames": "masked",  # in validations too
    "model.mask_prob": 0.65,
    "model.encoder_layerdrop": 0.3,
    "dataset.num_workers": 2,
    "dataset.batch_size": 2,  # six updates an epoch
    "checkpoint.save_interval_updates": 3,
    "optimization.max_update": 21,
    "lr_scheduler.warmup_updates": 5,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, checkpoints, corpus):
    """Folders of a run that was killed and resumed, and of one that ran through, beside it."""
    resumed, through = tmp_path_factory.mktemp("resumed"), tmp_path_factory.mktemp("through")

    def command(folder):
        return train_command("distill", "laptop", distill_overrides(checkpoints("tiny"), corpus, folder, **RANDOM))

    kill_at(command(resumed), resumed, 9)  # in the middle of epoch 2
    before = load(str(resumed / "checkpoint_last.pt"))
    log = run(command(resumed), resumed)
    run(command(through), through)
    return resumed, through, before, log


def updates(state):
    return state["optimizer_history"][-1]["num_updates"]


def test_was_killed_in_mid_epoch(runs):
    _, _, before, log = runs
    at = before["extra_state"]["train_iterator"]
    assert 9 <= updates(before) < 21 and (at["epoch"], at["iterations_in_epoch"]) == (2, 3)
    assert re.search(r"Loaded checkpoint .*checkpoint_last.pt \(epoch 2 @ 9 updates\)", log)


def test_same_parameters_and_moments(runs):
    resumed, through, before, _ = runs
    ours, theirs = (load(str(folder / "checkpoint_last.pt")) for folder in (resumed, through))
    assert updates(ours) == updates(theirs) == 21
    assert ours["model"].keys() == theirs["model"].keys()
    different = [key for key in ours["model"] if not torch.equal(ours["model"][key], theirs["model"][key])]
    assert not different
    assert all(weight.dtype == torch.float32 for weight in ours["model"].values())
    for index, moments in theirs["last_optimizer_state"]["state"].items():
        for name, value in moments.items():
            assert torch.equal(
                torch.as_tensor(ours["last_optimizer_state"]["state"][index][name]), torch.as_tensor(value)
            )
    assert not torch.equal(before["model"]["mask_emb"], theirs["model"]["mask_emb"])  # masks were drawn
