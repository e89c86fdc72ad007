"""SIGTERM, by which a scheduler takes a machine away: a checkpoint of the last update, and status 143."""

import functools
import logging
import os
import signal
import sys
import threading
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from fairseq import checkpoint_utils
from fairseq.trainer import Trainer
from fairseq_cli import train
from torch.utils.data import DataLoader

logger = logging.getLogger(__name__)

PREEMPTED = 128 + signal.SIGTERM  # what a shell, and so a scheduler, sees of a process that SIGTERM ended
PATIENCE = 120  # seconds in which a worker that was told has to reach the end of an update, with all others
INTERRUPTED = "interrupted"  # in a checkpoint that SIGTERM has caused: what was due at its update has yet to come
fairseqs_aggregate, fairseqs_valid_step = Trainer._aggregate_logging_outputs, Trainer.valid_step
fairseqs_validate_and_save = train.validate_and_save
torchs_iter = DataLoader.__iter__


class Preemption:
    """told: whether SIGTERM has come to this worker; agreed: whether it has to any, as all of them know since the last
    update or batch of a validation; saving: how the run is saved where it is; ending: whether there is nothing more to
    wait for."""

    def __init__(self) -> None:
        self.workers, self.told, self.agreed = 1, False, False
        self.saving: Optional[Callable[[], Any]] = None
        self.ending = threading.Event()

    def watch(self, workers: int) -> None:
        """From here on, SIGTERM is taken note of."""
        self.workers = workers
        signal.signal(signal.SIGTERM, self.take_note)
        if workers > 1:
            reader, writer = os.pipe()
            os.set_blocking(writer, False)
            signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
            threading.Thread(target=self.give_up, args=(reader,), daemon=True).start()

    def take_note(self, *_: Any) -> None:
        self.told = True

    def give_up(self, signals: int) -> None:
        """A worker whose others are gone waits for them within a call of torch's, where no handler of Python's runs;
        this thread ends it. signals: where the numbers of those that come can be read."""
        while os.read(signals, 1) != bytes([signal.SIGTERM]):
            continue
        if not self.ending.wait(PATIENCE):
            os.write(2, b"SIGTERM: the other workers do not come to the end of this update; ended without saving\n")
            os._exit(PREEMPTED)

    def leave_if_told(self, trainer: Trainer) -> None:
        """All workers leave at the same place, once the first one has written the checkpoint."""
        told = self.agreed if self.workers > 1 else self.told
        if not told or self.saving is None:
            return
        self.ending.set()
        self.saving()
        logger.info(f"SIGTERM: saved at update {trainer.get_num_updates()}; the same command goes on from there")
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        sys.exit(PREEMPTED)


preemption = Preemption()


def aggregate(
    trainer: Trainer, logging_outputs: List[Dict[str, Any]], *sums: Any, ignore: bool = False
) -> Tuple[List[Dict[str, Any]], List[Any]]:
    """fairseq's sums over all workers, behind each update and each batch of a validation. SIGTERM is one more of them:
    a call of its own could meet another one's in another order."""
    outputs, found = fairseqs_aggregate(trainer, logging_outputs, *sums, float(preemption.told), ignore=ignore)
    preemption.agreed = bool(found[-1] > 0)
    return outputs, found[:-1]


def validate_and_save(
    cfg: Any, trainer: Trainer, task: Any, epoch_itr: Any, valid_subsets: List[str], end_of_epoch: bool
) -> Tuple[List[Optional[float]], bool]:
    """fairseq's, called behind every update; a run that has come to its end just ends."""
    finished = trainer.get_num_updates() >= (cfg.optimization.max_update or float("inf"))
    preemption.saving = None if finished else functools.partial(save_interrupted, cfg.checkpoint, trainer, epoch_itr)
    if finished:
        preemption.ending.set()
    preemption.leave_if_told(trainer)
    return fairseqs_validate_and_save(cfg, trainer, task, epoch_itr, valid_subsets, end_of_epoch)


def save_interrupted(cfg: Any, trainer: Trainer, epoch_itr: Any) -> None:
    """fairseq's checkpoint of this update, which tells that it was not meant to be."""
    save = trainer.save_checkpoint
    trainer.save_checkpoint = lambda path, state: save(path, {**state, INTERRUPTED: True})
    checkpoint_utils.save_checkpoint(cfg, trainer, epoch_itr, None)


def valid_step(trainer: Trainer, sample: Any, raise_oom: bool = False) -> Any:
    """fairseq's; a validation may take longer than a scheduler waits."""
    preemption.leave_if_told(trainer)
    return fairseqs_valid_step(trainer, sample, raise_oom)


def outlive_sigterm(ending: Any, worker: int) -> None:
    """A data worker heeds SIGTERM, by which multiprocessing ends it, only where the training is `ending`."""
    signal.set_wakeup_fd(-1)  # the training's
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0) if ending.is_set() else None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def start_data_workers(loader: DataLoader) -> Any:
    """torch's, whose workers have a handler of their own until they come to `outlive_sigterm`: one that ends them, and
    with them the training. SIGTERM waits for so long."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        return torchs_iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
