"""All that `python -m distill_user_dir.train` changes of fairseq's training, so that a long run survives."""

import contextlib
import functools
import glob
import logging
import multiprocessing
import os
import re
import shutil
import signal
import socket
import sys
import traceback
from typing import Any, Callable, Iterator, List, Optional, Tuple

import torch
from fairseq import checkpoint_utils
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager
from fairseq.trainer import Trainer
from fairseq_cli import train
from torch.utils.data import DataLoader

from distill_user_dir.checkpoints.loading import CheckpointError, damage, load
from distill_user_dir.files import replacing
from distill_user_dir.messages import plain, reason

logger = logging.getLogger(__name__)

PREEMPTED = 128 + signal.SIGTERM  # what a shell, and so a scheduler, sees of a process that SIGTERM ended
ATTEMPTS = 3  # to write a checkpoint
HERE = os.path.dirname(os.path.abspath(__file__))
fairseqs = {
    "call_main": distributed_utils.call_main,
    "load_checkpoint": checkpoint_utils.load_checkpoint,
    "validate_and_save": train.validate_and_save,
    "valid_step": Trainer.valid_step,
    "load_state": Trainer.load_checkpoint,
}
torchs_dataloader = DataLoader.__init__


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """An error that was raised by this package is told in one line, with status 1; any other has its traceback."""
    try:
        yield
    except (ValueError, OSError) as error:
        raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
        of_worker = type(error).__module__.startswith(f"{__package__}.")  # torch raises it again, elsewhere
        if os.environ.get("HYDRA_FULL_ERROR") or not (raised_in.startswith(HERE + os.sep) or of_worker):
            raise
        prefix = f"{type(error).__module__}.{type(error).__name__}: "
        print(f"\n{plain(str(error).rpartition(prefix)[2])}", file=sys.stderr)
        sys.exit(1)


# --- one process, or several


def main(cfg: Any, **kwargs: Any) -> None:
    """fairseq's training in this process, with everything below in place."""
    checkpoint_utils.torch_persistent_save = save
    checkpoint_utils.PathManager = WholeCopies
    checkpoint_utils.load_checkpoint = load_checkpoint
    train.validate_and_save = validate_and_save
    Trainer.valid_step = valid_step
    Trainer.load_checkpoint = load_state
    # a scheduler's SIGTERM goes to data workers too; without them this process could not end its update
    ending = multiprocessing.Event()
    outlive = functools.partial(outlive_sigterm, ending)
    DataLoader.__init__ = functools.partialmethod(torchs_dataloader, worker_init_fn=outlive)
    try:
        with one_line_errors():
            train.main(cfg, **kwargs)
        if torch.distributed.is_initialized():  # its threads must not outlive the interpreter
            torch.distributed.destroy_process_group()
    finally:
        ending.set()


