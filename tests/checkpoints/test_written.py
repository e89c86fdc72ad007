"""Checkpoints that an earlier version wrote load, give the outputs that it gave, and are trained on.

`written/` has, after a few updates each: students with a CNN and with Fbank, distilled with a discriminative loss and
in two stages; both fine-tuned; a HuBERT fine-tuned. `outputs.npz` is what that version computed from them.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils

from distill_user_dir.checkpoints.loading import load
from distill_user_dir.student import load_student
from tests.helpers import batch, distill_overrides, finetune_overrides, noise, train, write_corpus

WRITTEN = Path(__file__).parent / "written"
STUDENTS = ["student", "fbank_student"]
FINE_TUNED = ["student_ctc", "fbank_student_ctc", "hubert_ctc"]


@pytest.fixture(scope="module")
def outputs():
    with np.load(str(WRITTEN / "outputs.npz")) as arrays:
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


@pytest.mark.parametrize("name", STUDENTS + FINE_TUNED)
def test_outputs_are_what_they_were(name, outputs):
    _, source, _ = batch([12000, 9000])
    output = load_student(str(WRITTEN / f"{name}.pt"))(source, torch.tensor([12000, 9000]))
    assert torch.equal(output.lengths, outputs[f"{name}.lengths"])
    for row, frames in enumerate(output.lengths.tolist()):
        was = outputs[f"{name}.last_layer"][row, :frames]
        assert torch.allclose(output.layers[-1][row, :frames], was, atol=1e-5)
        if name in FINE_TUNED:
            assert torch.allclose(output.log_probs[row, :frames], outputs[f"{name}.log_probs"][row, :frames], atol=1e-5)


@pytest.mark.parametrize("name", FINE_TUNED)
def test_fairseq_loads_what_was_fine_tuned(name, corpus, outputs):
    """By its registered names, as a decode does."""
    overrides = {"data": str(corpus)}
    models, _, _ = checkpoint_utils.load_model_ensemble_and_task([str(WRITTEN / f"{name}.pt")], overrides)
    audio = noise(12000)[None]
    with torch.no_grad():
        logits = models[0].eval()(source=audio, padding_mask=torch.zeros(1, 12000, dtype=torch.bool))["encoder_out"]
    assert torch.allclose(logits[:, 0].log_softmax(-1), outputs[f"{name}.log_probs"][0], atol=1e-5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("data"), {"train": [12000] * 4, "valid": [9000]})


def test_a_fine_tuning_goes_on(tmp_path, data):
    shutil.copy(str(WRITTEN / "fbank_student_ctc.pt"), str(tmp_path / "checkpoint_last.pt"))
    start = WRITTEN / "fbank_student.pt"
    train("finetune", "laptop", finetune_overrides(start, data, tmp_path, **{"optimization.max_update": 3}))
    state = load(str(tmp_path / "checkpoint_last.pt"))
    assert state["optimizer_history"][-1]["num_updates"] == 3
    before = load(str(WRITTEN / "fbank_student_ctc.pt"))["model"]
    assert any(not torch.equal(value, before[key]) for key, value in state["model"].items())


def test_a_student_is_another_ones_teacher(tmp_path, data):
    overrides = distill_overrides(WRITTEN / "student.pt", data, tmp_path, **{"optimization.max_update": 1})
    train("distill", "laptop", {**overrides, "model.encoder_layers": 2, "model.layer_map": "[1,2]"})
    state = load(str(tmp_path / "checkpoint_last.pt"))
    assert state["cfg"]["model"]["teacher_embed_dim"] == 16
