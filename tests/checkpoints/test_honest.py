"""What the door reads of honest files is what torch's own loading reads, to the last bit, in bounded memory."""

import argparse
import collections
import copy
import os
import shutil

import pytest
import torch
from fairseq import checkpoint_utils, tasks
from fairseq.data.dictionary import Dictionary
from fairseq.models.hubert.hubert import HubertConfig
from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig
from omegaconf import OmegaConf

from distill_user_dir.checkpoints import loading
from tests.checkpoints import archives
from tests.checkpoints.hostile import storage
from tests.commands import kill_at, run, train_command
from tests.helpers import dictionary, write_hubert
from tests.helpers import distill_overrides as overrides_of

FORMATS = [(zipped, protocol) for zipped in (True, False) for protocol in (2, 3, 4)]


def torchs(path):
    """By torch's own weights-only loading."""
    torch.serialization.add_safe_globals([Dictionary, argparse.Namespace])
    return loading.torchs_load(path, weights_only=True)


def bits(tensor):
    """The bytes of the numbers: a NaN is what it is."""
    return tensor.contiguous().view(-1, 1).view(torch.uint8)


def same(ours, theirs, where="checkpoint"):
    """The same types, values, shapes, strides, bits, and order of keys."""
    assert type(ours) is type(theirs), where
    if isinstance(ours, torch.Tensor):
        shape = (ours.dtype, ours.size(), ours.stride(), ours.storage_offset())
        assert shape == (theirs.dtype, theirs.size(), theirs.stride(), theirs.storage_offset()), where
        assert torch.equal(bits(ours), bits(theirs)), where
    elif isinstance(ours, dict):
        assert list(ours) == list(theirs), where
        for key in ours:
            same(ours[key], theirs[key], f"{where}.{key}")
        same(getattr(ours, "_metadata", None), getattr(theirs, "_metadata", None), f"{where}._metadata")
    elif isinstance(ours, (list, tuple)):
        assert len(ours) == len(theirs), where
        for i, (one, other) in enumerate(zip(ours, theirs)):
            same(one, other, f"{where}[{i}]")
    elif isinstance(ours, (argparse.Namespace, Dictionary)):
        same(vars(ours), vars(theirs), where)
    else:
        assert ours == theirs or ours != ours and theirs != theirs, where


@pytest.fixture
def anything():
    """Everything that a fairseq checkpoint was ever seen to hold."""
    whole = torch.arange(24.0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).state_dict()
    tied = {"embed": whole[:12].view(3, 4), "project": whole[:12].view(3, 4)}
    kinds = [getattr(torch, kind) for kind in "float16 bfloat16 float64 int64 int32 int16 int8 uint8".split()]
    views = [whole[4:], whole.view(4, 6).t(), whole[::3], whole[None], torch.zeros(3, 0), torch.ones(())]
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.ones(2)}}, "param_groups": [{"params": [0], "lr": 1e-3}]}
    return {
        "linear": model,
        "tied": tied,
        "views": views,
        "kinds": {str(kind): torch.arange(5).to(kind) for kind in kinds},
        "bool": torch.tensor([True, False]),
        "parameter": torch.nn.Parameter(torch.ones(2, 2)).data,
        "size": torch.Size([2, 3]),
        "dtype": torch.float16,
        "optimizer": optimizer,
        "numbers": [0, -1, 255, 256, 65535, 65536, -(2**31), 2**31, 2**62, -(2**62), 1.5, float("inf"), float("nan")],
        "texts": ["", "a", "Ä", "\u2028", "\U0001f600", "x" * 300],
        "others": (None, True, False, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], {}),
        "ordered": collections.OrderedDict(b=1, a=2),
        "nested": [[[[[{"a": ({"b": [1]},)}]]]]],
        "dictionary": dictionary("abc"),
        "namespace": argparse.Namespace(arch="hubert", layers=[1, 2], inner=argparse.Namespace(x=None)),
    }