def call_main(cfg: Any, main: Callable, **kwargs: Any) -> None:
    """fairseq's, which counts GPUs: several processes on CPUs are started here."""
    where = cfg.distributed_training
    torchrun = all(name in os.environ for name in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK"))
    world = int(os.environ["WORLD_SIZE"]) if torchrun else where.distributed_world_size
    on_cpus = cfg.common.cpu and world > 1 and where.distributed_init_method is None
    if on_cpus:
        where.distributed_backend = "gloo"
        where.distributed_world_size = world
        where.distributed_no_spawn = torchrun
        where.distributed_rank = int(os.environ["RANK"]) if torchrun else 0
        where.distributed_init_method = "env://" if torchrun else f"tcp://127.0.0.1:{free_port()}"
    if torchrun or world == 1 or where.distributed_no_spawn:
        fairseqs["call_main"](cfg, main, **kwargs)
        return
    signal.signal(signal.SIGTERM, lambda *_: [child.terminate() for child in multiprocessing.active_children()])
    try:
        if on_cpus:
            where.distributed_rank = None  # fairseq then counts from start_rank
            arguments = (main, cfg, {**kwargs, "start_rank": 0})
            torch.multiprocessing.spawn(distributed_utils.distributed_main, arguments, nprocs=world)
        else:
            fairseqs["call_main"](cfg, main, **kwargs)
    except torch.multiprocessing.ProcessExitedException as error:  # it has told why
        sys.exit(error.exit_code if error.exit_code > 0 else 128 - error.exit_code)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


# --- writing checkpoints


def save(obj: Any, filename: str, async_write: bool = False) -> None:
    """torch.save to a file that is there whole or not at all; each attempt begins anew (fairseq's go on in the file
    that the one before has left)."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with replacing(filename) as temporary, open(temporary, "wb") as stream:
                torch.save(obj, stream)
            return
        except (OSError, RuntimeError) as error:  # torch's own has the disk's as its context
            cause = error.__context__ if isinstance(error.__context__, OSError) else error
            reason = getattr(cause, "strerror", None) or str(cause).split("\n")[0]
            logger.warning(f"{filename}: not written, attempt {attempt} of {ATTEMPTS} ({reason})")
    raise not_written(filename, reason)


def not_written(path: str, reason: str) -> CheckpointError:
    free = shutil.disk_usage(os.path.dirname(path) or ".").free / 1e6
    return CheckpointError(
        f"{path}: cannot be written ({reason}; {free:.0f} MB are free there); make room and start the same command "
        "again: the checkpoints before it are whole"
    )


class WholeCopies(PathManager):
    """fairseq copies a checkpoint onto the one before; this puts the copy in its place once it is whole."""

    @staticmethod
    def copy(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
        try:
            with replacing(dst_path) as temporary:
                shutil.copyfile(src_path, temporary)
        except OSError as error:
            raise not_written(dst_path, error.strerror or str(error)) from None
        return True


# --- reading them again


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
    loaded = fairseqs["load_checkpoint"](cfg, trainer, **kwargs)
    if trainer.data_parallel_world_size == 1:  # several end at once, at their last save
        signal.signal(signal.SIGTERM, preemption.take_note)
    return loaded


def load_state(trainer: Trainer, filename: str, *arguments: Any, **options: Any) -> Any:
    """fairseq's, of a file; CheckpointError where it is not of the training that goes on."""
    try:
        return fairseqs["load_state"](trainer, filename, *arguments, **options)
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


# --- preemption


class Preemption:
    """Whether SIGTERM has come, to any worker, and how this run is saved."""

    def __init__(self) -> None:
        self.told = False
        self.saving: Optional[Callable[[], Any]] = None

    def take_note(self, *_: Any) -> None:
        self.told = True

    def leave_if_told(self, trainer: Trainer) -> None:
        """All workers leave at the same place, the first behind its checkpoint."""
        if not told_anywhere(self.told, trainer) or self.saving is None:
            return
        self.saving()
        logger.info(f"SIGTERM: saved at update {trainer.get_num_updates()}; the same command goes on from there")
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        sys.exit(PREEMPTED)


def told_anywhere(told: bool, trainer: Trainer) -> bool:
    if trainer.data_parallel_world_size == 1:
        return told
    flag = torch.tensor(int(told), device=trainer.device)
    torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
    return bool(flag)


preemption = Preemption()


def outlive_sigterm(ending: Any, worker: int) -> None:
    """A data worker heeds SIGTERM, by which multiprocessing ends it, only where the training is `ending`."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0) if ending.is_set() else None)


def validate_and_save(
    cfg: Any, trainer: Trainer, task: Any, epoch_itr: Any, valid_subsets: List[str], end_of_epoch: bool
) -> Tuple[List[Optional[float]], bool]:
    """fairseq's, called behind every update; a run that has come to its end just ends."""
    finished = trainer.get_num_updates() >= (cfg.optimization.max_update or float("inf"))
    preemption.saving = lambda: checkpoint_utils.save_checkpoint(cfg.checkpoint, trainer, epoch_itr, None)
    if finished:
        preemption.saving = None
    preemption.leave_if_told(trainer)
    return fairseqs["validate_and_save"](cfg, trainer, task, epoch_itr, valid_subsets, end_of_epoch)


def valid_step(trainer: Trainer, sample: Any, raise_oom: bool = False) -> Any:
    """fairseq's; a validation may take longer than a scheduler waits."""
    preemption.leave_if_told(trainer)
    return fairseqs["valid_step"](trainer, sample, raise_oom)
