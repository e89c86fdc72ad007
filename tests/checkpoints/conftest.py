"""Sound checkpoints of every kind, and what a hostile one is made from."""

import pytest
import torch

from tests.checkpoints.hostile import Honest
from tests.decoding.letter_model import language_model
from tests.helpers import finetune_overrides, train


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
