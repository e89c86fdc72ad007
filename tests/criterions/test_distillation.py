import os
from types import SimpleNamespace

import pytest
import torch
from fairseq import criterions, tasks
from fairseq.logging import metrics
from fairseq.trainer import Trainer
from omegaconf import OmegaConf

from distill_user_dir.checkpoints.hubert import hubert_in
from distill_user_dir.checkpoints.loading import load
from distill_user_dir.criterions.distillation import DistillationCriterion, check_frames
from tests.commands import listed
from tests.helpers import batch, distill_overrides, recipe

PLAIN = {"model.dropout": 0, "model.attention_dropout": 0, "model.feature_grad_mult": 1}
LENGTHS = [16000, 24000, 11111, 8000]


def setup(teacher, **overrides):
    """cfg, task, model and criterion of a tiny distillation, as fairseq's train builds them."""
    overrides = distill_overrides(teacher, "/none", "/none", **dict(PLAIN, **overrides))
    cfg = recipe("distill", "laptop", *listed(overrides))
    cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True, enum_to_str=True))
    task = tasks.setup_task(cfg.task)
    torch.manual_seed(4)
    model = task.build_model(cfg.model)
    return cfg, task, model, criterions.build_criterion(cfg.criterion, task)


@pytest.fixture(params=["tiny", "tiny_large"])
def built(request, checkpoints):
    return setup(checkpoints(request.param))


def sample(lengths, seed=0):
    _, source, padded = batch(lengths, seed)
    return {"id": torch.arange(len(lengths)), "net_input": {"source": source, "padding_mask": padded}}


def test_padded_batch_is_the_frame_weighted_mean_of_its_utterances(built):
    _, _, model, criterion = built
    model.train()
    loss, frames, log = criterion(model, sample(LENGTHS))
    alone = [criterion(model, sample([length], seed=i)) for i, length in enumerate(LENGTHS)]
    expected_frames = [(length - 400) // 320 + 1 for length in LENGTHS]
    assert [one[1] for one in alone] == expected_frames
    assert frames == log["sample_size"] == log["ntokens"] == sum(expected_frames)
    mean = sum(float(one[0]) / one[1] * n for one, n in zip(alone, expected_frames)) / sum(expected_frames)
    assert float(loss) / frames == pytest.approx(mean, abs=1e-5)
    for name in ("layer_1", "layer_2", "layer_3", "distance", "cosine", "loss"):
        assert float(log[name]) == pytest.approx(sum(float(one[2][name]) for one in alone), rel=1e-4)


def test_loss_by_hand(checkpoints):
    overrides = {"model.layer_map": "[0,3,2]", "criterion.regression_weight": 3, "criterion.cosine_weight": 0.5}
    _, task, model, criterion = setup(checkpoints("tiny"), **{**overrides, "criterion.regression_distance": "l2"})
    given = sample([9000])
    loss, frames, log = criterion(model.eval(), given)
    teacher = task.teacher.model.encode(given["net_input"]["source"], keep=(2, 3)).layers
    own = model.encode(given["net_input"]["source"], keep=(2, 3)).layers
    expected = {}
    for target, layer, head in ((3, 2, 0), (2, 3, 1)):
        h, s = teacher[target][0], model.heads.projections[head](own[layer])[0]
        cosine = (h * s).sum(-1) / (h.norm(dim=-1) * s.norm(dim=-1))
        expected[target] = float((((h - s) ** 2).mean(-1) + 0.5 * torch.log1p(torch.exp(-cosine))).sum())
        assert float(log[f"layer_{target}"]) == pytest.approx(expected[target], rel=1e-5)
    assert float(loss) == pytest.approx(3 * (expected[2] + expected[3]) / 2, rel=1e-5)
    assert frames == teacher[3].size(1)


def test_logs_of_layers_sum_up(built):
    _, _, model, criterion = built
    logs = [criterion(model.eval(), sample(lengths))[2] for lengths in ([16000, 9000], [24000])]
    frames = sum(log["sample_size"] for log in logs)
    with metrics.aggregate(new_root=True) as aggregate:
        DistillationCriterion.reduce_metrics(logs)
    values = aggregate.get_smoothed_values()
    assert values["loss"] == pytest.approx(sum(float(log["loss"]) for log in logs) / frames, abs=1e-4)
    assert values["loss"] == pytest.approx(sum(values[f"layer_{i}"] for i in (1, 2, 3)) / 3, abs=3e-4)
    assert -1 <= values["cosine"] <= 1 and 0 < values["distance"] < values["loss"]


def trainer(checkpoint, update_freq):
    sgd = {"optimizer._name": "sgd", "+optimizer.momentum": 0, "~optimizer.adam_betas": "'(0.9,0.98)'"}
    sgd.update({"optimization.lr": "[1.0]", "lr_scheduler.warmup_updates": 0})  # else the first update has rate 0
    sgd.update({"~optimizer.adam_eps": "1e-06", "optimizer.weight_decay": 0, "+optimizer.lr": "[1.0]"})
    sgd.update({"optimization.clip_norm": 0, "optimization.update_freq": f"[{update_freq}]"})
    cfg, task, model, criterion = setup(checkpoint, **sgd)
    made = Trainer(cfg, task, model, criterion)
    made.lr_step_update()
    return made, model


def test_two_half_batches_are_one_whole(checkpoints):
    """By fairseq's Trainer and SGD, whose update is the gradient. The halves differ in frames and in padding."""
    source, padded = (sample(LENGTHS)["net_input"][key] for key in ("source", "padding_mask"))
    halves = []
    for rows, longest in (([0, 1], 24000), ([2, 3], 11111)):
        net_input = {"source": source[rows, :longest], "padding_mask": padded[rows, :longest]}
        halves.append({"id": torch.tensor(rows), "net_input": net_input})
    updates = []
    for samples in ([sample(LENGTHS)], halves, halves[::-1]):
        made, model = trainer(checkpoints("tiny"), len(samples))
        before = [p.detach().clone() for p in model.parameters()]
        made.train_step(samples)
        assert made.get_num_updates() == 1
        updates.append([p.detach() - b for p, b in zip(model.parameters(), before)])
    largest = max(float(step.abs().max()) for step in updates[0])
    assert largest > 1e-4
    for other in updates[1:]:
        assert max(float((a - b).abs().max()) for a, b in zip(updates[0], other)) < 1e-4 * largest


def test_teacher_is_frozen_and_nobodys_part(checkpoints):
    made, model = trainer(checkpoints("tiny"), 1)
    task, teacher = made.task, made.task.teacher.model
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    model.train(), made.criterion.train()
    made.train_step([sample([16000, 9000])])
    assert not any(module.training for module in teacher.modules())
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())
    own = {id(p) for p in model.parameters()} | {id(p) for p in made.criterion.parameters()}
    assert not own & {id(p) for p in teacher.parameters()}
    assert list(made.criterion.state_dict()) == [] and not task.state_dict().get("teacher")
    optimized = sum(p.numel() for group in made.optimizer.param_groups for p in group["params"])
    assert optimized == sum(p.numel() for p in model.parameters())


