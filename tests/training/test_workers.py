"""Two workers, started by spawn, torchrun or Slurm, stopped by SIGTERM and SIGKILL, end as two that nothing stopped."""

import os
import random
import re
import stat
import subprocess
import sys
import threading
import time
from signal import SIGKILL, SIGTERM

import pytest
import torch

from distill_user_dir.checkpoints.loading import load
from distill_user_dir.training.processes import free_port
from tests.commands import environment, run, train_command
from tests.training.test_distributed import distillation, fine_tuning, front_end

MOST = 40
OPTIONS = {
    "optimization.max_update": MOST,
    "model.dropout": 0.1,
    "dataset.validate_interval_updates": 6,  # the end of an epoch, of three updates, at times
    "checkpoint.save_interval_updates": 6,
    "checkpoint.keep_interval_updates": -1,
    "common.log_format": "simple",
}
STAGES = {"criterion.frontend_updates": 12}  # after a validation
LUCK = random.Random(int(os.environ.get("LUCK", 0)))  # when signals come; any moment has to do


def spawn(command, folder):
    return [(command + ["distributed_training.distributed_world_size=2"], {})]


def torchrun(command, folder):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    return [(launcher + command[2:], {})]


def slurm(command, folder):
    """The tasks that srun would start, each by itself; `scontrol` tells them the only host."""
    stub = folder / "bin" / "scontrol"
    stub.parent.mkdir(exist_ok=True)
    stub.write_text("#!/bin/sh\necho 127.0.0.1\n")
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    path = f"{stub.parent}{os.pathsep}{os.environ['PATH']}"
    port = f"distributed_training.distributed_port={free_port()}"
    names = {"SLURM_STEP_NODELIST": "here", "SLURM_NNODES": "1", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
    command = command + ["distributed_training.distributed_world_size=2", port]
    ranks = ({"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i), "PATH": path} for i in range(2))
    return [(command, {**names, **rank}) for rank in ranks]


class Training:
    """Its processes, and all that they print."""

    def __init__(self, commands, folder):
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.processes = [
            subprocess.Popen(command, cwd=str(folder), env={**environment(), **more}, start_new_session=True, **streams)
            for command, more in commands
        ]
        self.lines, self.readers = [], []
        for process in self.processes:
            self.readers.append(threading.Thread(target=lambda out=process.stdout: self.lines.extend(out), daemon=True))
            self.readers[-1].start()

    def wait_for(self, text):
        end = time.time() + 120
        while not any(re.search(text, line) for line in list(self.lines)):
            assert time.time() < end and any(p.poll() is None for p in self.processes), "".join(self.lines[-60:])
            time.sleep(0.01)

    def send(self, number, all_of_them):
        """To the first process alone, or to every one of the training."""
        for process in self.processes if all_of_them else self.processes[:1]:
            os.killpg(process.pid, number) if all_of_them else process.send_signal(number)

    def end(self):
        for process, reader in zip(self.processes, self.readers):
            process.wait(timeout=120)
            reader.join(timeout=60)
        return [process.returncode for process in self.processes], "".join(self.lines)


def stopped(training, update, number, all_of_them):
    """The update that was saved last. A run that has ended before the signal came tells its end."""
    training.wait_for(rf"num_updates=({update})\b")
    time.sleep(LUCK.uniform(0, 0.15))
    training.send(number, all_of_them)
    status, output = training.end()
    saved = re.findall(r"SIGTERM: saved at update (\d+)", output)
    if number == SIGTERM:
        assert len(saved) == 1 and int(saved[0]) >= update, output[-6000:]
        assert all(code != 0 for code in status), status
    return status


CHAINS = [
    (front_end, [(spawn, 12, SIGTERM, False), (torchrun, 19, SIGTERM, True), (spawn, 27, SIGKILL, True)]),
    (distillation, [(torchrun, 6, SIGTERM, False), (slurm, 18, SIGTERM, False)]),
    (fine_tuning, [(slurm, 3, SIGTERM, True), (torchrun, 14, SIGKILL, True)]),
]


@pytest.mark.slow
@pytest.mark.parametrize("kind, chain", CHAINS, ids=["front_end", "distillation", "fine_tuning"])
def test_stopped_again_and_again_they_end_as_if_undisturbed(
    kind, chain, tmp_path, checkpoints, corpus, distilled, stats
):
    folder, overrides = kind(checkpoints, corpus, distilled, stats)
    more = {**OPTIONS, **(STAGES if kind is front_end else {})}

    def command(name):
        return train_command(folder, "laptop", {**overrides(tmp_path / name), **more}, surviving=True)

    through = run(spawn(command("through"), tmp_path)[0][0], tmp_path)
    for launcher, update, number, all_of_them in chain:
        status = stopped(Training(launcher(command("stopped"), tmp_path), tmp_path), update, number, all_of_them)
        if number == SIGTERM and launcher is not torchrun:  # whose own status is 1
            assert set(status) == {143}
    output = run(spawn(command("stopped"), tmp_path)[0][0], tmp_path)
    assert re.search(r"Loaded checkpoint .*checkpoint_last.pt \(epoch \d+ @ \d+ updates\)", output)
    for name in ("checkpoint_last.pt", "checkpoint_best.pt"):
        ours, theirs = (load(str(tmp_path / which / name)) for which in ("stopped", "through"))
        assert ours["optimizer_history"][-1]["num_updates"] == theirs["optimizer_history"][-1]["num_updates"]
        assert all(torch.equal(ours["model"][key], theirs["model"][key]) for key in theirs["model"])
        moments = (state["last_optimizer_state"]["state"] for state in (ours, theirs))
        for one, other in zip(*(entry.values() for entry in moments)):
            assert all(torch.equal(one[key], other[key]) for key in other)
        assert ours["extra_state"]["best"] == theirs["extra_state"]["best"]
    ended = run(spawn(command("stopped"), tmp_path)[0][0], tmp_path)  # once more: there is nothing left to do
    assert f"this run ended at update {MOST}" in ended and "num_updates=" not in ended and "Traceback" not in through


ALONE = """
import sys, time, torch
from distill_user_dir.training import preemption
rank, port = map(int, sys.argv[1:])
torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
preemption.PATIENCE = 1
preemption.preemption.watch(2)
print("watching", flush=True)
time.sleep(600) if rank else torch.distributed.barrier()
"""


@pytest.mark.slow
def test_a_worker_whose_others_are_stuck_gives_up(tmp_path):
    """It waits within a call of torch's, where no handler of Python's would run."""
    port = str(free_port())
    training = Training([([sys.executable, "-c", ALONE, rank, port], {}) for rank in "01"], tmp_path)
    end = time.time() + 100
    while sum("watching" in line for line in list(training.lines)) < 2 and time.time() < end:
        time.sleep(0.05)
    time.sleep(0.5)  # until the first one has come to its barrier
    training.processes[0].terminate()
    assert training.processes[0].wait(timeout=30) == 143
    training.processes[1].kill()
    assert "the other workers do not come" in training.end()[1]
