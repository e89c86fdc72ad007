"""What a student takes over from its teacher before it is trained."""

import logging
from typing import Any

import torch
from torch import nn

from distill_user_dir.checkpoints.hubert import hubert_in
from distill_user_dir.modules.hubert import LengthAwareHubert

logger = logging.getLogger(__name__)


def copy_weights(target: nn.Module, source: nn.Module, field: str, path: str) -> None:
    """All weights of `source` into `target`; ValueError where names or shapes differ."""
    own, other = target.state_dict(), source.state_dict()
    for key in sorted(own.keys() | other.keys()):
        mine, theirs = (tuple(d[key].shape) if key in d else "none" for d in (own, other))
        if mine != theirs:
            raise ValueError(
                f"{field}: `{key}` is {mine} in the student and {theirs} in {path}; "
                "give the student the teacher's sizes, or switch this initialisation off"
            )
    target.load_state_dict(other)


def initialise(student: LengthAwareHubert, teacher: LengthAwareHubert, cfg: Any, path: str) -> None:
    """Copies what `init_layers`, `init_feature_extractor` and `init_pos_conv` name, before the teacher is cut off."""
    layers = list(cfg.init_layers)
    if len(layers) > len(student.encoder.layers):
        raise ValueError(f"model.init_layers={layers}: the student has only {len(student.encoder.layers)} layers")
    for i, layer in enumerate(layers):
        if not 1 <= layer <= len(teacher.encoder.layers):
            raise ValueError(f"model.init_layers={layers}: {path} has layers 1 to {len(teacher.encoder.layers)}")
        copy_weights(student.encoder.layers[i], teacher.encoder.layers[layer - 1], "model.init_layers", path)
    if cfg.init_feature_extractor:
        field = "model.init_feature_extractor"
        copy_weights(student.feature_extractor, teacher.feature_extractor, field, path)
        copy_weights(student.layer_norm, teacher.layer_norm, field, path)
        if student.post_extract_proj is not None and student.embed_dim == teacher.embed_dim:
            copy_weights(student.post_extract_proj, teacher.post_extract_proj, field, path)
    if cfg.init_pos_conv:
        copy_weights(student.encoder.pos_conv, teacher.encoder.pos_conv, "model.init_pos_conv", path)
        copy_weights(student.encoder.layer_norm, teacher.encoder.layer_norm, "model.init_pos_conv", path)


def initialise_from_student(student: LengthAwareHubert, path: str) -> None:
    """`init_from_student`: the Transformer of another student, and those of its heads that this one has as well.

    ValueError where the Transformers differ; CheckpointError where it is no checkpoint of a HuBERT or student.
    """
    other, own = hubert_in(path).state, student.state_dict()
    transformer = [name for name in own if name.startswith(("encoder.", "mask_emb"))]
    heads = [name for name in own if name.startswith(("heads.", "cluster_head.")) and name in other]
    heads = [name for name in heads if own[name].shape == other[name].shape and name != "cluster_head.codebook"]
    for name in transformer:
        theirs = tuple(other[name].shape) if name in other else "none"
        if theirs != tuple(own[name].shape):
            raise ValueError(
                f"model.init_from_student: `{name}` is {tuple(own[name].shape)} in the student and {theirs} in {path}; "
                "give both the same structure"
            )
    extra = [name for name in other if name.startswith("encoder.") and name not in own]
    if extra:
        raise ValueError(f"model.init_from_student: {path} has `{extra[0]}` and the student has not: fewer layers?")
    with torch.no_grad():
        for name in transformer + heads:
            own[name].copy_(other[name])
    logger.info(f"started from {path}: {len(transformer)} weights of the Transformer, {len(heads)} of heads")
