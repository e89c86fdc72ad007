"""Two processes give what one with twice the update_freq gives; started by spawn, and by torchrun."""

import re
import sys

import numpy as np
import pytest
import torch

from distill_user_dir.checkpoints.loading import load
from manifests import subset
from tests.commands import run, train_command
from tests.helpers import distill_overrides, finetune_overrides, train

pytestmark = pytest.mark.slow

UPDATES = 4
NO_DROPOUT = {
    "model.dropout": 0.0,
    "model.attention_dropout": 0.0,
    "model.activation_dropout": 0.0,
    "optimization.max_update": UPDATES,
    "dataset.validate_interval_updates": UPDATES,
    "dataset.batch_size": 2,  # six batches an epoch: three updates
    "dataset.num_workers": 1,
    "common.log_format": "json",
    "optimization.lr": "[0.001]",
    "optimizer.adam_eps": 1e-3,  # else a gradient of rounding errors alone moves a weight by as much as any other
}


def distillation(checkpoints, corpus, distilled, stats):
    more = {"lr_scheduler.warmup_updates": 1, "loss": "reg_disc", "model.mask_prob": 0.0}
    return "distill", lambda folder: distill_overrides(checkpoints("tiny"), corpus, folder, **NO_DROPOUT, **more)


def cluster_layers(checkpoints, corpus, distilled, stats):
    """Two label sets by their centres, each predicted by a layer of its own."""
    paths = [corpus.parent / f"distributed_{layer}.npy" for layer in (1, 3)]
    for seed, path in enumerate(paths):
        np.save(str(path), np.random.RandomState(seed).normal(0, 1, (9 + seed, 48)).astype(np.float32))
    more = {"criterion.discriminative_target": "distances", "criterion.discriminative_head": "linear"}
    more.update({"task.centres": f"[{paths[0]},{paths[1]}]", "criterion.discriminative_teacher_layers": "[1,3]"})
    folder, overrides = distillation(checkpoints, corpus, distilled, stats)
    return folder, lambda save_dir: {**overrides(save_dir), **more, "criterion.discriminative_layers": "[2,3]"}


def front_end(checkpoints, corpus, distilled, stats):
    more = {"lr_scheduler.warmup_updates": 1, "frontend": "fbank", "model.fbank_stats": stats}
    more["criterion.frontend_updates"] = 2  # two updates in each stage
    return "distill", lambda folder: distill_overrides(checkpoints("tiny"), corpus, folder, **NO_DROPOUT, **more)


def fine_tuning(checkpoints, corpus, distilled, stats):
    more = {"lr_scheduler.warmup_steps": 1, "lr_scheduler.hold_steps": 8, "lr_scheduler.decay_steps": 1}
    more.update({"model.mask_prob": 0.0, "model.mask_channel_prob": 0.0, "model.freeze_finetune_updates": 0})
    more.update({"model.final_dropout": 0.0, "dataset.max_tokens": 100000})
    return "finetune", lambda folder: finetune_overrides(distilled, corpus, folder, **{**NO_DROPOUT, **more})


def ctc_distillation(checkpoints, corpus, distilled, stats):
    """A third of the utterances have transcripts; some batches have none."""
    folder, overrides = fine_tuning(checkpoints, corpus, distilled, stats)
    teacher = corpus.parent / "distributed_teacher"
    if not teacher.exists():
        train("finetune", "laptop", finetune_overrides(checkpoints("tiny"), corpus, teacher))
    subset.subset(str(corpus), "train", "few", 4)
    more = {"loss": "ctc_distillation", "task.teacher_path": teacher / "checkpoint_last.pt"}
    more.update({"dataset.train_subset": "'few,train'", "task.unlabelled": "[train]", "task.labelled_share": 0.3})
    more.update({"criterion.pseudo_weight": 1.0, "criterion.transcript_weight": 1.0})
    more.update({"model.keep_heads": "true", "criterion.regression_weight": 1.0})
    return folder, lambda save_dir: {**overrides(save_dir), **more}


def validations(log):
    """Every figure of the validation but those of speed and of a step's size."""
    (line,) = re.findall(r'\{"epoch": \d+, "valid_.*\}', log)
    found = dict(re.findall(r'"(\w+)": "?([-\d.]+)"?', line))
    others = ("wps", "wpb", "bsz", "ups", "wall", "ntokens", "nsentences")
    return {key: float(value) for key, value in found.items() if not key.endswith(others)}


@pytest.mark.parametrize("kind", [distillation, cluster_layers, front_end, fine_tuning, ctc_distillation])
def test_two_processes_are_one_with_twice_the_update_freq(tmp_path, checkpoints, corpus, distilled, stats, kind):
    folder, overrides = kind(checkpoints, corpus, distilled, stats)
    logs, states = {}, {}
    for name, more in {
        "one": {"optimization.update_freq": "[2]"},
        "two": {"optimization.update_freq": "[1]", "distributed_training.distributed_world_size": 2},
    }.items():
        command = train_command(folder, "laptop", {**overrides(tmp_path / name), **more}, surviving=True)
        logs[name] = run(command, tmp_path)
        states[name] = load(str(tmp_path / name / "checkpoint_last.pt"))
    start = max(float(w.abs().max()) for w in states["one"]["model"].values())
    different = {
        key: float((states["two"]["model"][key].double() - weight.double()).abs().max())
        for key, weight in states["one"]["model"].items()
    }
    print(kind.__name__, "largest difference of a weight", max(different.values()), "of", start)
    assert max(different.values()) < 1e-5
    first = load(distilled)["model"]["encoder.layers.0.fc1.weight"]
    weights = states["one"]["model"]
    (learned,) = (weights[key] for key in weights if key.endswith("encoder.layers.0.fc1.weight"))
    assert learned.shape == first.shape and float((learned - first).abs().max()) > 1e-4
    assert all(states[name]["optimizer_history"][-1]["num_updates"] == UPDATES for name in states)
    ours, theirs = validations(logs["two"]), validations(logs["one"])
    assert ours.keys() == theirs.keys() and "valid_loss" in ours
    assert all(ours[key] == pytest.approx(theirs[key], abs=2e-3) for key in ours), (ours, theirs)
    for said in ("Saved checkpoint", f'"valid_num_updates": "{UPDATES}"', f'"num_updates": "{UPDATES}"'):
        assert logs["two"].count(said) == logs["one"].count(said) > 0  # once, not by each worker


def test_torchrun_starts_them_as_spawn_does(tmp_path, checkpoints, corpus, distilled, stats):
    folder, overrides = distillation(checkpoints, corpus, distilled, stats)
    spawned = {"distributed_training.distributed_world_size": 2}
    run(train_command(folder, "laptop", {**overrides(tmp_path / "spawn"), **spawned}, surviving=True), tmp_path)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    command = train_command(folder, "laptop", overrides(tmp_path / "torchrun"), surviving=True)
    run(torchrun + command[2:], tmp_path)
    ours, theirs = (load(str(tmp_path / name / "checkpoint_last.pt"))["model"] for name in ("torchrun", "spawn"))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
