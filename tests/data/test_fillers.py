"""An update's gradients do not depend on the number of workers, also where the batches do not divide by them."""

import math

import pytest
import torch
from fairseq import tasks
from fairseq.data.iterators import GroupedIterator
from fairseq.distributed import utils as distributed_utils
from fairseq.trainer import Trainer

from distill_user_dir.training.processes import free_port
from tests.commands import listed
from tests.helpers import distill_overrides, finetune_overrides, recipe, write_corpus

MOST = 5  # batches, of two utterances each
STILL = {
    "model.dropout": 0.0,
    "model.attention_dropout": 0.0,
    "model.activation_dropout": 0.0,
    "model.mask_prob": 0.0,
    "optimization.clip_norm": 0.0,
    "optimization.lr": "[0.0]",  # an update leaves the weights to the next one as they were
    "dataset.num_workers": 0,
    "dataset.batch_size": 2,
}


def gradients(cfg, workers):
    """{batches: gradients of one update on all those of the training split}, by fairseq's Trainer."""
    torch.manual_seed(1)
    task = tasks.setup_task(cfg.task)
    model, criterion = task.build_model(cfg.model), task.build_criterion(cfg.criterion)
    trainer = Trainer(cfg, task, model, criterion)
    found = {}
    for batches in range(1, MOST + 1):
        cfg.dataset.train_subset = f"train{batches}"
        epoch = trainer.get_train_iterator(epoch=1, load_dataset=True).next_epoch_itr(shuffle=False)
        log = trainer.train_step(next(GroupedIterator(epoch, math.ceil(MOST / workers))))
        found[batches] = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        found[batches]["loss"] = torch.tensor(log["loss"])
    return found


def work(rank, workers, port, trainings, folder):
    torch.set_num_threads(1)
    found = {}
    for kind, overrides in trainings.items():
        cfg = recipe(kind, "laptop", *listed({**STILL, **overrides}))
        where = cfg.distributed_training
        where.distributed_world_size, where.distributed_rank, where.distributed_backend = workers, rank, "gloo"
        where.distributed_init_method = f"tcp://127.0.0.1:{port}"
        if workers > 1 and not found:
            distributed_utils.distributed_init(cfg)
        found.update({f"{kind}, {batches} batches": one for batches, one in gradients(cfg, workers).items()})
    torch.save(found, f"{folder}/{workers}_{rank}.pt")


@pytest.fixture(scope="module")
def found(tmp_path_factory, checkpoints, distilled):
    """{workers: {a kind of training and a number of batches: the first one's gradients}}."""
    folder = tmp_path_factory.mktemp("fillers")
    lengths = torch.randint(9000, 24000, (2 * MOST,), generator=torch.Generator().manual_seed(3)).tolist()
    corpus = write_corpus(folder, {f"train{n}": lengths[: 2 * n] for n in range(1, MOST + 1)})
    finetune = finetune_overrides(distilled, corpus, folder, **{"model.final_dropout": 0.0})
    finetune.update({"model.mask_channel_prob": 0.0, "model.freeze_finetune_updates": 0})
    distill = distill_overrides(checkpoints("tiny"), corpus, folder, loss="reg_disc")
    trainings = {"distill": distill, "finetune": finetune}
    for workers in (1, 2, 3):
        torch.multiprocessing.start_processes(
            work, (workers, free_port(), trainings, str(folder)), workers, start_method="forkserver"
        )
    return {workers: torch.load(f"{folder}/{workers}_0.pt") for workers in (1, 2, 3)}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_gradients_are_those_of_one_worker(found, workers):
    assert len(found[1]) == len(found[workers]) == 2 * MOST
    for case, one in found[1].items():
        several = found[workers][case]
        assert len(one) > 20 and not any(several[name].any() for name in several.keys() - one.keys())
        scale = max(float(value.abs().max()) for name, value in one.items() if name != "loss")
        worst = max(float((one[name] - several[name]).abs().max()) for name in one if name != "loss")
        print(f"{case}: {workers} workers differ by {worst:.1e} of {scale:.3g}")
        assert worst < 1e-5 * max(1.0, scale)
        assert float(several["loss"]) == pytest.approx(float(one["loss"]), abs=2e-3)
