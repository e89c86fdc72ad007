"""Several label sets, each predicted by a layer of its own, and posteriors over centres: against plain torch."""

import numpy as np
import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from distill_user_dir.criterions import discriminative
from tests.criterions.test_discriminative import LENGTHS, sample_of
from tests.criterions.test_distillation import setup
from tests.helpers import batch, write_corpus, write_labels

CLUSTERS = {"km2": 9, "km4": 20}  # and four specials each
SIZES = [13, 24]
LINEAR = {"criterion.discriminative_head": "linear", "criterion.student_temperature": 0.7}
CALM = {"model.dropout_input": 0, "model.encoder_layerdrop": 0}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Labels of two sets, and centres of two layers of a tiny teacher's."""
    folder = write_corpus(tmp_path_factory.mktemp("sets"), {"train": [9000, 16000], "valid": [9000]})
    for seed, (name, clusters) in enumerate(CLUSTERS.items()):
        write_labels(folder, ["train", "valid"], clusters, name=name, seed=seed)
        centres = np.random.RandomState(seed).normal(3 * seed, 1 + seed, (clusters + 4, 48))
        np.save(str(folder / f"kmeans.{name}.npy"), centres.astype(np.float32))
    return folder


def kmeans(folder, **more):
    """Overrides of a training on both label sets."""
    return {"data": "km50", "task.labels": "[km2,km4]", "task.data": folder, **LINEAR, **more}


def distances(folder, **more):
    """Overrides of a training on the centres: layer 3 of the teacher for the first set, layer 1 for the second."""
    files = ",".join(str(folder / f"kmeans.{name}.npy") for name in CLUSTERS)
    target = {"criterion.discriminative_target": "distances", "criterion.discriminative_teacher_layers": "[3,1]"}
    return {"loss": "reg_disc", "task.centres": f"[{files}]", **target, **LINEAR, **more}


