"""Processes of their own, in which a hostile file may do its worst, and commands as their user sees them."""

import contextlib
import io
import os
import signal
import sys
import time
from typing import Any, Callable, NamedTuple

import pytest

from distill_user_dir.measure import peak, reset_peak

SECONDS = 20
MEGABYTES = 400  # beside ten times the file's size


def command(main: Callable[..., Any], *arguments: Any) -> None:
    """Runs a command; SystemExit with the last line that it wrote to stderr where its status is not 0."""
    told = io.StringIO()
    sys.argv = ["command", *map(str, arguments)]
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
        status = main() or 0
    if status:
        lines = [line for line in told.getvalue().split("\n") if line.strip()]
        raise SystemExit("\n".join(lines[-1:]))


class Outcome(NamedTuple):
    """What became of a call: `kind` of the error, its text, seconds, and megabytes beside what was there."""

    kind: str
    text: str
    seconds: float
    megabytes: float


@pytest.fixture
def in_its_own_process(tmp_path):
    """A function that calls another in a fork -> Outcome; a crash of the interpreter fails the test."""

    def run(call, seconds=SECONDS):
        result = tmp_path / "outcome"
        start = time.time()
        child = os.fork()
        if child == 0:
            signal.alarm(seconds + 10)
            write_outcome(str(result), call)
        _, status = os.waitpid(child, 0)
        assert status == 0, f"the process ended with status {status}"
        kind, megabytes, text = result.read_text(errors="surrogateescape").split("\n", 2)
        return Outcome(kind, text, time.time() - start, float(megabytes))

    return run


def write_outcome(path, call):
    """Calls, writes how it ended, and ends the process without its parent's exit handlers."""
    before = reset_peak()
    try:
        call()
        kind, text = "none", ""
    except BaseException as error:  # a command's way out is SystemExit
        kind, text = type(error).__name__, str(error)
    with open(path, "w", errors="surrogateescape") as file:
        file.write(f"{kind}\n{(peak() - before) / 1e6}\n{text}")
    os._exit(0)
