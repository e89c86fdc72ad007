import os
import runpy
import shutil
import sys

import pytest
import torch
from fairseq import checkpoint_utils

from distill_user_dir.checkpoints.loading import CheckpointError, load
from distill_user_dir.student import load_student
from tests.helpers import batch, finetune_overrides, noise, train

LENGTHS = [16000, 24000, 9000]


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory, distilled, corpus):
    folder = tmp_path_factory.mktemp("ctc")
    train("finetune", "laptop", finetune_overrides(distilled, corpus, folder, **{"optimization.max_update": 1}))
    return str(folder / "checkpoint_last.pt")


def slim(source, target, *options):
    """`python -m distill_user_dir.slim`, in this process."""
    before = sys.argv
    sys.argv = ["slim", str(source), str(target), *options]
    try:
        with pytest.raises(SystemExit) as end:
            runpy.run_module("distill_user_dir.slim", run_name="__main__")
        assert end.value.code == 0
    finally:
        sys.argv = before
    return str(target)


@pytest.fixture
def checkpoint(request, distilled, fine_tuned, checkpoints):
    return {"distilled": distilled, "fine-tuned": fine_tuned, "original": checkpoints("tiny")}[request.param]


@pytest.mark.parametrize("checkpoint", ["distilled", "fine-tuned", "original"], indirect=True)
@torch.no_grad()
def test_batched_equals_single(checkpoint, fine_tuned):
    student = load_student(checkpoint)
    assert not student.training and student.sample_rate == 16000
    audio, source, _ = batch(LENGTHS)
    together = student(source, torch.tensor(LENGTHS))
    assert together.lengths.tolist() == [49, 74, 27]
    assert [tuple(layer.shape[:2]) for layer in together.layers] == [(3, 74)] * 3
    for i, one in enumerate(audio):
        alone = student(one.unsqueeze(0))
        frames = together.lengths[i]
        for a, b in zip(alone.layers, together.layers):
            assert float((a[0] - b[i, :frames]).abs().max()) < 1e-4
        if checkpoint == fine_tuned:
            assert float((alone.log_probs[0] - together.log_probs[i, :frames]).abs().max()) < 1e-4
    if checkpoint == fine_tuned:
        assert (together.log_probs[2, 27:, 0] == 0).all()  # blank for certain
        assert torch.allclose(together.log_probs.exp().sum(-1), torch.ones(3, 74), atol=1e-5)
    else:
        assert together.log_probs is None
        with pytest.raises(ValueError, match="not fine-tuned"):
            student.transcribe(source)


@torch.no_grad()
def test_same_as_fairseqs_model(fine_tuned, corpus):
    """The same file through fairseq: `load_model_ensemble_and_task` and get_normalized_probs."""
    models, _, task = checkpoint_utils.load_model_ensemble_and_task([fine_tuned])
    audio = noise(12345).unsqueeze(0)
    net_output = models[0].eval()(source=audio, padding_mask=None)
    expected = models[0].get_normalized_probs(net_output, log_probs=True).transpose(0, 1)
    student = load_student(fine_tuned)
    assert float((student(audio).log_probs - expected).abs().max()) < 1e-5
    assert student.symbols == [""] * 4 + task.target_dictionary.symbols[4:]
    assert float((student.proj(student(audio).layers[-1]).log_softmax(-1) - expected).abs().max()) < 1e-5


def test_transcribe_by_hand(fine_tuned):
    """Repeats merge, blanks part them, | is a space: frames read `T T _ E N N | O _ O |`."""
    student = load_student(fine_tuned)
    frames = "TT_ENN|O_O|"
    units = [0 if letter == "_" else student.symbols.index(letter) for letter in frames]
    said = torch.full((1, len(frames), len(student.symbols)), -9.0)
    for t, unit in enumerate(units):
        said[0, t, unit] = 0.0
    output = student(noise(8000).unsqueeze(0))._replace(log_probs=said)
    student.forward = lambda *args: output
    assert student.transcribe(None) == ["TEN OO"]


@pytest.mark.parametrize("checkpoint", ["distilled", "fine-tuned"], indirect=True)
@torch.no_grad()
def test_slim_is_small_and_the_same(checkpoint, fine_tuned, tmp_path, corpus):
    small, half = slim(checkpoint, tmp_path / "small.pt"), slim(checkpoint, tmp_path / "half.pt", "--half")
    sizes = [os.path.getsize(name) for name in (checkpoint, small, half)]
    assert sizes[1] < sizes[0] / 2 and sizes[2] < sizes[1] * 0.75
    assert sorted(os.listdir(str(tmp_path))) == ["half.pt", "small.pt"]
    audio = noise(12345).unsqueeze(0)
    for name, tolerance in ((small, 0.0), (half, 0.05)):
        before, after = load_student(checkpoint)(audio), load_student(name)(audio)
        pairs = list(zip(before.layers, after.layers))
        if checkpoint == fine_tuned:
            pairs.append((before.log_probs, after.log_probs))
            shutil.copy(str(corpus / "dict.ltr.txt"), str(tmp_path))
            models, _, _ = checkpoint_utils.load_model_ensemble_and_task([name], arg_overrides={"data": str(tmp_path)})
            assert models[0].w2v_encoder.proj.weight.shape == load(checkpoint)["model"]["w2v_encoder.proj.weight"].shape
        assert all(float((a - b).abs().max()) <= tolerance for a, b in pairs)


def test_slim_names_no_folder_of_the_machine_that_publishes(fine_tuned, tmp_path):
    public = slim(fine_tuned, tmp_path / "public.pt", "--no-paths")
    folder = os.path.dirname(os.path.dirname(str(fine_tuned))).encode()
    assert folder in open(str(fine_tuned), "rb").read() and folder not in open(public, "rb").read()
    audio = noise(12345).unsqueeze(0)
    assert torch.equal(load_student(fine_tuned)(audio).layers[-1], load_student(public)(audio).layers[-1])


def test_slim_can_be_fine_tuned(distilled, tmp_path, corpus):
    small = slim(distilled, tmp_path / "small.pt", "--half")
    train("finetune", "laptop", finetune_overrides(small, corpus, tmp_path / "out", **{"optimization.max_update": 1}))
    weights = load(str(tmp_path / "out" / "checkpoint_last.pt"))["model"].values()
    assert all(weight.dtype == torch.float32 for weight in weights)


def test_refusals(distilled, fine_tuned, tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        load_student(str(tmp_path / "none.pt"))
    student = load_student(distilled)
    with pytest.raises(ValueError, match="399 samples are too few"):
        student(torch.zeros(2, 8000), torch.tensor([8000, 399]))
    state = torch.load(fine_tuned, weights_only=True)
    del state["task_state"]
    torch.save(state, str(tmp_path / "changed.pt"))
    with pytest.raises(CheckpointError, match="changed.pt: .*dictionary"):
        load_student(str(tmp_path / "changed.pt"))
