"""Sound checkpoints of every kind, and processes in which a hostile one may do its worst."""

import os
import signal
import time
from typing import NamedTuple

import pytest
import torch

from distill_user_dir.measure import peak, reset_peak
from tests.checkpoints.hostile import Honest
from tests.helpers import finetune_overrides, train
from tests.letter_model import language_model

SECONDS = 20
MEGABYTES = 400  # beside ten times the file's size


@pytest.fixture(scope="session")
def sound(tmp_path_factory, checkpoints, corpus):
    """Paths by kind: pretrained, fine_tuned, language_model."""
    folder = tmp_path_factory.mktemp("sound")
    pretrained = checkpoints("tiny")
    train("finetune", "laptop", finetune_overrides(pretrained, corpus, folder / "ctc"))
    (folder / "lm").mkdir()
    torch.save(language_model(folder / "lm", ["ONE", "TWO"])[0], str(folder / "lm" / "lm.pt"))
    return {
        "pretrained": pretrained,
        "fine_tuned": str(folder / "ctc" / "checkpoint_last.pt"),
        "language_model": str(folder / "lm" / "lm.pt"),
    }


@pytest.fixture
def honest(sound, tmp_path):
    return Honest(path=str(tmp_path / "checkpoint.pt"), mark=str(tmp_path / "ran"), **sound)


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
