"""Commands as their user types them, each in a process of its own that is forked from one which has imported fairseq.

Importing it takes longer than most of these commands; what they do besides, and all that this package does, is theirs.
A command whose start or end is what a test is about is run by `subprocess`.
"""

import atexit
import multiprocessing
import os
import re
import resource
import runpy
import signal
import sys
import threading
from functools import partial
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.preload"])


def environment(**more):
    # hydra's configs lie beside fairseq's package; one thread, so that sums are added up in one order
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return {**os.environ, **threads, "PYTHONPATH": str(ROOT), "HYDRA_FULL_ERROR": "1", **more}


def child(command, cwd, variables, outputs, session, largest_file):
    """Becomes the command: `[python, -m, module, ...]`, `[python, script, ...]` or `[fairseq-hydra-train, ...]`."""
    multiprocessing.set_start_method("fork", force=True)  # as in a process that was not forked by a server
    torch.multiprocessing.spawn = partial(torch.multiprocessing.start_processes, start_method="fork")
    for number, output in enumerate(outputs, 1):
        os.dup2(output.fileno() if output else os.open(os.devnull, os.O_WRONLY), number)
    if session:
        os.setsid()
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(cwd)
    first = {"-m": cwd}.get(command[1], os.path.dirname(os.path.abspath(command[1])))
    sys.path[0:0] = [first, variables["PYTHONPATH"]]
    status = None
    try:
        if os.path.basename(command[0]) == "fairseq-hydra-train":
            sys.argv = command
            from fairseq_cli.hydra_train import cli_main

            cli_main()
        elif command[1] == "-m":
            sys.argv = command[2:]
            runpy.run_module(command[2], run_name="__main__", alter_sys=True)
        else:
            sys.argv = command[1:]
            runpy.run_path(command[1], run_name="__main__")
    except SystemExit as left:
        status = left.code
        if isinstance(status, str):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    atexit._run_exitfuncs()  # a forked process ends without them, and without a look at what they do
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    sys.exit(status or 0)


class Process:
    """As `subprocess.Popen`, of which it has what the tests need. `output` is text: stdout and stderr, or stderr alone;
    largest_file: a limit in bytes; `variables` of the environment."""

    def __init__(self, command, cwd, session=False, largest_file=None, errors_alone=False, **variables):
        read, write = FORKS.Pipe(duplex=False)
        outputs = [None if errors_alone else write, write]
        arguments = (list(map(str, command)), str(cwd), environment(**variables), outputs, session, largest_file)
        self.process = FORKS.Process(target=child, args=arguments)
        self.process.start()
        write.close()
        self.output = os.fdopen(os.dup(read.fileno()), encoding="utf-8", errors="replace")
        read.close()
        self.pid = self.process.pid

    def send_signal(self, number):
        if self.process.exitcode is None:
            os.kill(self.pid, number)

    def wait(self):
        """The exit status, or the signal's number with a minus."""
        self.process.join()
        return self.process.exitcode

    def end(self, seconds=600):
        """The exit status and the output; it is killed where it takes longer."""
        clock = threading.Timer(seconds, self.send_signal, [signal.SIGKILL])
        clock.start()
        output = self.output.read()
        status = self.wait()
        clock.cancel()
        return status, output

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.output.close()
        self.wait()


def train_command(folder, name, overrides, surviving=False):
    """A `fairseq-hydra-train` command line, or one of `distill_user_dir.train`."""
    start = ["fairseq-hydra-train"]
    if surviving:
        start = [sys.executable, "-m", "distill_user_dir.train"]
        overrides = {"common.log_format": "simple", **overrides}
    return start + ["--config-dir", str(ROOT / "recipes" / folder), "--config-name", name] + listed(overrides)


def listed(overrides):
    return [f"{key}={value}" for key, value in overrides.items()]


def run(command, cwd, **options):
    """Output of a command that has to succeed."""
    status, output = Process(command, cwd, **options).end()
    assert status == 0, output[-4000:]
    return output


def failure(command, cwd, **options):
    """Output of a command that has to fail, as its user has it."""
    status, output = Process(command, cwd, HYDRA_FULL_ERROR="", **options).end()
    assert status == 1, (status, output[-4000:])
    return output


def kill_at(command, folder, update):
    """Runs a training until it has saved the checkpoint of this update, all copies included, and SIGKILLs it."""
    saved = re.compile(rf"Saved checkpoint .* @ {update} updates")
    with Process(command, folder) as process:
        lines = []
        for line in process.output:
            lines.append(line)
            if saved.search(line):
                process.send_signal(signal.SIGKILL)
                break
    assert process.wait() == -signal.SIGKILL, "".join(lines[-40:])
