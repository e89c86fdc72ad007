"""Going on from the newest whole checkpoint, and with what was due there."""

import glob
import logging
import os
import re
from functools import partial
from typing import Any, Callable, Tuple

import torch
from fairseq import checkpoint_utils
from fairseq.trainer import Trainer
from fairseq_cli import train

from distill_user_dir.checkpoints.loading import CheckpointError, damage, load
from distill_user_dir.messages import reason
from distill_user_dir.training import preemption
from distill_user_dir.training.saving import WholeCopies

logger = logging.getLogger(__name__)

fairseqs_load_checkpoint, fairseqs_load_state = checkpoint_utils.load_checkpoint, Trainer.load_checkpoint
fairseqs_train, fairseqs_begin_epoch = train.train, Trainer.begin_epoch


def load_checkpoint(cfg: Any, trainer: Trainer, **kwargs: Any) -> Tuple[Any, Any]:
    """fairseq's, from the newest whole checkpoint; SIGTERM is taken note of from here on."""
    if cfg.restore_file != "checkpoint_last.pt" and not os.path.isfile(cfg.restore_file):  # else fairseq begins anew
        raise CheckpointError(f"checkpoint.restore_file={cfg.restore_file}: no such file; correct it, or leave it out")
    if cfg.restore_file == "checkpoint_last.pt" and trainer.data_parallel_rank == 0:
        for leftover in glob.glob(os.path.join(glob.escape(cfg.save_dir), "checkpoint*.pt.tmp")):
            os.remove(leftover)
        use_newest_whole(cfg.save_dir)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    loaded = fairseqs_load_checkpoint(cfg, trainer, **kwargs)
    preemption.preemption.watch(trainer.data_parallel_world_size)
    validation.due = loaded[0] is not None and preemption.INTERRUPTED in loaded[0]
    return loaded


class Validation:
    """due: whether SIGTERM has caused the checkpoint that the run goes on from, so that a validation of its update may
    have yet to come."""

    due = False
    call: Callable[[], Any]


validation = Validation()


def train_epoch(cfg: Any, trainer: Trainer, task: Any, epoch_itr: Any) -> Any:
    """fairseq's, which would train an update more of a run that has come to its end."""
    if trainer.get_num_updates() >= (cfg.optimization.max_update or float("inf")):
        logger.info(f"this run ended at update {trainer.get_num_updates()}: checkpoint.save_dir has all of it")
        return [None], True
    subsets = cfg.dataset.valid_subset.split(",")
    validation.call = partial(preemption.validate_and_save, cfg, trainer, task, epoch_itr, subsets, False)
    return fairseqs_train(cfg, trainer, task, epoch_itr)


def begin_epoch(trainer: Trainer, epoch: int) -> None:
    """fairseq's, and what was due at the last update before the run was stopped."""
    fairseqs_begin_epoch(trainer, epoch)
    if validation.due:
        validation.due = False
        trainer.get_model().set_num_updates(trainer.get_num_updates() - 1)  # a validation is of the stage before it
        validation.call()


def load_state(trainer: Trainer, filename: str, *arguments: Any, **options: Any) -> Any:
    """fairseq's, of a file; CheckpointError where it is not of the training that goes on."""
    try:
        return fairseqs_load_state(trainer, filename, *arguments, **options)
    except CheckpointError:
        raise
    except Exception as error:  # fairseq's own is a bare one; of a state that no such training wrote, anything
        raise CheckpointError(
            f"{filename}: of another model or training than this recipe's ({type(error).__name__}: {reason(error)}); "
            "give another checkpoint.save_dir or restore_file, or take that recipe"
        ) from error


def updates_of(path: str) -> int:
    """In the name of a checkpoint of an update, checkpoint_EPOCH_UPDATE.pt; -1 in any other."""
    found = re.search(r"checkpoint_\d+_(\d+)\.pt$", path)
    return int(found.group(1)) if found else -1


def use_newest_whole(save_dir: str) -> None:
    """checkpoint_last.pt becomes the newest whole checkpoint: not if it is damaged, nor where the run was killed
    between another one and its copy. CheckpointError where none is whole."""
    last = os.path.join(save_dir, "checkpoint_last.pt")
    others = [path for path in glob.glob(os.path.join(glob.escape(save_dir), "checkpoint*.pt")) if path != last]
    others.sort(key=lambda path: (updates_of(path), os.path.getmtime(path)), reverse=True)
    if not os.path.exists(last) and not any(updates_of(path) >= 0 for path in others):
        return
    wrong = damage(last) if os.path.exists(last) else f"{last}: not there"
    if not wrong:
        history = load(last, mapped=True).get("optimizer_history") or [{}]
        others = [path for path in others if updates_of(path) > history[-1].get("num_updates", 0)]
    for path in others:
        if not damage(path):
            logger.warning(f"{wrong or last + ': older'}; going on from {path}")
            if wrong and os.path.exists(last):
                os.replace(last, f"{last}.damaged")
            WholeCopies.copy(path, last)
            return
    if wrong:
        raise CheckpointError(
            f"{wrong}; no other checkpoint in {save_dir} is whole: remove it to start from the beginning"
        )
