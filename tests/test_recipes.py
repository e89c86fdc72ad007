"""Every recipe is composed by hydra as fairseq does it, and every key of it must be one of its dataclass's."""

import csv
from pathlib import Path

import fairseq
import pytest
from fairseq.dataclass.configs import FairseqConfig
from fairseq.models import ARCH_MODEL_NAME_REGISTRY, MODEL_DATACLASS_REGISTRY
from fairseq.registry import REGISTRIES
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from distill_user_dir import infer
from tests.helpers import RECIPES, recipe

PACKAGES = {
    "student": "model.",
    "data": "task.",
    "loss": "",
    "frontend": "",
    "base": "",
    "gpus": "",
    "units": "",
}  # of the groups


def names(folder):
    return sorted(path.stem for path in (RECIPES / folder).glob("*.yaml") if path.stem != "_self_")


STUDENTS, LOSSES, DATA, FRONTENDS = (names(f"distill/{group}") for group in ("student", "loss", "data", "frontend"))


def dataclass_of(section, name):
    """The dataclass registered under a section's `_name`; FairseqConfig has those of the sections without one."""
    if section == "task":
        return TASK_DATACLASS_REGISTRY[name]
    if section == "model":
        return MODEL_DATACLASS_REGISTRY[ARCH_MODEL_NAME_REGISTRY.get(name, name)]
    if section in REGISTRIES:
        return REGISTRIES[section]["dataclass_registry"][name]
    return FairseqConfig.__dataclass_fields__[section].type


def merged(cfg):
    """Each section merged into its dataclass, unknown keys and wrong types being errors."""
    found = {}
    for section in cfg:
        values = OmegaConf.to_container(cfg[section], enum_to_str=True) if OmegaConf.is_config(cfg[section]) else None
        if values:
            name = values.pop("_name", None)
            found[section] = OmegaConf.merge(OmegaConf.structured(dataclass_of(section, name)), values)
    return found


CASES = [("distill", name, [f"student={student}"]) for name in names("distill") for student in STUDENTS]
CASES += [("distill", "laptop", [f"loss={loss}", f"data={data}"]) for loss in LOSSES for data in DATA]
CASES += [("distill", name, [f"frontend={frontend}"]) for name in names("distill") for frontend in FRONTENDS]
CASES += [("distill", "librispeech_960h", [f"gpus={gpus}"]) for gpus in names("distill/gpus")]
CASES += [("finetune", name, [f"units={units}"]) for name in names("finetune") for units in names("finetune/units")]
CASES += [("finetune", "librispeech_10m", [f"gpus={gpus}"]) for gpus in names("finetune/gpus")]
CASES += [("demo", name, []) for name in names("demo")]


def test_there_are_recipes():
    assert {"deep_thin", "shallow_wide"} <= set(STUDENTS)
    assert {case[0] for case in CASES} == {"distill", "finetune", "demo"} and names("decode")


@pytest.mark.parametrize("folder, name, overrides", CASES, ids=str)
def test_composes_and_merges(folder, name, overrides):
    cfg = recipe(folder, name, *overrides, defaults=False)
    sections = merged(cfg)
    assert {"task", "criterion", "model", "optimizer", "lr_scheduler"} <= set(sections)
    assert sections["dataset"].required_batch_size_multiple == 1  # git main drops utterances otherwise
    assert sections["checkpoint"].save_interval_updates > 0
    if folder == "demo":
        return
    assert OmegaConf.is_missing(cfg.task, "data")
    fine_tuning = folder == "finetune"
    assert cfg.task._name == "hubert_distillation" and sections["task"].fine_tuning == fine_tuning
    assert (
        OmegaConf.is_missing(cfg.model, "w2v_path") if fine_tuning else OmegaConf.is_missing(cfg.task, "teacher_path")
    )
    schedule = cfg.lr_scheduler
    if fine_tuning:
        assert schedule.warmup_steps + schedule.hold_steps + schedule.decay_steps >= cfg.optimization.max_update
    else:
        assert schedule.warmup_updates == round(0.07 * cfg.optimization.max_update)
        assert cfg.lr_scheduler.total_num_update == cfg.optimization.max_update


GROUPS = [("distill", group) for group in ("student", "loss", "data", "frontend", "gpus")]
GROUPS += [("finetune", group) for group in ("gpus", "loss", "units")] + [("decode", "units")]


@pytest.mark.parametrize("folder, group", GROUPS)
def test_a_group_is_chosen_whole(folder, group):
    """What the recipe's own list names leaves nothing behind when another is chosen."""
    for name in names(f"{folder}/{group}"):
        start, structured = ("viterbi", infer.infer.InferConfig) if folder == "decode" else ("laptop", None)
        cfg = OmegaConf.to_container(recipe(folder, start, f"{group}={name}", defaults=False, structured=structured))
        chosen = {key: value for section in cfg for key, value in flat(cfg[section] or {}, f"{section}.")}
        expected = dict(items(RECIPES / folder / group / f"{name}.yaml", PACKAGES[group]))
        assert {key: chosen[key] for key in expected} == expected


