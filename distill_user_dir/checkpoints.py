"""fairseq checkpoints, loaded without running anything that is in them.

Read by this module: HuBERT's own files (nested `cfg`, or `args` Namespace in older ones), students, and files
fine-tuned with CTC from either.
"""

import argparse
import os
import pickle
from typing import Any, Dict, List, NamedTuple, Optional

import torch
from fairseq.data.dictionary import Dictionary
from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from distill_user_dir import compat  # noqa: F401  (makes torch.load safe, and fairseq's Dictionary known to it)
from distill_user_dir.checkpoint_scan import expanded, nodes, refusal, too_large
from distill_user_dir.conv_layers import parse_conv_layers
from distill_user_dir.criterions.distillation import DistillationCriterionConfig

ENCODER_PREFIX = "w2v_encoder.w2v_model."
PRETRAINED = ("hubert", "student_hubert")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: one line with its path, the reason and the way out."""


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


def load(path: str) -> Dict[str, Any]:
    """The content of any fairseq checkpoint, weights-only, on the CPU; CheckpointError for everything else."""
    if not os.path.isfile(path):
        raise CheckpointError(f"{path}: no such file")
    try:
        refused = refusal(path)
        state = None if refused else torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: refused, {_refusal(str(error))}") from None
    except Exception as error:  # of what is no PyTorch file, unpickling raises anything
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(f"{path}: truncated, or no PyTorch file ({reason}); fetch or write it again") from None
    if refused:
        raise CheckpointError(f"{path}: refused, {refused}")
    if not isinstance(state, dict) or not isinstance(state.get("model"), dict):
        raise CheckpointError(f"{path}: no fairseq checkpoint: it has no `model` state dict")
    if not all(isinstance(value, Tensor) for value in state["model"].values()):
        raise CheckpointError(f"{path}: `model` holds something else than tensors")
    if expanded(state["model"]):
        raise CheckpointError(f"{path}: refused, `{expanded(state['model'])[0]}` claims more numbers than it has")
    _check_configs(path, [state.get("cfg"), state.get("args")])
    return state


def _check_configs(path: str, configs: List[Any]) -> None:
    """Of bounded size, and with no code: fairseq evaluates `conv_feature_layers`, at any depth and of any model."""
    try:
        for node in nodes(configs):
            if isinstance(node, dict) and node.get("conv_feature_layers") is not None:
                parse_conv_layers(node["conv_feature_layers"])
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _refusal(message: str) -> str:
    """torch's paragraph about weights_only -> what it stumbled over, in a few words."""
    for sentence in message.replace("\n", ". ").split(". "):
        if "Unsupported" in sentence or "global" in sentence.lower() or "GLOBAL" in sentence:
            return f"it holds more than weights: {sentence.strip()[:160]}"
    return "it is no weights-only PyTorch file, or it is damaged: " + message.strip().split("\n")[0][:160]


def _configs(path: str, state: Dict[str, Any]) -> Dict[str, Dict[str, Any]]:
    """`model` and `task` configs of a checkpoint as dicts; an old `args` Namespace serves as both."""
    cfg, args = state.get("cfg"), state.get("args")
    if isinstance(cfg, dict) and isinstance(cfg.get("model"), dict) and isinstance(cfg.get("task"), dict):
        return cfg
    if isinstance(args, argparse.Namespace):
        flat = dict(vars(args))
        flat["_name"] = flat.get("_name") or flat.get("arch")
        return {"model": flat, "task": flat}
    raise CheckpointError(f"{path}: no fairseq checkpoint: neither `cfg` nor `args` says what model it is")


def _inner_configs(path: str, model: Dict[str, Any]) -> Dict[str, Dict[str, Any]]:
    """The configs of the HuBERT inside a fine-tuned model, which fairseq keeps in `w2v_args`."""
    inner = model.get("w2v_args")
    if inner is None:
        raise CheckpointError(f"{path}: fine-tuned, but without `w2v_args`: the structure of its encoder is unknown")
    return _configs(path, {"args": inner} if isinstance(inner, argparse.Namespace) else {"cfg": inner})


def hubert_in(path: str, state: Optional[Dict[str, Any]] = None) -> HubertCheckpoint:
    """The HuBERT (or student) in a checkpoint, fine-tuned or not. CheckpointError where there is none."""
    state = load(path) if state is None else state
    configs, prefix = _configs(path, state), ""
    fine_tuned = any(key.startswith(ENCODER_PREFIX) for key in state["model"])
    if fine_tuned:
        configs, prefix = _inner_configs(path, configs["model"]), ENCODER_PREFIX
    name = configs["model"].get("_name")
    if name not in PRETRAINED:
        raise CheckpointError(f"{path}: no HuBERT but a model `{name}`; expected {' or '.join(PRETRAINED)}")
    weights = {key[len(prefix) :]: value for key, value in state["model"].items() if key.startswith(prefix)}
    return HubertCheckpoint(
        path, name, configs["model"], configs["task"], weights, fine_tuned, _dictionaries(path, state)
    )


def _dictionaries(path: str, state: Dict[str, Any]) -> Optional[List[Dictionary]]:
    """The dictionaries of the label sets in `task_state`, or None; that of a fine-tuned model is of its letters."""
    task_state = state.get("task_state")
    found = task_state.get("dictionaries") if isinstance(task_state, dict) else None
    if found is not None and not (isinstance(found, list) and all(isinstance(d, Dictionary) for d in found)):
        raise CheckpointError(f"{path}: the dictionaries in its task_state are no list of dictionaries")
    return found or None


def typed_configs(checkpoint: HubertCheckpoint, model_config: type, overrides: Dict[str, Any]) -> DictConfig:
    """`model` and `task` of a checkpoint, merged over their dataclasses' defaults, with `overrides` on the model.

    A config of a larger model than there are weights for is a CheckpointError.

    Keys that the dataclass does not know come from another version of fairseq and are left out, as fairseq does.
    A value of the wrong type is a CheckpointError.
    """
    merged = {}
    for key, config, extra in (("model", model_config, overrides), ("task", HubertPretrainingConfig, {})):
        values = dict(getattr(checkpoint, key), **extra)
        known = {k: v for k, v in values.items() if k in config.__dataclass_fields__ and v is not None and k != "_name"}
        try:
            merged[key] = OmegaConf.merge(OmegaConf.structured(config), known)
        except OmegaConfBaseException as error:
            raise _misfit(checkpoint.path, key, error) from None
    merged["criterion"] = OmegaConf.structured(DistillationCriterionConfig)  # for students older than its fields
    try:
        resolved = OmegaConf.to_container(OmegaConf.create(merged), resolve=True, enum_to_str=True)
        configs = OmegaConf.create({key: resolved[key] for key in ("model", "task")})
        wrong = too_large(configs.model, checkpoint.state) if checkpoint.state else ""
    except OmegaConfBaseException as error:
        raise _misfit(checkpoint.path, "model or task", error) from None
    except (RecursionError, ValueError) as error:
        raise CheckpointError(f"{checkpoint.path}: its config does not fit ({str(error)[:200]})") from None
    if wrong:
        raise CheckpointError(f"{checkpoint.path}: {wrong}")
    return configs


def _misfit(path: str, which: str, error: OmegaConfBaseException) -> CheckpointError:
    reason, field = str(error).split("\n")[0], error.full_key
    return CheckpointError(f"{path}: its {which} config does not fit: {field}: {reason}")
