"""An update asks the device for nothing: what the CPU has to know of a batch, the data set has told it."""

import numpy as np
import pytest
import torch
from fairseq import tasks
from torch.utils._pytree import tree_flatten

from tests.commands import listed
from tests.helpers import distill_overrides, finetune_overrides, recipe, write_corpus, write_labels
from tests.training.waits import CountCopies, CountWaits

KINDS = {
    "regression": {},
    "soft": {"loss": "reg_disc"},
    "hard": {"loss": "reg_disc", "criterion.discriminative_target": "hard"},
    "kmeans": {"loss": "kmeans", "data": "km50"},
    "two sets": {
        **{"loss": "kmeans", "data": "km50", "task.labels": "[km,km2]", "criterion.discriminative_head": "linear"},
        "criterion.discriminative_layers": "[1,3]",
    },
    "centres": {
        **{"loss": "reg_disc", "criterion.discriminative_head": "linear", "task.centres": "[EVEN/a.npy,EVEN/b.npy]"},
        **{"criterion.discriminative_target": "distances", "criterion.discriminative_teacher_layers": "[1,3]"},
    },
    "stage 1": {"frontend": "fbank"},
    "stage 2": {"frontend": "fbank", "criterion.frontend_updates": 0},
}


@pytest.fixture(scope="module")
def even(tmp_path_factory):
    """Some utterances of the same length, and some of others."""
    folder = write_corpus(tmp_path_factory.mktemp("even"), {"train": [16000] * 3 + [12000, 9000]})
    write_labels(folder, ["train"])
    write_labels(folder, ["train"], clusters=7, name="km2")
    for seed, name in enumerate("ab"):
        np.save(str(folder / f"{name}.npy"), np.random.RandomState(seed).normal(0, 1, (9, 48)).astype(np.float32))
    return folder


class Optimizer:
    has_flat_params = False

    @staticmethod
    def backward(loss):
        loss.backward()


def counted(cfg, utterances):
    """{(operation, place): how often} forward and backward of a batch wait for the device, called as by the trainer."""
    task = tasks.setup_task(cfg.task)
    model, criterion = task.build_model(cfg.model).train(), task.build_criterion(cfg.criterion).train()
    task.load_dataset("train")
    dataset = task.datasets["train"]
    sample = dataset.collater([dataset[i] for i in utterances])
    teacher = []
    if task.teacher is not None:  # it is moved once
        held = task.teacher.to(torch.device("cpu"), torch.float32).model
        teacher = [*held.parameters(), *held.buffers(), *(task.teacher.head.buffers() if task.teacher.head else ())]
    there = [one for one in tree_flatten(sample)[0] if isinstance(one, torch.Tensor)]
    with CountWaits([*model.parameters(), *model.buffers(), *teacher, *there]) as mode, CountCopies(mode) as copies:
        task.train_step(sample, model, criterion, Optimizer(), 0)
    assert mode.launches > 100 and not copies.waits
    return mode.waits


@pytest.mark.parametrize("utterances", [(0, 1, 2), (0, 1, 3, 4)], ids=["even", "padded"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_distillation_never_waits(checkpoints, even, stats, tmp_path, kind, utterances):
    kinds = {key: str(value).replace("EVEN", str(even)) for key, value in KINDS[kind].items()}
    overrides = {"model.fbank_stats": stats, **kinds}
    cfg = recipe("distill", "laptop", *listed(distill_overrides(checkpoints("tiny"), even, tmp_path, **overrides)))
    assert not counted(cfg, utterances)


@pytest.mark.parametrize("utterances", [(0, 1, 2), (0, 1, 3, 4)], ids=["even", "padded"])
def test_fine_tuning_waits_nowhere_in_our_code(distilled, even, tmp_path, utterances):
    overrides = {"model.apply_mask": "true", "model.mask_channel_prob": 0.2}
    cfg = recipe("finetune", "laptop", *listed(finetune_overrides(distilled, even, tmp_path, **overrides)))
    waits = counted(cfg, utterances)
    ours = {where: times for where, times in waits.items() if not where[1].endswith(("train_step", "backward"))}
    assert not ours, waits


def test_waits_are_seen():
    there = torch.ones(3)
    with CountWaits([there]) as mode:
        bool((there + 1).sum())
        there[there > 0]
        torch.ones(3)[torch.ones(3) > 0]  # on the CPU
    with CountWaits([there]) as mode2, CountCopies(mode2) as copies:
        torch.ones(3).to(there.device)
        there.to(torch.device("cpu"))
    assert sum(copies.waits.values()) == 1
    assert sorted(name for name, _ in mode.waits) == ["_local_scalar_dense", "index"] and mode.launches >= 4
