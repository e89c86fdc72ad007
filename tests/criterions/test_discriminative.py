"""The criterion's discriminative loss: against fairseq's own `hubert` criterion, and by invariances."""

from types import SimpleNamespace

import pytest
import torch
from fairseq.criterions.hubert_criterion import HubertCriterion
from fairseq.logging import metrics
from fairseq.models.hubert.hubert import HubertModel

from distill_user_dir.criterions.distillation import DistillationCriterion
from distill_user_dir.criterions.distillation_config import DistillationCriterionConfig
from distill_user_dir.models.student_config import student_config
from distill_user_dir.models.student_hubert import StudentHubert
from tests.criterions.test_distillation import LENGTHS, setup
from tests.helpers import SIZES, batch, dictionary, hubert_configs, shake, struct, write_corpus, write_labels

COMBINATIONS = [(head, target) for head in ("codebook", "linear") for target in ("soft", "hard", "kmeans")]


def pair(size, rate, frames, sets):
    """A HuBERT of fairseq's and a student with the same weights, which sees the same masks as the HuBERT just had."""
    options = {"mask_prob": 0.5, "dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
    options.update(dropout_input=0.0, dropout_features=0.0, encoder_layerdrop=0.0, untie_final_proj=True)
    cfg, task = hubert_configs(size, **options)
    cfg["label_rate"] = rate
    torch.manual_seed(5)
    hubert = shake(HubertModel(struct(cfg), struct(task), [dictionary(range(n)) for n in sets])).eval()
    values = dict(SIZES[size], **options, label_rate=rate, regression_weight=0.0, discriminative_weight=1.0)
    values.pop("final_dim"), values.pop("untie_final_proj")
    values.update(discriminative_frames=frames, discriminative_target="kmeans", codebook_dim=cfg["final_dim"])
    student = StudentHubert(student_config({**values, "cluster_sizes": [n + 4 for n in sets]}), struct(task)).eval()
    state = hubert.state_dict()
    head = {f"cluster_head.projection.{kind}": state.pop(f"final_proj.{kind}") for kind in ("weight", "bias")}
    student.load_state_dict(dict(state, **head, **{"cluster_head.codebook": state.pop("label_embs_concat")}), True)
    seen = []
    apply_mask = hubert.apply_mask

    def remembering(x, padded, targets):
        x, masked = apply_mask(x, padded, targets)
        seen.append(masked)
        return x, masked

    def repeating(x, padded, targets=None):
        masked = torch.nn.functional.pad(seen[-1], (0, x.size(1) - seen[-1].size(1)))  # frames that fairseq cut off
        return torch.where(masked.unsqueeze(-1), student.mask_emb, x), masked

    hubert.apply_mask, student.apply_mask = remembering, repeating
    return hubert, student


@pytest.mark.parametrize("size", ["tiny", "tiny_large"])
@pytest.mark.parametrize("samples, rate", [(16000, 50), (16000, 100), (16160, 100)])
@pytest.mark.parametrize("frames, weights", [("masked", (1, 0)), ("unmasked", (0, 1)), ("all", (1, 1))])
def test_kmeans_on_the_codebook_is_fairseqs_hubert_criterion(size, samples, rate, frames, weights):
    """Labels at 100 a second are odd in number for 16,160 samples: fairseq then leaves out the last frame."""
    sets = (20, 7)
    hubert, student = pair(size, rate, frames, sets)
    labels = (samples - 400) // (16000 // rate) + 1
    _, source, padded = batch([samples] * 3)
    targets = [torch.randint(4, n + 4, (3, labels), generator=torch.Generator().manual_seed(n)) for n in sets]
    sample = {
        "id": torch.arange(3),
        "net_input": {"source": source, "padding_mask": padded},
        "target_list": targets,
        "target_lengths_list": [torch.full((3,), labels)] * 2,
    }
    theirs, their_size, _ = HubertCriterion(SimpleNamespace(), *map(float, weights))(hubert, sample)
    cfg = DistillationCriterionConfig(regression_weight=0.0, discriminative_weight=1.0, discriminative_target="kmeans")
    cfg.discriminative_frames = frames
    criterion = DistillationCriterion(cfg, SimpleNamespace(teacher=None, cfg=SimpleNamespace(seed=1)))
    if frames == "all":  # counts every frame, but masks none by itself outside of training
        student.train()
    ours, our_size, log = criterion(student, sample)
    assert our_size == their_size > 0
    assert float(ours) / our_size == pytest.approx(float(theirs) / their_size, rel=1e-5)
    assert float(log["discriminative"]) == pytest.approx(float(ours))


def test_the_penalty_on_features_is_hubert_criterions():
    """Padded, by hand: of the valid frames, where fairseq has those of the padding too."""
    hubert, student = pair("tiny", 50, "masked", (20,))
    source = batch([16000] * 3)[1]
    targets = [torch.randint(4, 24, (3, 49), generator=torch.Generator().manual_seed(0))]
    sample = {"id": torch.arange(3), "net_input": {"source": source, "padding_mask": None}}
    sample.update(target_list=targets, target_lengths_list=[torch.full((3,), 49)])
    theirs, size, _ = HubertCriterion(SimpleNamespace(), 1.0, 0.0, [10])(
        hubert, dict(sample, net_input={"source": source, "padding_mask": torch.zeros_like(source, dtype=torch.bool)})
    )
    cfg = DistillationCriterionConfig(regression_weight=0.0, discriminative_weight=1.0, discriminative_target="kmeans")
    cfg.discriminative_frames, cfg.feature_penalty = "masked", 10.0
    criterion = DistillationCriterion(cfg, SimpleNamespace(teacher=None, cfg=SimpleNamespace(seed=1)))
    without, _, _ = criterion(student, sample)
    student.pays_for_features = True
    ours, our_size, log = criterion(student, sample)
    assert our_size == size and float(ours) == pytest.approx(float(theirs), rel=1e-5)
    assert float(ours) > float(without)
    square = student.feature_extractor(source).square().mean()
    assert float(log["penalty"]) / log["ntokens"] == pytest.approx(float(square), rel=1e-5)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    folder = write_corpus(tmp_path_factory.mktemp("labelled"), {"train": [9000, 16000, 30000], "valid": [9000]})
    write_labels(folder, ["train", "valid"])
    return folder


def built(teacher, folder, head, target, **more):
    overrides = {"loss": "reg_disc", "criterion.discriminative_head": head, "criterion.discriminative_target": target}
    if target == "kmeans":
        overrides.update({"data": "km50", "task.data": folder})
    return setup(teacher, **{**overrides, **more})


def labels_for(lengths, seed=0):
    counts = [(length - 400) // 320 + 1 for length in lengths]
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(4, 24, (max(counts),), generator=generator)[:count] for count in counts]


def sample_of(lengths, labels, seed=0):
    _, source, padded = batch(lengths, seed)
    counts = torch.tensor([len(one) for one in labels])
    target = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=1)
    net_input = {"source": source, "padding_mask": padded}
    ids = torch.arange(len(lengths))
    return {"id": ids, "net_input": net_input, "target_list": [target], "target_lengths_list": [counts]}


