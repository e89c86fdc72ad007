"""The HuBERT, or the student, in a checkpoint: pre-trained, distilled, or inside of a fine-tuned model."""

from typing import Any, Dict, List, NamedTuple, Optional

from fairseq.data.dictionary import Dictionary
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from distill_user_dir.checkpoints.layouts.ctc import ENCODER_PREFIX, CtcLayout, encoder_configs
from distill_user_dir.checkpoints.layouts.layout import resolved
from distill_user_dir.checkpoints.loading import CheckpointError, load, refusals
from distill_user_dir.checkpoints.sections import configs_of, layout_of
from distill_user_dir.messages import quoted

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
    """The HuBERT (or student) in a checkpoint, fine-tuned or not. CheckpointError where there is none.

    Its weights lie in the file unless `content` was loaded otherwise: copy them, and let go of it.
    """
    content = load(path, mapped=True) if content is None else content
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


def typed_configs(checkpoint: HubertCheckpoint, overrides: Dict[str, Any]) -> DictConfig:
    """`model` and `task` of a checkpoint over their dataclasses' defaults, with `overrides` on the model.

    Keys that the dataclass does not know come from another version of fairseq and are left out, as fairseq does.
    A value of the wrong type is a CheckpointError.
    """
    with refusals(checkpoint.path):
        model = dict(checkpoint.model, _name=checkpoint.name, **overrides)
        return OmegaConf.create(resolved(model, dict(checkpoint.task, _name="hubert_pretraining"))._asdict())
