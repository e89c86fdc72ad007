import shutil

import editdistance
import pytest
import torch
from fairseq import checkpoint_utils, criterions, tasks
from omegaconf import OmegaConf

from distill_user_dir.checkpoints.loading import CheckpointError, load
from distill_user_dir.models.student_ctc import StudentCtc
from tests.commands import listed, run, train_command
from tests.helpers import batch, finetune_overrides, recipe, train


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory, checkpoints, distilled, corpus):
    """{start: path of a checkpoint}, fine-tuned for two updates; what it started from is gone."""
    made = {}
    for start, path in (
        ("student", distilled),
        ("hubert", checkpoints("tiny")),
        ("old", checkpoints("tiny", old=True)),
    ):
        folder = tmp_path_factory.mktemp(start)
        shutil.copy(path, str(folder / "start.pt"))
        overrides = finetune_overrides(folder / "start.pt", corpus, folder / "out")
        if start == "student":  # as a user does it
            run(train_command("finetune", "laptop", overrides), folder)
        else:
            train("finetune", "laptop", overrides)
        (folder / "start.pt").unlink()
        made[start] = str(folder / "out" / "checkpoint_last.pt")
    return made


@pytest.fixture
def alone(fine_tuned, corpus, tmp_path, request):
    """A fine-tuned checkpoint in a folder with nothing but the dictionary beside it."""
    shutil.copy(fine_tuned[request.param], str(tmp_path / "model.pt"))
    shutil.copy(str(corpus / "dict.ltr.txt"), str(tmp_path))
    return tmp_path


STARTS = pytest.mark.parametrize("alone", ["student", "hubert", "old"], indirect=True)


def rebuilt(folder):
    models, cfg, task = checkpoint_utils.load_model_ensemble_and_task(
        [str(folder / "model.pt")], arg_overrides={"data": str(folder), "label_dir": str(folder)}
    )
    return models[0].eval(), cfg, task


@STARTS
def test_rebuilds_from_its_own_file(alone):
    state = load(str(alone / "model.pt"))
    model, _, task = rebuilt(alone)
    own = model.state_dict()
    assert type(model) is StudentCtc and own.keys() == state["model"].keys()
    assert all(torch.equal(own[key], value) for key, value in state["model"].items())
    assert state["optimizer_history"][-1]["num_updates"] == 2
    assert len(task.target_dictionary) == own["w2v_encoder.proj.weight"].size(0) == 4 + len("EINOSTWX|")
    assert not [key for key in own if any(name in key for name in ("heads", "label_embs", "final_proj"))]


@STARTS
def test_fine_tuning_sets_the_encoder_anew(alone):
    """Recipe values reach the encoder under fairseq's names, at training and again at rebuilding."""
    model, cfg, _ = rebuilt(alone)
    encoder = model.w2v_encoder.w2v_model
    assert (encoder.mask_prob, encoder.mask_length, encoder.feature_grad_mult) == (0.3, 10, 1.0)
    layer = encoder.encoder.layers[0]
    assert (layer.dropout1.p, layer.dropout2.p, layer.self_attn.dropout_module.p) == (0.0, 0.1, 0.0)
    assert cfg.model.w2v_args.model.mask_prob == 0.3 and cfg.model.w2v_args.model.activation_dropout == 0.1


@pytest.mark.parametrize("alone", ["student"], indirect=True)
@torch.no_grad()
def test_padded_frames_are_blank(alone):
    model, _, _ = rebuilt(alone)
    audio, source, padded = batch([24000, 9000])
    net_output = model(source=source, padding_mask=padded)
    logits, mask = model.get_logits(net_output), net_output["padding_mask"]
    assert (~mask).sum(1).tolist() == [74, 27] and logits.shape[:2] == (74, 2)
    assert (logits[27:, 1].softmax(-1)[:, 0] == 1).all() and (logits[27:, 1].argmax(-1) == 0).all()
    assert torch.equal(logits[:27, 1], net_output["encoder_out"][:27, 1])
    one = model.get_logits(model(source=audio[1].unsqueeze(0), padding_mask=None))
    assert float((one[:, 0] - logits[:27, 1]).abs().max()) < 1e-4
    assert torch.equal(logits[:, 0], net_output["encoder_out"][:, 0])


