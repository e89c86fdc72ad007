"""Killed and started again is the same as never killed, to the last bit."""

import re

import pytest
import torch

from distill_user_dir.checkpoints.loading import load
from manifests import subset
from tests.commands import kill_at, run, train_command
from tests.helpers import distill_overrides, finetune_overrides, train

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


def test_with_and_without_transcripts(tmp_path, checkpoints, corpus, distilled):
    """Of a run that learns from a fine-tuned teacher, and draws other utterances for each epoch."""
    teacher, resumed, through = tmp_path / "teacher", tmp_path / "resumed", tmp_path / "through"
    for folder in (resumed, through):
        folder.mkdir()
    train("finetune", "laptop", finetune_overrides(checkpoints("tiny"), corpus, teacher))
    subset.subset(str(corpus), "train", "some", 3)
    more = {
        "loss": "ctc_distillation",
        "task.teacher_path": teacher / "checkpoint_last.pt",
        "dataset.train_subset": "'some,train'",
        "task.unlabelled": "[train]",
        "task.labelled_share": 0.4,
        "criterion.transcript_weight": 1.0,
        "model.apply_mask": "true",
        "dataset.batch_size": 2,
        "checkpoint.save_interval_updates": 3,
        "optimization.max_update": 15,
    }

    def command(folder):
        return train_command("finetune", "laptop", finetune_overrides(distilled, corpus, folder, **more))

    kill_at(command(resumed), resumed, 9)
    assert updates(load(str(resumed / "checkpoint_last.pt"))) < 15
    run(command(resumed), resumed)
    run(command(through), through)
    ours, theirs = (load(str(folder / "checkpoint_last.pt"))["model"] for folder in (resumed, through))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


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
