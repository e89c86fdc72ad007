"""A HuBERT or a student, built from its checkpoint with every weight accounted for."""

from typing import Any, Dict, Optional

from fairseq.models import MODEL_REGISTRY
from omegaconf import OmegaConf

from distill_user_dir.checkpoints.hubert import HubertCheckpoint, typed_configs
from distill_user_dir.checkpoints.loading import CheckpointError
from distill_user_dir.messages import reason
from distill_user_dir.modules.hubert import LengthAwareHubert

PRETRAINING_ONLY = ("final_proj.", "target_glu.", "label_embs_concat", "heads.", "cluster_head.", "frontend_head.")
HUBERTS = {"final_dim": 1, "target_glu": False, "untie_final_proj": False}
NO_HEADS = {
    "hubert": HUBERTS,
    "student_hubert": {
        **HUBERTS,
        "regression_weight": 0.0,
        "discriminative_weight": 0.0,
        "frontend_updates": 0,
        "frontend_weight": 0.0,
    },
}


def build_hubert(
    checkpoint: HubertCheckpoint,
    overrides: Optional[Dict[str, Any]] = None,
    weights: bool = True,
    valid_statistics: Optional[bool] = None,
    heads: bool = False,
) -> LengthAwareHubert:
    """The encoder of a checkpoint, without what only pre-training needs (heads, clusters).

    overrides: model config values by name, e.g. {"dropout": 0.0}; weights=False leaves the initialisation random;
    valid_statistics: None takes the checkpoint's own, true for fairseq's HuBERT; heads: keep a student's regression
    heads. The model's `configs` say how to build it again (a fine-tuned checkpoint keeps them as `w2v_args`).
    """
    is_student = checkpoint.name == "student_hubert"
    configs = typed_configs(checkpoint, overrides or {})
    if valid_statistics is None:
        valid_statistics = bool(configs.model.get("valid_statistics", True))
    configs.model.update({"valid_statistics": valid_statistics} if is_student else {})
    regression = float(configs.model.get("regression_weight", 0.0))
    if heads and not regression > 0:
        raise CheckpointError(f"{checkpoint.path}: it has no heads that predict a teacher's layers to keep")
    kept_heads = {"regression_weight": regression} if heads else {}
    encoder = OmegaConf.merge(configs.model, NO_HEADS[checkpoint.name], kept_heads)
    try:
        if is_student:
            model = MODEL_REGISTRY[checkpoint.name](encoder, configs.task)  # above this room
        else:
            model = LengthAwareHubert(encoder, configs.task, [None], valid_statistics)
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.path}: {error}") from None
    except Exception as error:  # fairseq's, of a config that no training wrote
        told = f"{type(error).__name__}: {reason(error)}"
        raise CheckpointError(f"{checkpoint.path}: its config makes no model ({told})") from None
    kept = model.heads if heads else None
    model.remove_pretraining_modules()
    model.heads = kept
    model.configs = OmegaConf.to_container(configs)
    if weights:
        load_weights(model, checkpoint)
    return model


def load_weights(model: LengthAwareHubert, checkpoint: HubertCheckpoint) -> None:
    """Every weight of the model from the checkpoint, and none left over but those that only pre-training needs."""
    own = model.state_dict()
    state = {
        key: value for key, value in checkpoint.state.items() if key in own or not key.startswith(PRETRAINING_ONLY)
    }
    wrong = {
        "missing": sorted(own.keys() - state.keys()),
        "unexpected": sorted(state.keys() - own.keys()),
        "of another shape": sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape),
    }
    for kind, keys in wrong.items():
        if keys:
            raise CheckpointError(f"{checkpoint.path}: {len(keys)} weights {kind}, the first `{keys[0]}`")
    model.load_state_dict(state, strict=True)