def validated(model, cfg, task, batches):
    """Loss, error counts of fairseq's own CTC criterion, summed over batches of these utterances."""
    criterion = criterions.build_criterion(cfg.criterion, task).eval()
    found = task.datasets["valid"]
    total = {}
    for ids in batches:
        log = criterion(model, found.collater([found[i] for i in ids]))[2]
        for key in ("loss", "ntokens", "w_errors", "wv_errors", "w_total", "c_errors", "c_total"):
            total[key] = total.get(key, 0) + float(log.get(key, 0))
    return total


@STARTS
@torch.no_grad()
def test_validation_is_the_same_in_any_batch(alone, corpus):
    model, cfg, task = rebuilt(alone)
    with torch.no_grad():  # an untrained output layer would say nothing at all
        model.w2v_encoder.proj.weight.mul_(30)
    task.cfg.data = task.cfg.label_dir = str(corpus)
    task.load_dataset("valid")
    ones = validated(model, cfg, task, [[i] for i in range(5)])
    for batches in ([[0, 1, 2, 3, 4]], [[4, 2], [0, 3, 1]], [[3, 1, 4, 0, 2]]):
        found = validated(model, cfg, task, batches)
        assert found.pop("loss") == pytest.approx(ones["loss"], rel=1e-5)
        assert found == {key: value for key, value in ones.items() if key != "loss"}
    references = (corpus / "valid.ltr").read_text().split("\n")[:5]
    assert ones["w_total"] == sum(line.count("|") for line in references)
    assert 0 < ones["c_errors"] == sum(errors(model, task, i) for i in range(5))


def errors(model, task, i):
    """Letter errors of the best path, by hand."""
    found = task.datasets["valid"][i]
    best = model.get_logits(model(source=found["source"].unsqueeze(0), padding_mask=None))[:, 0].argmax(-1).tolist()
    path = [unit for t, unit in enumerate(best) if unit != 0 and (t == 0 or best[t - 1] != unit)]
    return editdistance.eval(path, found["label_list"][0].tolist())


def changed(path, tmp_path, change):
    state = torch.load(path, weights_only=True)
    change(state["model"])
    torch.save(state, str(tmp_path / "start.pt"))
    return tmp_path / "start.pt"


def built(start, corpus, **overrides):
    cfg = recipe("finetune", "laptop", *listed(finetune_overrides(start, corpus, "/none", **overrides)))
    cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True, enum_to_str=True))
    task = tasks.setup_task(cfg.task)
    return task.build_model(cfg.model)


def test_only_heads_may_be_missing(distilled, corpus, tmp_path):
    state = load(distilled)["model"]
    heads = [key for key in state if key.startswith("heads.")]
    assert heads

    def without_heads(model):
        for key in heads:
            del model[key]

    model = built(changed(distilled, tmp_path, without_heads), corpus)
    encoder = model.w2v_encoder.w2v_model.state_dict()
    assert encoder.keys() == state.keys() - set(heads) and all(torch.equal(encoder[k], state[k]) for k in encoder)
    for key in (
        "mask_emb",
        "layer_norm.weight",
        "encoder.layers.2.fc2.bias",
        "feature_extractor.conv_layers.0.0.weight",
    ):
        with pytest.raises(
            CheckpointError,
            match=f"start.pt: .*`{key}`.* the file has none|start.pt: 1 weights missing, the first `{key}`",
        ):
            built(changed(distilled, tmp_path, lambda model: model.pop(key)), corpus)  # noqa: B023
    with pytest.raises(CheckpointError, match="start.pt: 1 weights unexpected, the first `encoder.extra`"):
        built(changed(distilled, tmp_path, lambda model: model.update({"encoder.extra": torch.zeros(1)})), corpus)


def test_without_pretrained_weights_only_the_structure_is_taken(distilled, corpus):
    state = load(distilled)["model"]
    fresh = built(distilled, corpus, **{"model.no_pretrained_weights": "true"}).w2v_encoder.w2v_model.state_dict()
    assert all(fresh[key].shape == state[key].shape for key in fresh)
    assert not [key for key in fresh if fresh[key].dim() > 2 and torch.equal(fresh[key], state[key])]


def test_needs_fine_tuning(distilled, corpus):
    with pytest.raises(ValueError, match="student_ctc needs task.fine_tuning=true"):
        built(distilled, corpus, **{"task.fine_tuning": "false", "task.labels": "[]"})
