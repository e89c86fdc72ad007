"""The processes of a training: one, or several that fairseq, torchrun or Slurm starts, on GPUs or on CPUs."""

import contextlib
import functools
import multiprocessing
import os
import signal
import socket
import sys
import traceback
from typing import Any, Callable, Iterator

import torch
from fairseq import checkpoint_utils
from fairseq.distributed import utils as distributed_utils
from fairseq.trainer import Trainer
from fairseq_cli import train
from torch.utils.data import DataLoader

import distill_user_dir
from distill_user_dir.messages import plain
from distill_user_dir.training import preemption, progress, resuming, saving

HERE = os.path.dirname(os.path.abspath(distill_user_dir.__file__))
TORCHRUN = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK")
fairseqs_call_main = distributed_utils.call_main
torchs_dataloader = DataLoader.__init__


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """An error that was raised by this package is told in one line, with status 1; any other has its traceback."""
    try:
        yield
    except (ValueError, OSError) as error:
        raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
        of_worker = type(error).__module__.startswith("distill_user_dir.")  # torch raises it again, elsewhere
        if os.environ.get("HYDRA_FULL_ERROR") or not (raised_in.startswith(HERE + os.sep) or of_worker):
            raise
        prefix = f"{type(error).__module__}.{type(error).__name__}: "
        print(f"\n{plain(str(error).rpartition(prefix)[2])}", file=sys.stderr)
        sys.exit(1)


def main(cfg: Any, **kwargs: Any) -> None:
    """fairseq's training in this process, with all that this room changes in place."""
    checkpoint_utils.torch_persistent_save = saving.save
    checkpoint_utils.PathManager = saving.WholeCopies
    checkpoint_utils.load_checkpoint = resuming.load_checkpoint
    Trainer.load_checkpoint = resuming.load_state
    train.train, Trainer.begin_epoch = resuming.train_epoch, resuming.begin_epoch
    train.validate_and_save = preemption.validate_and_save
    Trainer.valid_step = preemption.valid_step
    Trainer._aggregate_logging_outputs = preemption.aggregate
    if sys.platform == "linux":  # a process that was spawned would spawn data workers too, which import all anew
        multiprocessing.set_start_method("fork", force=True)
    # a scheduler's SIGTERM goes to data workers too; without them this process could not end its update
    ending = multiprocessing.Event()
    outlive = functools.partial(preemption.outlive_sigterm, ending)
    DataLoader.__iter__ = preemption.start_data_workers
    DataLoader.__init__ = functools.partialmethod(torchs_dataloader, worker_init_fn=outlive)
    try:
        with one_line_errors():
            shown = progress.take_over(cfg)
            train.main(cfg, **kwargs)
        if shown is not None:
            shown.end()
        leave_the_others()
    except SystemExit as left:
        if left.code == preemption.PREEMPTED:
            leave_the_others()
        raise
    finally:
        preemption.preemption.ending.set()
        ending.set()


def leave_the_others() -> None:
    """At an end that all workers have come to: torch's threads must not outlive the interpreter."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def call_main(cfg: Any, main: Callable, **kwargs: Any) -> None:
    """fairseq's, which counts GPUs: several processes on CPUs are started here. SIGTERM to the process that waits for
    those it has started is theirs."""
    if not cfg.common.cpu and not torch.cuda.is_available():
        with one_line_errors():
            raise ValueError("there is no CUDA device here: train on the CPU with gpus=cpu, or common.cpu=true")
    where = cfg.distributed_training
    if where.distributed_init_method is None:
        if cfg.common.cpu:
            meet_on_cpus(where)
        else:
            distributed_utils.infer_init_method(where)
    if where.distributed_world_size == 1 or where.distributed_no_spawn:
        fairseqs_call_main(cfg, main, **kwargs)
        return
    signal.signal(signal.SIGTERM, lambda *_: [child.terminate() for child in multiprocessing.active_children()])
    try:
        if cfg.common.cpu:
            where.distributed_rank = None  # fairseq then counts from start_rank
            arguments = (main, cfg, {**kwargs, "start_rank": 0})
            torch.multiprocessing.spawn(distributed_utils.distributed_main, arguments, where.distributed_world_size)
        else:
            fairseqs_call_main(cfg, main, **kwargs)
    except torch.multiprocessing.ProcessExitedException as error:  # it has told why
        sys.exit(error.exit_code if error.exit_code > 0 else 128 - error.exit_code)


def meet_on_cpus(where: Any) -> None:
    """How the processes find each other: as torchrun or Slurm says, or at a free port of this machine. `where`: the
    config `distributed_training`."""
    torchrun = all(name in os.environ for name in TORCHRUN)
    world = int(os.environ["WORLD_SIZE"]) if torchrun else where.distributed_world_size
    if world == 1:
        return
    where.distributed_backend, where.distributed_world_size = "gloo", world
    if torchrun:
        where.distributed_no_spawn, where.distributed_rank = True, int(os.environ["RANK"])
        where.distributed_init_method = "env://"
    elif int(os.environ.get("SLURM_NTASKS", 1)) > 1 and distributed_utils._infer_slurm_init(where, None):
        if where.distributed_port <= 0:
            raise ValueError(
                f"distributed_training.distributed_port={where.distributed_port}: Slurm's tasks meet at a port that is "
                "the same for all; give one, e.g. 29671"
            )
    else:
        where.distributed_init_method = f"tcp://127.0.0.1:{free_port()}"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
