"""Every hostile checkpoint is refused in one line: no code of it runs, nothing hangs, crashes or takes memory."""

import os

import pytest

from distill_user_dir.checkpoints.loading import load
from tests.checkpoints.hostile import CASES
from tests.own_process import MEGABYTES, SECONDS


def test_there_are_enough():
    assert len(CASES) >= 150


@pytest.mark.parametrize("name", CASES)
def test_refused(honest, in_its_own_process, name):
    path = CASES[name].make(honest)
    outcome = in_its_own_process(lambda: load(path))
    assert not os.path.exists(honest.mark), "its code ran"
    assert outcome.kind == "CheckpointError", outcome
    assert outcome.text.startswith(f"{path}: ") and outcome.text.isprintable(), outcome
    assert len(outcome.text) < len(path) + 500, outcome
    assert outcome.seconds < SECONDS, outcome
    size = os.path.getsize(path) / 1e6 if os.path.isfile(path) else 0
    assert outcome.megabytes < 10 * size + MEGABYTES, outcome
