"""Models to ship."""

import pytest
import torch

from distill_user_dir.checkpoints.loading import load
from tests.helpers import distill_overrides, finetune_overrides, train


@pytest.fixture(scope="session", params=["waveform", "fbank"])
def fine_tuned(request, tmp_path_factory, checkpoints, distilled, corpus):
    """A fine-tuned student that is sure of its letters, which change from frame to frame."""
    folder, start = tmp_path_factory.mktemp(request.param), distilled
    one = {"optimization.max_update": 1}
    if request.param == "fbank":
        options = {"frontend": "fbank", "model.fbank_stats": "null", "model.fbank_norm": "utterance", **one}
        options["criterion.frontend_updates"] = 0
        train("distill", "laptop", distill_overrides(checkpoints("tiny"), corpus, folder / "student", **options))
        start = str(folder / "student" / "checkpoint_last.pt")
    train("finetune", "laptop", finetune_overrides(start, corpus, folder / "ctc", **one))
    path = folder / "ctc" / "checkpoint_last.pt"
    content = load(str(path))
    content["model"]["w2v_encoder.proj.weight"] *= 5
    content["model"]["w2v_encoder.proj.bias"][1:4] = -100  # fairseq's special symbols, which no training teaches
    torch.save(content, str(path))
    return str(path)