@pytest.mark.parametrize("head, target", COMBINATIONS)
def test_padded_batch_is_the_frame_weighted_mean_of_its_utterances(checkpoints, labelled, head, target):
    _, _, model, criterion = built(checkpoints("tiny_large"), labelled, head, target)
    model.eval()
    labels = labels_for(LENGTHS)
    labels[1] = labels[1][:-1]  # one short: its last frame does not count
    loss, size, log = criterion(model, sample_of(LENGTHS, labels))
    alone = [
        criterion(model, sample_of([length], [label], i)) for i, (length, label) in enumerate(zip(LENGTHS, labels))
    ]
    due = [(length - 400) // 320 + 1 for length in LENGTHS]
    due[1] -= target == "kmeans"
    assert [one[1] for one in alone] == due and size == sum(due)
    assert float(loss) == pytest.approx(sum(float(one[0]) for one in alone), rel=1e-5)
    for name in ("discriminative", "agreement", "regression"):
        assert float(log[name]) == pytest.approx(sum(float(one[2][name]) for one in alone), rel=1e-4)


@pytest.mark.parametrize("head, target", COMBINATIONS)
def test_total_is_the_weighted_sum_and_the_codebook_stays(checkpoints, labelled, head, target):
    _, task, model, criterion = built(
        checkpoints("tiny"), labelled, head, target, **{"criterion.discriminative_weight": 0.25}
    )
    loss, size, log = criterion(model.train(), sample_of(LENGTHS, labels_for(LENGTHS)))
    expected = float(log["regression"]) + 0.25 * float(log["discriminative"])
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert float(model.cluster_head.projection.weight.grad.abs().sum()) > 0
    named = dict(model.named_parameters())
    held = [key for key in model.state_dict() if key not in named and not key.startswith("feature_extractor")]
    assert [key for key in held if "num_batches" not in key] == (
        ["cluster_head.codebook"] if head == "codebook" else []
    )


def test_codebook_is_the_teachers(checkpoints, labelled):
    path = checkpoints("tiny", sets=(20, 7), untie_final_proj=True)
    cfg, _, model, _ = built(path, labelled, "codebook", "soft")
    state = torch.load(path, weights_only=True)["model"]
    assert torch.equal(model.cluster_head.codebook, state["label_embs_concat"])
    assert list(cfg.model.cluster_sizes) == [24, 11] and cfg.model.codebook_dim == 16


def test_masked_objective_runs_no_teacher_and_repeats_its_masks(checkpoints, labelled):
    kmeans = {"loss": "kmeans", "data": "km50", "task.data": labelled}
    _, task, model, criterion = setup(checkpoints("tiny"), **kmeans)
    assert task.teacher is None and model.heads is None
    sample = sample_of(LENGTHS, labels_for(LENGTHS))
    frames = sum((length - 400) // 320 + 1 for length in LENGTHS)
    for mode in (model.train(), model.eval()):
        torch.manual_seed(11)
        loss, size, log = criterion(mode, sample)
        assert 0 < size == log["counted"] < frames == log["ntokens"]
        torch.manual_seed(11 if mode.training else 12)
        assert float(criterion(mode, sample)[0]) == float(loss)


def test_short_utterances_have_fewer_masks_or_none(checkpoints, labelled):
    """fairseq raises for them."""
    kmeans = {"loss": "kmeans", "data": "km50", "task.data": labelled, "criterion.discriminative_head": "linear"}
    _, _, model, criterion = setup(checkpoints("tiny"), **kmeans)
    for length, due in ((720, 0), (3280, 0), (3600, 10)):
        loss, size, _ = criterion(model.train(), sample_of([length], labels_for([length])))
        assert size == due and torch.isfinite(loss)
        loss.backward()


def test_own_labels_need_no_teacher_at_all(labelled):
    overrides = {"loss": "kmeans", "data": "km50", "task.data": labelled, "criterion.discriminative_head": "linear"}
    cfg, task, model, criterion = setup("null", **overrides)
    assert list(cfg.model.cluster_sizes) == [24] and task.teacher is None
    assert criterion(model.train(), sample_of([9000], labels_for([9000])))[1] > 0


def test_logs_add_up_over_batches(checkpoints, labelled):
    """`commonest` is of all batches of a report, not the mean over batches."""
    _, _, model, criterion = built(checkpoints("tiny"), labelled, "linear", "kmeans")
    labels = [torch.full((28,), 5), torch.cat([torch.full((20,), 6), torch.full((8,), 5)])]
    logs = [criterion(model.eval(), sample_of([9000], [one]))[2] for one in labels]
    with metrics.aggregate(new_root=True) as aggregate:
        for log in logs:  # as fairseq does in a validation
            DistillationCriterion.reduce_metrics([log])
    values = aggregate.get_smoothed_values()
    assert values["commonest"] == pytest.approx(34 / 54, abs=1e-4)  # 27 frames each
    assert values["agreement"] == pytest.approx(sum(float(log["agreement"]) for log in logs) / 54, abs=1e-4)
    assert values["discriminative"] == pytest.approx(sum(float(x["discriminative"]) for x in logs) / 54, abs=1e-3)
    assert not any(name.startswith("_") for name in values)
    state = aggregate.state_dict()
    aggregate.load_state_dict(state)  # a resume
