"""The HuBERT, or the student, in a checkpoint: pre-trained, distilled, or inside of a fine-tuned model."""

from typing import Any, Dict, List, NamedTuple, Optional

from fairseq.data.dictionary import Dictionary
from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from distill_user_dir.checkpoints.layouts.ctc import ENCODER_PREFIX, CtcLayout, encoder_configs
from distill_user_dir.checkpoints.layouts.layout import typed
from distill_user_dir.checkpoints.loading import CheckpointError, load, refusals
from distill_user_dir.checkpoints.sections import configs_of, layout_of
from distill_user_dir.criterions.distillation import DistillationCriterionConfig
from distill_user_dir.messages import quoted, reason

PRETRAINED = ("hubert", "student_hubert")


class HubertCheckpoint(NamedTuple):
    """A HuBERT, or the one inside a fine-tuned model.

    name: the registered model, `hubert` or `student_hubert`; model, task: its configs as plain dicts;
    state: its state dict; fine_tuned: whether the file was a fine-tuned one; dictionaries: of its label sets, if kept.
    """

    path: str
    name: str
    model: Dict[str, Any]
    task: Dict[str, Any]
    state: Dict[str, Tensor]
    fine_tuned: bool
    dictionaries: Optional[List[Dictionary]] = None


def hubert_in(path: str, content: Optional[Dict[str, Any]] = None) -> HubertCheckpoint:
    """The HuBERT (or student) in a checkpoint, fine-tuned or not. CheckpointError where there is none."""
    content = load(path) if content is None else content
    with refusals(path):
        configs, prefix = configs_of(content), ""
        fine_tuned = isinstance(layout_of(configs["model"]), CtcLayout)
        if fine_tuned:
            configs, prefix = encoder_configs(configs["model"]), ENCODER_PREFIX
    name = configs["model"].get("_name")
    if name not in PRETRAINED:
        raise CheckpointError(f"{path}: no HuBERT but a model {quoted(name)}; expected {' or '.join(PRETRAINED)}")
    weights = {key[len(prefix) :]: value for key, value in content["model"].items() if key.startswith(prefix)}
    dictionaries = (content.get("task_state") or {}).get("dictionaries") or None
    return HubertCheckpoint(path, name, configs["model"], configs["task"], weights, fine_tuned, dictionaries)


def typed_configs(checkpoint: HubertCheckpoint, model_config: type, overrides: Dict[str, Any]) -> DictConfig:
    """`model` and `task` of a checkpoint over their dataclasses' defaults, with `overrides` on the model.

    Keys that the dataclass does not know come from another version of fairseq and are left out, as fairseq does.
    A value of the wrong type is a CheckpointError.
    """
    try:
        with refusals(checkpoint.path):
            merged = {
                "model": typed(model_config, dict(checkpoint.model, **overrides), "model"),
                "task": typed(HubertPretrainingConfig, checkpoint.task, "task"),
                "criterion": OmegaConf.structured(DistillationCriterionConfig),  # for students older than its fields
            }
        resolved = OmegaConf.to_container(OmegaConf.create(merged), resolve=True, enum_to_str=True)
    except (OmegaConfBaseException, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{checkpoint.path}: its config does not fit ({reason(error)})") from None
    return OmegaConf.create({key: resolved[key] for key in ("model", "task")})
