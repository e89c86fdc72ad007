"""What is profiled: a structure or a checkpoint, its parameters by part."""

import os
from typing import Any, Dict, NamedTuple, Optional

import yaml
from fairseq.models.hubert.hubert import HubertConfig
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn

from distill_user_dir.checkpoints.hubert import hubert_in
from distill_user_dir.files import read_text
from distill_user_dir.messages import reason
from distill_user_dir.models.student_config import student_config
from distill_user_dir.models.student_hubert import StudentHubert
from distill_user_dir.modules.hubert import LengthAwareHubert
from distill_user_dir.student import load_student

SAMPLE_RATE = 16000  # Hz


PARTS = ("front-end", "positional convolution", "Transformer", "CTC layer")


BASE = "HuBERT Base"


HEADS = ("heads.", "cluster_head.projection.", "frontend_head.")


class Row(NamedTuple):
    """run: (B, N) audio -> the output of the last layer, or of the CTC layer; heads: parameters of those."""

    name: str
    encoder: LengthAwareHubert
    output: Optional[nn.Module]
    heads: int

    def run(self, audio: Tensor) -> Tensor:
        x = self.encoder.encode(audio).x
        return x if self.output is None else self.output(x)


def load_row(source: str, teacher_width: int) -> Row:
    """`BASE`, a structure's YAML, or a checkpoint; ValueError in one line where it is none of these."""
    task = OmegaConf.create({"normalize": False, "sample_rate": SAMPLE_RATE})
    if source == BASE:
        config = OmegaConf.merge(OmegaConf.structured(HubertConfig), {"label_rate": 50, "final_dim": 256})
        model = LengthAwareHubert(config, task, [None])
        heads = sum(parameter.numel() for parameter in model.final_proj.parameters()) + 504 * 256  # its clusters
        model.remove_pretraining_modules()
        return Row(BASE, model.eval(), None, heads)
    name = "+".join(os.path.splitext(os.path.basename(path))[0] for path in source.split("+"))
    if source.endswith(".yaml"):
        model = StudentHubert(structure(source, teacher_width), task)
        heads = sum(parameter.numel() for parameter in model.heads.parameters())
        model.remove_pretraining_modules()
        return Row(name, model.eval(), None, heads)
    if not source.endswith(".pt"):
        raise ValueError(f"{source}: neither a structure (*.yaml) nor a checkpoint (*.pt)")
    student = load_student(source, folded=False)
    folder = os.path.basename(os.path.dirname(os.path.abspath(source)))
    state = hubert_in(source).state
    heads = sum(value.numel() for key, value in state.items() if key.startswith(HEADS))
    return Row(f"{folder}/{name}", student.encoder, student.proj, heads)


def structure(source: str, teacher_width: int) -> Any:
    """A student's config from YAMLs of recipes/distill, joined by +; ValueError where that does not fit."""
    values = {"teacher_embed_dim": teacher_width}
    for path in source.split("+"):
        try:
            found = yaml.safe_load(read_text(path))
            found = found.get("model", found) if isinstance(found, dict) else None
            if not isinstance(found, dict):
                raise ValueError("it holds no keys")
            values.update(found)
        except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
            raise ValueError(f"{path}: no structure of a student: {reason(error)}") from None
    try:
        return student_config({**values, "fbank_stats": None})  # a file of the data's
    except (ValueError, TypeError, RecursionError, OmegaConfBaseException) as error:
        raise ValueError(f"{source}: no structure of a student: {reason(error)}") from None


def parameters(row: Row) -> Dict[str, int]:
    """Of each part: the front-end is the CNN or what stands for it, LayerNorm, projection and mask embedding."""
    encoder = row.encoder.encoder

    def count(*modules: Optional[nn.Module]) -> int:
        return sum(p.numel() for module in modules if module is not None for p in module.parameters())

    found = {
        "positional convolution": count(encoder.pos_conv),
        "Transformer": count(encoder.layers, encoder.layer_norm),
        "CTC layer": count(row.output),
    }
    found["front-end"] = count(row.encoder, row.output) - sum(found.values())
    return {part: found[part] for part in PARTS}