@pytest.mark.parametrize("zipped, protocol", FORMATS)
def test_everything_is_as_torch_reads_it(anything, tmp_path, zipped, protocol):
    path = str(tmp_path / "any.pt")
    torch.save(anything, path, _use_new_zipfile_serialization=zipped)
    theirs = torchs(path)  # which knows no protocol 4
    torch.save(anything, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    ours = loading.torch_load(path)
    same(ours, theirs)
    assert len(ours["linear"]._metadata) == 3
    for content in (ours, theirs):  # tied weights stay tied, and views of one storage views of one
        content["tied"]["embed"][0, 0] = 77.0
        assert content["tied"]["project"][0, 0] == 77.0 and content["views"][2][0] == 77.0


@pytest.mark.parametrize(
    "options", [{}, {"old": True}, {"size": "tiny_large"}, {"sets": (20, 30)}, {"normalize": True}]
)
@pytest.mark.parametrize("zipped", [True, False])
def test_huberts(tmp_path, options, zipped):
    path = write_hubert(tmp_path / "hubert.pt", **options)
    torch.save(torchs(path), path, _use_new_zipfile_serialization=zipped)
    same_but_for_settled_configs(path)


def same_but_for_settled_configs(path):
    """Configs have all fields of their dataclasses, those in the file as they are there, and no others."""
    ours, theirs = loading.load(path), torchs(path)
    given = theirs.pop("cfg", None) or {part: vars(theirs["args"]) for part in ("model", "task")}
    settled = ours.pop("cfg")
    for part, config in (("model", HubertConfig), ("task", HubertPretrainingConfig)):
        assert settled[part].keys() == config.__dataclass_fields__.keys()
        for key in set(given[part]) & set(settled[part]) - {"_name"}:
            assert settled[part][key] == given[part][key] or given[part][key] is None, key
    theirs.pop("args", None)
    assert ours.pop("args") is None
    same(ours, theirs)


def test_a_large_and_a_base_hubert(checkpoints):
    for size in ("base", "large"):
        same_but_for_settled_configs(checkpoints(size))


@pytest.mark.parametrize("zipped", [True, False])
def test_every_kind_is_built_by_fairseq_as_before(sound, zipped, tmp_path, corpus):
    """From its settled configs, with every weight in its place."""
    for kind in ("pretrained", "fine_tuned"):
        path = str(tmp_path / f"{kind}.pt")
        torch.save(torchs(sound[kind]), path, _use_new_zipfile_serialization=zipped)
        overrides = {"data": str(corpus), "label_dir": str(corpus)}
        models, _, _ = checkpoint_utils.load_model_ensemble_and_task([path], overrides)
        weights = torchs(sound[kind])["model"]
        assert all(torch.equal(models[0].state_dict()[key], weights[key]) for key in weights)


def test_a_file_keeps_its_tensors_apart(sound, tmp_path):
    """Those that fairseq gets are copies: it writes new checkpoints over those that it has read."""
    path = tmp_path / "copy.pt"
    path.write_bytes(open(sound["pretrained"], "rb").read())
    copied = torch.load(str(path))
    with loading.mapped_files():
        mapped = torch.load(str(path))
    before = copied["model"]["mask_emb"].clone()
    mapped["model"]["mask_emb"].zero_()  # in this process alone
    assert torch.equal(torch.load(str(path))["model"]["mask_emb"], before)
    with open(path, "r+b") as file:
        file.write(bytes(os.path.getsize(path)))
    assert torch.equal(copied["model"]["mask_emb"], before)


def test_a_checkpoint_may_be_written_over_itself(sound, tmp_path):
    path = tmp_path / "copy.pt"
    path.write_bytes(open(sound["pretrained"], "rb").read())
    state = loading.load(str(path))
    state["extra_state"] = {"epoch": 7}
    torch.save(state, str(path))
    same(loading.load(str(path)), state)


@pytest.mark.parametrize("part", ["optimizer_history", "extra_state", "task_state"])
@pytest.mark.parametrize("left", [None, "nothing"])
def test_what_is_not_there_is_filled_in(sound, tmp_path, part, left):
    """fairseq asks for it without looking; and what nobody knows goes no further."""
    state = torchs(sound["pretrained"])
    state.update({part: left, "adapter": {"valid": 1}})
    if left:
        del state[part]
    path = str(tmp_path / "less.pt")
    torch.save(state, path)
    assert "adapter" not in loading.load(path)
    dictionary(range(20)).save(str(tmp_path / "dict.km0.txt"))
    overrides = {"data": str(tmp_path), "label_dir": str(tmp_path)}
    assert checkpoint_utils.load_model_ensemble_and_task([path], overrides)


@pytest.mark.parametrize("name", ["transformer_lm_gpt", "transformer_lm_big", "transformer_lm_wiki103"])
def test_language_models_of_before_fairseq_had_configs(name, tmp_path):
    """Their architecture sets what their args leave open, and fairseq builds the same from what the door settles."""
    dictionary([f"w{i}" for i in range(60)]).save(str(tmp_path / "dict.txt"))
    sizes = {"decoder_layers": 1, "decoder_embed_dim": 16, "decoder_input_dim": 16, "decoder_output_dim": 16}
    sizes.update(decoder_ffn_embed_dim=16, decoder_attention_heads=2, tokens_per_sample=32, max_target_positions=32)
    if name.endswith("wiki103"):
        sizes.update(adaptive_softmax_cutoff="20,40", adaptive_input_cutoff="20,40")
    more = {"data": str(tmp_path), "arch": name, "task": "language_modeling", "self_target": False, "seed": 1}
    more.update(future_target=False, past_target=False, output_dictionary_size=-1, tpu=False, add_bos_token=False)
    args = argparse.Namespace(**sizes, **more)
    task = tasks.setup_task(args)
    model = task.build_model(copy.deepcopy(args))
    path = str(tmp_path / "lm.pt")
    torch.save({"args": args, "model": model.state_dict()}, path)
    content = torch.load(path)
    again = tasks.setup_task(OmegaConf.create(content["cfg"]["task"]))
    built = again.build_model(OmegaConf.create(content["cfg"]["model"]))
    assert built.load_state_dict(content["model"], strict=True) and len(built.state_dict()) == len(model.state_dict())


def test_a_program_of_ones_own_reads_its_own_files(tmp_path):
    path = str(tmp_path / "mine.pt")
    torch.save({"weights": torch.ones(3), "epoch": 4}, path)
    assert torch.load(path)["epoch"] == 4
    with open(path, "rb") as file:
        assert torch.load(file, map_location="cpu", weights_only=False)["weights"].sum() == 3
    with pytest.raises(loading.CheckpointError, match="no fairseq checkpoint"):
        loading.load(path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_a_resume_in_half_precision(tmp_path, checkpoints, corpus, kind):
    """Killed and started again, once by the door and once by torch's own loading: the same to the last bit."""
    more = {f"common.{kind}": "true", "optimization.max_update": 6, "checkpoint.save_interval_updates": 3}
    more.update({"dataset.num_workers": 0, "common.fp16_no_flatten_grads": "true"})
    folders = [tmp_path / name for name in ("door", "torchs")]
    options = [overrides_of(checkpoints("tiny"), corpus, folder, **more) for folder in folders]
    folders[0].mkdir()
    kill_at(train_command("distill", "laptop", options[0]), folders[0], 3)
    shutil.copytree(str(folders[0]), str(folders[1]))
    options[1]["common.user_dir"] = by_torch(tmp_path)
    for folder, given in zip(folders, options):
        assert "Loaded checkpoint" in run(train_command("distill", "laptop", given), folder)
    ends = [torchs(str(folder / "checkpoint_last.pt")) for folder in folders]
    assert ends[0]["optimizer_history"][-1]["num_updates"] == 6
    same(ends[0]["model"], ends[1]["model"])
    same(ends[0]["last_optimizer_state"], ends[1]["last_optimizer_state"])


def by_torch(folder):
    """A user directory that registers this package and then takes the door away."""
    package = folder / "without_door"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import argparse, torch, distill_user_dir\n"
        "from distill_user_dir.checkpoints import loading\n"
        "from fairseq.data.dictionary import Dictionary\n"
        "torch.serialization.add_safe_globals([Dictionary, argparse.Namespace])\n"
        "torch.load = torch.serialization.load = loading.torchs_load\n"
    )
    return package


def test_four_gigabytes_in_bounded_memory(sound, tmp_path, in_its_own_process):
    """A sparse file whose optimizer's state is 4 GB of zeros: mapped, and read where it is needed."""
    count, path = 2**30, str(tmp_path / "large.pt")
    hole = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage("hole", count, more=b"")
    hole += b"K\x00J\x00\x00\x00\x40\x85K\x01\x85\x89}tR"
    with open(sound["pretrained"], "rb") as file:
        whole = loading.archive.read(loading.archive.mapped(file.fileno()))
        parts = [archives.Part(f"data/{key}", bytes(data)) for key, data in whole.storages.items()]
        file.seek(0)
        content = dict((e.name, e) for e in loading.archive.entries(memoryview(file.read())))["data.pkl"]
        file.seek(content.begin)
        pickled = file.read(content.end - content.begin)
    assert pickled.endswith(b"u.")
    pickled = pickled[:-1] + b"(X\x14\x00\x00\x00last_optimizer_state" + hole + b"u."
    archives.write(path, [archives.Part("data.pkl", pickled), *parts, archives.Part("data/hole", 4 * count)])
    assert os.path.getsize(path) > 4e9

    def read():
        state = loading.load(path, mapped=True)
        assert state["last_optimizer_state"].shape == (count,) and float(state["last_optimizer_state"][-1]) == 0.0

    outcome = in_its_own_process(read)
    assert outcome.kind == "none" and outcome.megabytes < 500, outcome
