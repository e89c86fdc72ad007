import argparse
import builtins
import os
import re

import pytest
import torch
from fairseq import checkpoint_utils

from distill_user_dir.checkpoints.building import build_hubert
from distill_user_dir.checkpoints.hubert import hubert_in
from distill_user_dir.checkpoints.loading import CheckpointError, load
from tests.helpers import CNN, noise


@pytest.fixture(params=[False, True], ids=["cfg", "args"])
def original(request, checkpoints):
    return checkpoints("tiny", old=request.param)


def changed(path, tmp_path, change):
    """A copy of a checkpoint after `change(state)`."""
    state = torch.load(path, weights_only=True)
    change(state)
    target = str(tmp_path / "changed.pt")
    torch.save(state, target)
    return target


def refused(path, *told, call=lambda path: build_hubert(hubert_in(path))):
    """The one line with which a checkpoint is refused: its path first, then what `told` says."""
    with pytest.raises(CheckpointError) as error:
        call(str(path))
    message = str(error.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < len(str(path)) + 400
    for part in told:
        assert part in message
    return message


def test_both_formats_hold_what_fairseq_finds(original):
    models, cfg, task = checkpoint_utils.load_model_ensemble_and_task([original])
    found = hubert_in(original)
    assert found.name == "hubert" and not found.fine_tuned
    for key in ("encoder_layers", "encoder_embed_dim", "conv_feature_layers", "layer_norm_first", "conv_pos"):
        assert found.model[key] == cfg.model[key]
    assert found.task["normalize"] == task.cfg.normalize
    ours, theirs = build_hubert(found).state_dict(), models[0].state_dict()
    assert theirs.keys() - ours.keys() == {"final_proj.weight", "final_proj.bias", "label_embs_concat"}
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def fine_tuned(state):
    """What fairseq makes of it with CTC: everything under a prefix, the configs in `w2v_args`."""
    model = {f"w2v_encoder.w2v_model.{key}": value for key, value in state["model"].items() if "final_proj" not in key}
    state["model"] = dict(
        model, **{"w2v_encoder.proj.weight": torch.rand(9, 48), "w2v_encoder.proj.bias": torch.rand(9)}
    )
    if "cfg" in state:
        w2v_args = {"model": state["cfg"]["model"], "task": state["cfg"]["task"], "common": {}}
        task = {"_name": "hubert_pretraining", "fine_tuning": True}
        state["cfg"] = {"model": {"_name": "hubert_ctc", "w2v_args": w2v_args}, "task": task}
    else:
        state["args"] = argparse.Namespace(arch="hubert_ctc", w2v_args=state["args"], fine_tuning=True)


def test_fine_tuned_gives_the_same_encoder(original, tmp_path):
    path = changed(original, tmp_path, fine_tuned)
    found = hubert_in(path)
    assert found.fine_tuned and found.name == "hubert"
    audio = noise(8000).unsqueeze(0)
    before, after = (build_hubert(hubert_in(p)).eval().encode(audio).x for p in (original, path))
    assert torch.equal(before, after)


class Trap:
    """Pickled code: whoever unpickles it creates a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return builtins.open, (self.path, "w")


@pytest.mark.parametrize("place", ["model", "cfg", "task_state", "top"])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_not_run(checkpoints, tmp_path, place, zipped):
    path, target = tmp_path / "trap.pt", tmp_path / "ran"
    state = torch.load(checkpoints("tiny"), weights_only=True)
    if place == "top":
        state = Trap(target)
    else:
        state[place]["trap"] = Trap(target)
    torch.save(state, str(path), _use_new_zipfile_serialization=zipped)
    refused(path, "refused", "open")
    assert not target.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated(checkpoints, tmp_path, zipped):
    whole, path = tmp_path / "whole.pt", tmp_path / "cut.pt"
    torch.save(torch.load(checkpoints("tiny"), weights_only=True), str(whole), _use_new_zipfile_serialization=zipped)
    content = whole.read_bytes()
    size = len(content)
    for length in [0, 1, 2, 3, 5, 11, 64, 100, 500, 1000, 4000, 10000, size // 3, size // 2, size - 1000, size - 30]:
        path.write_bytes(content[:length])
        refused(path, call=load)
    path.write_bytes(content)
    assert load(str(path))["model"]


def test_no_checkpoint(tmp_path):
    path = tmp_path / "file.pt"
    refused(path, "no such file")
    refused(tmp_path, "no such file")
    refused("hubert.pt", f"no such file in {os.getcwd()}; give the whole path")
    path.write_text("RIFF is what a wav begins with\n" * 100)
    refused(path)
    path.write_bytes(bytes(range(256)) * 40)
    refused(path)
    for content in ([1, 2], {"weights": torch.zeros(2)}, {"model": torch.zeros(2)}, torch.zeros(3)):
        torch.save(content, str(path))
        refused(path, "no fairseq checkpoint")
    torch.save({"model": {"a": [1]}}, str(path))
    refused(path, "`model` holds 'a', which is no weight")
    torch.save({"model": {"a": torch.zeros(1)}}, str(path))
    refused(path, "neither `cfg` nor `args`")
    torch.save({"model": {"a": torch.zeros(1)}, "cfg": {"model": {"_name": "wav2vec2"}, "task": {}}}, str(path))
    refused(path, "'wav2vec2'", "hubert")
    torch.save({"model": {"a": torch.zeros(1)}, "args": argparse.Namespace(arch="wav2vec2")}, str(path))
    refused(path, "'wav2vec2'", "hubert")


def test_code_in_the_config_is_not_run(original, tmp_path):
    target = tmp_path / "ran"

    def change(state):
        code = f"[(32,10,5)] + [open({str(target)!r}, 'w')]"
        if "cfg" in state:
            state["cfg"]["model"]["conv_feature_layers"] = code
        else:
            state["args"].conv_feature_layers = code

    refused(changed(original, tmp_path, change), "conv_feature_layers")
    assert not target.exists()


def test_code_in_another_models_config_is_refused_by_load(checkpoints, tmp_path):
    """fairseq's own `hubert_ctc` would evaluate what its `w2v_args` say."""

    def change(state):
        fine_tuned(state)
        state["cfg"]["model"]["w2v_args"]["model"]["conv_feature_layers"] = "[(32,10,5)] + [exit()]"

    refused(changed(checkpoints("tiny"), tmp_path, change), "conv_feature_layers", call=load)


@pytest.mark.parametrize(
    "key, value, told",
    [
        ("encoder_layers", "many", "encoder_layers"),
        ("extractor_mode", "none", "extractor_mode"),
        ("encoder_attention_heads", 7, "encoder_embed_dim 48 is not a multiple of encoder_attention_heads 7"),
        (
            "conv_pos_groups",
            5,
            "wants `encoder.pos_conv.0.weight_v` of shape (48, 9, 16), and the file has (48, 12, 16)",
        ),
        ("mask_selection", "uniform", "mask_selection"),
        ("no_mask_overlap", True, "no_mask_overlap"),
        ("encoder_layers", "${oc.env:NO_SUCH_VARIABLE}", "NO_SUCH_VARIABLE"),
    ],
)
def test_config_that_does_not_fit(checkpoints, tmp_path, key, value, told):
    path = changed(checkpoints("tiny"), tmp_path, lambda state: state["cfg"]["model"].update({key: value}))
    assert re.search(re.escape(told).replace("encoder_layers", "(encoder_layers|many)"), refused(path))


def test_every_weight_is_accounted_for(checkpoints, tmp_path):
    path, key = checkpoints("tiny"), "encoder.layers.1.fc1.weight"
    refused(
        changed(path, tmp_path, lambda state: state["model"].pop(key)),
        f"`{key}` of shape (96, 48), and the file has none",
    )
    extra = {"encoder.layers.1.fc3.weight": torch.zeros(1)}
    refused(changed(path, tmp_path, lambda state: state["model"].update(extra)), "1 weights unexpected", *extra)
    refused(
        changed(path, tmp_path, lambda state: state["model"].update({key: torch.zeros(95, 48)})), "has (95, 48)", key
    )
    refused(changed(path, tmp_path, lambda state: state["cfg"]["model"].update(encoder_layers=2)), "unexpected")
    refused(changed(path, tmp_path, lambda state: state["cfg"]["model"].update(encoder_layers=4)), "has none")
    wider = {"conv_feature_layers": CNN.format(40)}
    refused(
        changed(path, tmp_path, lambda state: state["cfg"]["model"].update(wider)), "(40, 1, 10)", "has (32, 1, 10)"
    )
    for head in ("final_proj.weight", "final_proj.bias", "label_embs_concat"):
        without = changed(path, tmp_path, lambda state: state["model"].pop(head))  # noqa: B023
        build_hubert(hubert_in(without))