def two_sets(lengths, short=0, seed=0):
    """A sample with labels of both sets; `short`: labels that the second utterance lacks."""
    generator = torch.Generator().manual_seed(seed)
    counts = [(length - 400) // 320 + 1 - short * (i == 1) for i, length in enumerate(lengths)]
    made = [[torch.randint(4, size, (count,), generator=generator) for count in counts] for size in SIZES]
    samples = [sample_of(lengths, labels, seed) for labels in made]
    targets, numbers = ([one[key][0] for one in samples] for key in ("target_list", "target_lengths_list"))
    return {**samples[0], "target_list": targets, "target_lengths_list": numbers}


@pytest.mark.parametrize("frames", ["all", "masked", "unmasked"])
@pytest.mark.parametrize("pre_norm", ["false", "true"])
def test_loss_and_gradient_of_two_sets_by_hand(data, frames, pre_norm):
    """The last layer counts behind its LayerNorm where the student has one there, layer 2 as it is."""
    more = {"loss": "kmeans", "criterion.discriminative_frames": frames, "criterion.discriminative_layers": "[2,3]"}
    more.update({"model.mask_prob": 0.5, "model.layer_norm_first": pre_norm, "criterion.feature_penalty": 0, **CALM})
    _, _, model, criterion = setup("null", **kmeans(data, **more))
    sample = two_sets(LENGTHS, short=3)
    model.train()
    torch.manual_seed(7)
    loss, size, log = criterion(model, sample)
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()

    source, padded = sample["net_input"]["source"], sample["net_input"]["padding_mask"]
    torch.manual_seed(7)
    encoded = model.encode(source, padded, True, keep=(2,), label_counts=sample["target_lengths_list"][0])
    counted = torch.arange(encoded.x.size(1)) < encoded.frames.unsqueeze(1)
    counted &= {"all": counted, "masked": encoded.masked, "unmasked": ~encoded.masked}[frames]
    weight, bias = model.cluster_head.projection.weight, model.cluster_head.projection.bias
    total, right = 0.0, 0
    for layer, rows, labels in ((encoded.layers[2], slice(0, 13), 0), (encoded.x, slice(13, 37), 1)):
        logits = layer[counted] @ weight[rows].t() + bias[rows]
        given = sample["target_list"][labels]
        wanted = torch.nn.functional.pad(given, (0, counted.size(1) - given.size(1)))[counted]
        log_probs = torch.log_softmax(logits.double() / 0.7, -1)
        total = total - log_probs[torch.arange(len(wanted)), wanted].sum()
        right += int((logits.argmax(-1) == wanted).sum())
        assert torch.equal(log[f"_clusters_{labels}"], torch.bincount(wanted, minlength=SIZES[labels]))
    assert size == log["counted"] == int(counted.sum()) > 20
    assert float(loss) == pytest.approx(float(total), rel=1e-5)
    assert float(log["agreement"]) == pytest.approx(right / 2)
    total.backward()
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert float((found[name] - gradient).abs().max()) <= 1e-4 * float(gradient.abs().max()) + 1e-6, name


def test_posterior_over_centres_by_hand(data, checkpoints):
    """Of the one frame of 400 samples, in float64."""
    more = {"criterion.teacher_temperature": 0.3, "criterion.discriminative_layers": "[1,3]"}
    _, task, model, criterion = setup(
        checkpoints("tiny"), **distances(data, **more, **{"criterion.regression_weight": 0})
    )
    sample = two_sets([400])
    loss, size, log = criterion(model.eval(), sample)
    source = sample["net_input"]["source"]
    theirs = task.teacher.model.encode(source, keep=(1, 3)).layers
    ours = model.encode(source, keep=(1, 3))
    expected = 0.0
    for name, teacher_layer, layer, rows in (
        ("km2", 3, ours.layers[1], slice(0, 13)),
        ("km4", 1, ours.x, slice(13, 37)),
    ):
        centres = np.load(str(data / f"kmeans.{name}.npy")).astype(np.float64)
        spread = ((centres - centres.mean(0)) ** 2).sum(1).mean()
        frame = theirs[teacher_layer][0, 0].double().numpy()
        p = np.exp(-((frame - centres) ** 2).sum(1) / (spread * 0.3))
        p /= p.sum()
        projection = model.cluster_head.projection
        logits = (projection(layer)[0, 0, rows].detach().double() / 0.7).numpy()
        q = np.exp(logits) / np.exp(logits).sum()
        expected += (p * np.log(p / q)).sum()
    assert size == 1 and float(loss) == pytest.approx(expected, rel=1e-4) and expected > 0.01
    assert float(log["discriminative"]) == pytest.approx(expected, rel=1e-4)


def test_the_temperature_means_the_same_for_features_of_any_scale(data, checkpoints):
    _, task, _, _ = setup(checkpoints("tiny"), **distances(data))
    head, frames = task.teacher.head, torch.randn(5, 48, generator=torch.Generator().manual_seed(0))
    centres = torch.from_numpy(np.load(str(data / "kmeans.km2.npy")))
    scaled = type(head)([1000 * centres + 50])
    assert torch.allclose(scaled(1000 * frames + 50), head(frames, 0), atol=1e-3)


TARGETS = {
    "kmeans": lambda folder: kmeans(folder, loss="reg_disc", **{"criterion.discriminative_target": "kmeans"}),
    "distances": distances,
    "soft": lambda folder: {"loss": "reg_disc", "criterion.discriminative_target": "soft", **LINEAR},
    "hard": lambda folder: {"loss": "reg_disc", "criterion.discriminative_target": "hard"},
}


def built(target, data, checkpoints, layers="[1,3]", **more):
    teacher = checkpoints("tiny_large", sets=(9, 20), untie_final_proj=True)
    return setup(teacher, **TARGETS[target](data), **{"criterion.discriminative_layers": layers, **more})


@pytest.mark.parametrize("target", TARGETS)
def test_padded_batch_is_its_utterances_alone(data, checkpoints, target):
    """With the regression beside it, on the same layers of the teacher's."""
    _, _, model, criterion = built(target, data, checkpoints)
    model.eval()
    sample = two_sets(LENGTHS)
    loss, size, log = criterion(model, sample)
    alone = []
    for i, length in enumerate(LENGTHS):
        frames = (length - 400) // 320 + 1
        labels = [one[i : i + 1, :frames] for one in sample["target_list"]]
        source = batch([length], seed=i)[1]
        net_input = {"source": source, "padding_mask": torch.zeros_like(source, dtype=torch.bool)}
        counts = [torch.tensor([frames])] * 2
        alone.append({"id": torch.arange(1), "net_input": net_input, "target_list": labels})
        alone[-1]["target_lengths_list"] = counts
    alone = [criterion(model, one) for one in alone]
    assert size == sum(one[1] for one in alone) == sum((length - 400) // 320 + 1 for length in LENGTHS)
    assert float(loss) == pytest.approx(sum(float(one[0]) for one in alone), rel=1e-5)
    for name in ("discriminative", "agreement", "regression"):
        assert float(log[name]) == pytest.approx(sum(float(one[2][name]) for one in alone), rel=1e-4)


@pytest.mark.parametrize("target", TARGETS)
def test_the_last_layer_is_the_default_for_all(data, checkpoints, target):
    results = [built(target, data, checkpoints, layers) for layers in ("[]", "[3,3]", "[2,3]")]
    losses = [criterion(model.eval(), two_sets(LENGTHS))[2]["discriminative"] for _, _, model, criterion in results]
    assert float(losses[0]) == float(losses[1]) != float(losses[2])


def saved_shapes(criterion, model, sample):
    """Shapes of all that the forward pass keeps for the backward pass."""
    shapes = []

    def pack(x):
        shapes.append(tuple(x.shape))
        return x

    with saved_tensors_hooks(pack, lambda x: x):
        loss = criterion(model, sample)[0]
    loss.backward()
    return shapes


@pytest.mark.parametrize("target", TARGETS)
def test_no_logits_wait_for_the_backward_pass(data, checkpoints, target):
    _, _, model, criterion = built(target, data, checkpoints)
    sample = two_sets([16000, 24000])
    frames = 49 + 74
    kept = [shape for shape in saved_shapes(criterion, model.train(), sample) if shape in [(frames, n) for n in SIZES]]
    assert not kept and float(model.cluster_head.projection.weight.grad.abs().max()) > 0
    _, _, model, criterion = setup(checkpoints("tiny"), loss="reg_disc")  # one set, which is not computed twice
    assert (frames, 24) in saved_shapes(criterion, model.train(), sample_of([16000, 24000], sample["target_list"][1]))


def test_targets_of_one_set_are_asked_once_and_of_several_again(data, checkpoints, monkeypatch):
    """In the backward pass, and logs stay as they were."""
    _, task, model, criterion = built("soft", data, checkpoints)
    asked, clusters = [], task.teacher.clusters
    monkeypatch.setattr(task.teacher, "clusters", lambda *given: asked.append(given[1]) or clusters(*given))
    loss, _, log = criterion(model.train(), two_sets(LENGTHS))
    before = {name: float(value.sum()) for name, value in log.items() if isinstance(value, torch.Tensor)}
    assert asked == [0, 1]
    loss.backward()
    assert sorted(asked[2:]) == [0, 1]
    assert {name: float(log[name].sum()) for name in before} == before
    criterion(model.eval(), two_sets(LENGTHS))
    with torch.no_grad():
        assert criterion(model, two_sets(LENGTHS))[0].requires_grad is False


@pytest.mark.parametrize("target", ["soft", "distances"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "mixed"])
def test_the_second_computation_changes_nothing(data, checkpoints, target, precision, monkeypatch):
    """In no precision: weights of bfloat16, as common.bf16 has them, and float32 weights under autocast."""
    _, _, model, criterion = built(target, data, checkpoints)
    model.train().bfloat16() if precision == "bfloat16" else model.train()
    found = []
    for _ in range(2):
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "mixed"):
            loss, _, _ = criterion(model, two_sets(LENGTHS))
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
        monkeypatch.setattr(discriminative, "checkpoint", lambda run, *given, **options: run(*given))
    assert len(found[0]) == len(found[1]) > 20 and all(torch.equal(*pair) for pair in zip(*found))
    assert float(model.cluster_head.projection.weight.grad.abs().max()) > 0


def test_the_teacher_is_run_no_further_than_its_centres(data, checkpoints):
    more = {"criterion.regression_weight": 0, "criterion.discriminative_teacher_layers": "[2,1]"}
    cfg, task, model, _ = setup(checkpoints("tiny"), **distances(data, **more))
    assert task.teacher.last == len(task.teacher.model.encoder.layers) == 2
    assert list(cfg.model.cluster_sizes) == SIZES
    assert not any("centre" in name or "mean" in name for name in model.state_dict())