def test_a_key_stands_in_one_place():
    """Then no order in which hydra merges a group and the file that lists it makes a difference."""
    for folder in ("distill", "finetune", "decode"):
        groups = {}  # by folder: variants of one group have the same keys, and no other file has any of them; but the
        # losses of a fine-tuning are criterions with keys of their own
        for path in (RECIPES / folder).glob("*/*.yaml"):
            groups.setdefault(path.parent.name, []).append(keys(path, PACKAGES[path.parent.name]))
        losses = groups["loss"] if folder == "finetune" else []
        own = {key for variant in losses for key in variant if key.startswith("criterion.")}
        assert all(variant - own == variants[0] - own for variants in groups.values() for variant in variants)
        found = [set().union(*variants) for variants in groups.values()]
        for name in names(folder):
            places = found + [keys(RECIPES / folder / f"{name}.yaml", "")]
            assert sum(len(place) for place in places) == len(set().union(*places))


def keys(path: Path, package: str):
    """The keys that hold a value in a YAML file, in full."""
    return {key for key, _ in items(path, package)}


def items(path: Path, package: str):
    found = OmegaConf.to_container(OmegaConf.load(str(path)))
    found.pop("defaults", None)
    return [(package + key, value) for key, value in flat(found)]


def flat(values, start=""):
    """Keys in full and values; an empty section holds none."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{start}{key}.")
        else:
            yield start + key, value


@pytest.mark.parametrize("section, key", [("task", "teacher"), ("model", "encoder_layer"), ("criterion", "weight")])
def test_an_unknown_key_is_an_error(section, key):
    cfg = recipe("distill", "laptop", f"+{section}.{key}=1", defaults=False)
    with pytest.raises(OmegaConfBaseException):
        merged(cfg)


@pytest.mark.parametrize("name", names("decode"))
@pytest.mark.parametrize("units", names("decode/units"))
def test_decoding(name, units):
    cfg = OmegaConf.to_container(recipe("decode", name, f"units={units}", structured=infer.infer.InferConfig))
    task = cfg.pop("task")
    OmegaConf.merge(OmegaConf.structured(TASK_DATACLASS_REGISTRY[task.pop("_name")]), task)
    assert str(getattr(cfg["decoding"]["type"], "value", cfg["decoding"]["type"])) == name
    assert cfg["dataset"]["gen_subset"] == task["data"] == "???"
    assert cfg["dataset"]["required_batch_size_multiple"] == 1 and cfg["common"]["user_dir"] is None
    assert cfg["dataset"]["required_batch_size_multiple"] == 1


def test_the_kmeans_loss_is_huberts_own():
    """Its masks, dropouts and weights, as fairseq's recipe of HuBERT Base has them."""
    path = Path(fairseq.__file__).parent / "examples/hubert/config/pretrain/hubert_base_librispeech.yaml"
    theirs, ours = OmegaConf.load(str(path)), recipe("distill", "librispeech_960h", "loss=kmeans", "data=km50")
    for name in ("mask_prob", "dropout", "attention_dropout", "activation_dropout", "dropout_input"):
        assert ours.model[name] == theirs.model[name], name
    assert ours.model.encoder_layerdrop == theirs.model.encoder_layerdrop
    assert ours.model.feature_grad_mult == theirs.model.feature_grad_mult
    assert [ours.criterion.feature_penalty] == list(theirs.criterion.loss_weights)
    assert ours.criterion.discriminative_frames == "masked" and theirs.criterion.pred_nomask_weight == 0


def settings(path):
    """What a recipe makes of the settings in recipes/settings.csv, resolved, by the names that the table has."""
    folder, name = path.split("/")
    if folder == "decode":
        return OmegaConf.to_container(recipe(folder, name, structured=infer.infer.InferConfig).decoding)
    cfg = recipe(folder, name)
    data, schedule, model = cfg.dataset, cfg.lr_scheduler, cfg.model
    batches = cfg.distributed_training.distributed_world_size * cfg.optimization.update_freq[0]
    found = {key: cfg.optimization[key] for key in ("max_update", "clip_norm")}
    found.update(lr=cfg.optimization.lr[0], mask_prob=model.mask_prob, betas=str(cfg.optimizer.adam_betas))
    found.update(weight_decay=cfg.optimizer.weight_decay, batch_seconds=batches * data.max_tokens / 16000)
    if folder == "distill":
        found.update(warmup=schedule.warmup_updates, utterances=batches * data.batch_size)
    else:
        found["schedule"] = f"{schedule.warmup_steps}/{schedule.hold_steps}/{schedule.decay_steps}"
        found["mask_channel"] = f"{model.mask_channel_prob} x {model.mask_channel_length}"
        found["frozen"] = model.freeze_finetune_updates
    return found


@pytest.mark.slow
def test_full_size_recipes_have_the_settings_of_their_sources():
    """recipes/settings.csv says where each is from; eight GPUs have the batch of one."""
    with open(RECIPES / "settings.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert all(row["source"] for row in rows)
    full_size = {f"{folder}/{name}" for folder in ("distill", "finetune") for name in names(folder) if "_" in name}
    assert {row["recipe"] for row in rows} == {*full_size, "decode/kenlm"}
    found = {path: settings(path) for path in {row["recipe"] for row in rows}}
    different = [row for row in rows if str(found[row["recipe"]][row["setting"]]) != row["value"]]
    assert not different
    for path in full_size:
        folder, name = path.split("/")
        one, eight = recipe(folder, name), recipe(folder, name, "gpus=eight", defaults=False)
        assert one.distributed_training.distributed_world_size == 1
        for key in ("max_tokens", "batch_size"):
            batch = [(cfg.dataset[key] or 0) * cfg.optimization.update_freq[0] for cfg in (one, eight)]
            assert batch[0] == 8 * batch[1]
