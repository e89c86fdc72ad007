import pytest
import torch
from fairseq import checkpoint_utils

from distill_user_dir.checkpoints.hubert import hubert_in
from distill_user_dir.checkpoints.loading import CheckpointError, load
from distill_user_dir.modules.padding import Chosen
from distill_user_dir.teaching.clusters import clusters_in
from distill_user_dir.teaching.teacher import Teacher, load_whole
from tests.helpers import batch, noise

KINDS = {
    "post-LN": ("tiny", {}),
    "pre-LN": ("tiny_large", {"normalize": True}),
    "untied": ("tiny", {"sets": (20, 7), "untie_final_proj": True}),
    "tied sets": ("tiny_large", {"sets": (9, 20, 5)}),
    "gated": ("tiny", {"sets": (20, 7), "untie_final_proj": True, "target_glu": True}),
    "old": ("tiny", {"old": True}),
    "base": ("base", {"sets": (500,)}),
    "large": ("large", {"normalize": True, "sets": (500,)}),
}


def fairseq_logits(model, x):
    """(F, D) outputs of fairseq's HubertModel -> for each label set (F, C), as its forward has `compute_nce` do it."""
    projected = model.final_proj(x)
    sets = model.label_embs_concat.split(model.num_classes, 0)
    parts = projected.chunk(len(sets), -1) if model.untie_final_proj else [projected] * len(sets)
    found = []
    for part, embeddings in zip(parts, sets):
        negatives = embeddings.unsqueeze(1).expand(-1, len(part), -1)
        if model.target_glu:
            embeddings, negatives = model.target_glu(embeddings), model.target_glu(negatives)
        logits = model.compute_nce(part, embeddings[:1].expand(len(part), -1), negatives)
        logits[:, 1] = logits[:, 0]  # where the negative is the positive, compute_nce has -inf
        found.append(logits[:, 1:])
    return found


def judged(teacher, output, device):
    """For each label set (F, C) logits of the valid frames."""
    frames = teacher.chosen(output, Chosen.where(~output.padding_mask, device))
    return [teacher.clusters(chosen, number) for number, chosen in enumerate(frames)]


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if kind in ("base", "large") else ()) for kind in KINDS]
)
@torch.no_grad()
def test_cluster_logits_equal_fairseqs(checkpoints, kind):
    size, options = KINDS[kind]
    path = checkpoints(size, **options)
    model = checkpoint_utils.load_model_ensemble_and_task([path])[0][0].eval()
    audio = noise(12000).unsqueeze(0)
    fed = torch.nn.functional.layer_norm(audio, audio.shape) if options.get("normalize") else audio
    expected = fairseq_logits(model, model.extract_features(fed)[0][0])
    clusters = clusters_in(hubert_in(path))
    assert [len(s) for s in clusters.symbols] == clusters.head.sizes == [n + 4 for n in options.get("sets", (20,))]
    teacher = Teacher(load_whole(path), [1], path, clusters.head).truncate()
    output = teacher(audio)
    found = judged(teacher, output, audio.device)
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected):
        assert ours.shape == theirs.shape
        assert float((ours / model.logit_temp - theirs).abs().max()) < 1e-5


@torch.no_grad()
def test_padding_changes_no_posterior(checkpoints):
    path = checkpoints("tiny_large", sets=(20, 7), untie_final_proj=True)
    teacher = Teacher(load_whole(path), [], path, clusters_in(hubert_in(path)).head)
    audio, source, padded = batch([16000, 9000, 24000])
    output = teacher(source, padded)
    batched = [one.split((~output.padding_mask).sum(1).tolist()) for one in judged(teacher, output, source.device)]
    for i, utterance in enumerate(audio):
        alone = teacher(utterance.unsqueeze(0))
        for number, single in enumerate(judged(teacher, alone, source.device)):
            assert float((batched[number][i] - single).abs().max()) < 1e-5


def test_head_is_frozen_and_needs_every_layer(checkpoints):
    path = checkpoints("tiny")
    teacher = Teacher(load_whole(path), [1], path, clusters_in(hubert_in(path)).head).truncate()
    assert len(teacher.model.encoder.layers) == 3
    assert not any(p.requires_grad for p in teacher.head.parameters()) and not teacher.head.training


def spoilt(path, tmp_path, spoil):
    state = load(path)
    spoil(state)
    torch.save(state, str(tmp_path / "spoilt.pt"))
    return hubert_in(str(tmp_path / "spoilt.pt"))


def no_embeddings(state):
    del state["model"]["label_embs_concat"]


def no_projection(state):
    del state["model"]["final_proj.weight"]


def no_matrix(state):
    state["model"]["label_embs_concat"] = torch.zeros(24)


def fewer_rows(state):
    state["model"]["label_embs_concat"] = torch.zeros(23, 16)


def other_width(state):
    state["model"]["label_embs_concat"] = torch.zeros(24, 13)


def damaged_dictionary(state):
    state["task_state"]["dictionaries"][0].symbols = [1, 2]


def no_dictionary(state):
    state["task_state"]["dictionaries"] = ["km"]


def wrong_gate(state):
    state["model"].update({"target_glu.0.weight": torch.zeros(3, 3), "target_glu.0.bias": torch.zeros(3)})


@pytest.mark.parametrize(
    "spoil, told",
    [
        (no_embeddings, ["no clusters", "label_embs_concat", "discriminative_weight=0"]),
        (no_projection, ["no clusters", "final_proj"]),
        (no_matrix, ["no matrices"]),
        (fewer_rows, ["23 label embeddings", "[24]"]),
        (other_width, ["final_proj gives 16", "13"]),
        (damaged_dictionary, ["a dictionary whose symbols, counts and indices do not fit"]),
        (no_dictionary, ["no list of dictionaries"]),
        (wrong_gate, ["target_glu", "(3, 3)"]),
    ],
)
def test_unfit_clusters_are_refused(checkpoints, tmp_path, spoil, told):
    with pytest.raises(CheckpointError) as error:
        clusters_in(spoilt(checkpoints("tiny"), tmp_path, spoil))
    assert all(part in str(error.value) for part in [*told, "spoilt.pt"]) and "\n" not in str(error.value)


def test_a_student_has_no_clusters(distilled):
    with pytest.raises(CheckpointError, match="no clusters.*student_hubert"):
        clusters_in(hubert_in(distilled))


def test_without_dictionaries_one_set_has_all_rows(checkpoints, tmp_path):
    """Files that were stripped for publication."""
    clusters = clusters_in(spoilt(checkpoints("tiny"), tmp_path, lambda state: state.pop("task_state")))
    assert clusters.head.sizes == [24] and clusters.symbols is None
