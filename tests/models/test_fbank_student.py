"""Students with `frontend=fbank`: sizes, padding, what they start from, fine-tuning, decoding."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from fairseq.criterions import build_criterion

from distill_user_dir.checkpoints.hubert import hubert_in
from distill_user_dir.modules.fbank import KaldiFbank
from tests.commands import listed, run
from tests.helpers import ROOT, TINY_STUDENT, batch, distill_overrides, finetune_overrides, noise, recipe, train
from tests.models.test_student_hubert import built, parameters, size_by_hand

FBANK = ("frontend=fbank", "model.fbank_stats=null", "model.fbank_norm=utterance")
LENGTHS = [16000, 24000, 400, 9000]


@pytest.mark.slow
def test_full_size_is_a_sixth_smaller(checkpoints):
    """80 bins; a convolution of 5 to 2 x 480 with bias; a Linear."""
    _, model = built(checkpoints("base"), "librispeech_960h", "deep_thin", *FBANK)
    front = 80 * 960 * 5 + 960 + 480 * 480 + 480
    assert parameters(model.frontend_head) == 480 * 768 + 768
    model.remove_pretraining_modules()
    whole = size_by_hand(12, 480, 480)
    cnn = 512 * 10 + 2 * 512 + 4 * 512 * 512 * 3 + 2 * 512 * 512 * 2 + 2 * 512 + 512 * 480 + 480
    assert parameters(model) == whole - cnn + front
    assert abs(parameters(model) / 1e6 - 19.11) < 0.01
    assert abs(1 - parameters(model) / whole - 0.167) < 0.001


@pytest.fixture
def student(checkpoints):
    return tiny_fbank(checkpoints("tiny"))[1].eval()


def tiny_fbank(teacher, *overrides, **model):
    model = {f"model.{key}": value for key, value in model.items()}
    return built(teacher, "laptop", "demo", *FBANK, *listed({**TINY_STUDENT, **model}), *overrides)


@torch.no_grad()
def test_padding_changes_nothing(student):
    audio, source, padded = batch(LENGTHS)
    together = student.encode(source, padded)
    for i, one in enumerate(audio):
        alone = student.encode(one[None]).x[0]
        assert len(alone) == int((~together.padding_mask[i]).sum())
        assert float((alone - together.x[i, : len(alone)]).abs().max()) < 1e-4


def test_a_half_student_hears_whole_audio(student):
    audio = noise(16000)[None].double()  # as the data set delivers it
    heard = []
    student.half().feature_extractor.fbank.register_forward_hook(lambda module, inputs, output: heard.append(output))
    student.encode(audio)
    assert torch.equal(heard[0], KaldiFbank()(noise(16000)[None]))


@pytest.mark.parametrize(
    "overrides, told",
    [
        (["model.fbank_norm=global"], "model.fbank_stats is not set"),
        (["model.fbank_norm=global", "model.fbank_stats=/none.json"], "/none.json: no statistics"),
        (["task.normalize=true"], "fbank wants raw audio"),
        (["model.init_feature_extractor=true"], "frontend=fbank has no CNN to start from"),
        (["model.fbank_kernel=4"], "the kernel has to be odd"),
        (["model.fbank_stride=4"], "frames of the student"),
        (["model.fbank_shift=12.5"], "frames of the student"),
        (["criterion.frontend_updates=-1"], "criterion.frontend_updates=-1: it has to be 0 or more"),
        (["model.spec_time_share=2"], "time_share is from 0 to 1"),
    ],
)
def test_what_does_not_fit_is_told(checkpoints, overrides, told):
    with pytest.raises(ValueError, match=told):
        tiny_fbank(checkpoints("tiny"), *overrides)


def test_a_first_stage_that_leaves_nothing_to_the_second_is_told():
    cfg = recipe("distill", "laptop", "frontend=fbank", "optimization.max_update=150")
    told = "criterion.frontend_updates=150 of optimization.max_update=150: the first stage would train the front-end"
    with pytest.raises(ValueError, match=told):
        build_criterion(cfg.criterion, SimpleNamespace())


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory, checkpoints, corpus):
    """An Fbank student, distilled and fine-tuned by fairseq-hydra-train."""
    folder = tmp_path_factory.mktemp("fbank")
    stats = folder / "fbank.json"
    content = {"mean": [10.0] * 80, "std": [4.0] * 80, "frames": 1, "options": KaldiFbank().options}
    stats.write_text(json.dumps(content))
    options = {"frontend": "fbank", "model.fbank_stats": stats, "criterion.frontend_updates": 1}
    options.update({"criterion.frontend_target": "layer_input", "criterion.frontend_distance": "l2"})
    options.update({"criterion.frontend_weight": 0.5, "optimization.max_update": 2})
    train("distill", "laptop", distill_overrides(checkpoints("tiny"), corpus, folder / "student", **options))
    stats.unlink()  # the checkpoint is complete
    start = str(folder / "student" / "checkpoint_last.pt")
    more = {"model.apply_mask": "true", "model.feature_grad_mult": 0.0, "model.freeze_finetune_updates": 1}
    train("finetune", "laptop", finetune_overrides(start, corpus, folder / "ctc", **more))
    return start, str(folder / "ctc" / "checkpoint_last.pt")


def test_fine_tuning_leaves_a_frozen_front_end_alone(fine_tuned):
    before, after = (hubert_in(path).state for path in fine_tuned)
    front = [name for name in before if name.startswith("feature_extractor.")]
    assert len(front) == 6 and float(before["feature_extractor.norm.mean"][0]) == 10.0
    learning = {name for name in front if not torch.equal(before[name], after[name])}
    assert learning == {"feature_extractor.proj.weight", "feature_extractor.proj.bias"}  # a CNN's projection does too
    assert not torch.equal(before["encoder.layers.0.fc1.weight"], after["encoder.layers.0.fc1.weight"])


def test_the_first_stage_needs_a_teacher_on_waveforms(fine_tuned):
    with pytest.raises(ValueError, match="checkpoint_last.pt: criterion.frontend_updates=150 needs a teacher on wave"):
        tiny_fbank(fine_tuned[0])
    _, model = tiny_fbank(fine_tuned[0], "criterion.frontend_updates=0")
    assert model.frontend_head is None


def test_decodes_by_the_same_command(fine_tuned, corpus, tmp_path):
    options = {"common.cpu": "true", "task.data": corpus, "common_eval.path": fine_tuned[1]}
    options.update({"dataset.gen_subset": "valid", "decoding.results_path": tmp_path / "results"})
    command = [sys.executable, "-m", "distill_user_dir.infer", "--config-dir", str(ROOT / "recipes" / "decode")]
    run([*command, "--config-name", "viterbi", *listed(options)], tmp_path)
    assert json.loads((tmp_path / "results" / "wer.json").read_text())["utterances_scored"] == 5


def test_starts_from_a_waveform_student(checkpoints, distilled):
    _, model = tiny_fbank(checkpoints("tiny"), f"model.init_from_student={distilled}")
    theirs, ours = hubert_in(distilled).state, model.state_dict()
    started = [name for name in ours if name in theirs and torch.equal(ours[name], theirs[name])]
    assert {name for name in ours if name.startswith(("encoder.", "heads.", "mask_emb"))} <= set(started)
    with pytest.raises(ValueError, match="init_from_student: `encoder.layers.0.fc1.weight` is"):
        tiny_fbank(checkpoints("tiny"), f"model.init_from_student={distilled}", encoder_ffn_embed_dim=64)