def test_checkpoint_of_a_training_holds_no_teacher(distilled, checkpoints):
    """Sizes: the weights and Adam's two moments, 4 bytes each."""
    state = load(distilled)
    _, _, model, _ = setup(checkpoints("tiny"))
    assert state["model"].keys() == model.state_dict().keys()
    assert state["optimizer_history"][-1]["num_updates"] == 2
    floats = sum(value.numel() for value in state["model"].values())
    overhead = 1000 * len(state["model"])
    assert 12 * floats < os.path.getsize(distilled) < 12 * floats + 3 * overhead
    teacher = hubert_in(checkpoints("tiny"))
    assert sum(value.numel() for value in teacher.state.values()) * 4 > 3 * overhead  # it would have shown
    assert state["cfg"]["model"]["teacher_embed_dim"] == 48


def test_frames_that_differ_are_an_error():
    with pytest.raises(ValueError, match=r"student \[3, 2\] .* teacher \[3, 3\]"):
        check_frames(torch.tensor([3, 2]), torch.tensor([3, 3]))
    with pytest.raises(ValueError, match=r"student \[4\] .* teacher \[3\]"):
        check_frames(torch.tensor([4]), torch.tensor([3]))


def test_masks_are_the_students_alone(checkpoints):
    """With mask_prob the student sees masked spans in training, the teacher never, and validation not at all."""
    _, task, model, criterion = setup(checkpoints("tiny"), **{"model.mask_prob": 0.65})
    _, _, plain, _ = setup(checkpoints("tiny"))
    plain.load_state_dict(model.state_dict())
    given = sample([16000])
    seen = []
    teacher = task.teacher
    criterion.task = SimpleNamespace(teacher=SimpleNamespace(to=lambda *_: lambda **x: seen.append(x) or teacher(**x)))
    masked, unmasked = (float(criterion(m.train(), given)[0]) for m in (model, plain))
    assert masked != pytest.approx(unmasked, rel=1e-3)
    assert all(torch.equal(x["source"], given["net_input"]["source"]) and "mask" not in x for x in seen)
    masked, unmasked = (float(criterion(m.eval(), given)[0]) for m in (model, plain))
    assert masked == pytest.approx(unmasked, rel=1e-6)
