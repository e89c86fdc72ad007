"""A HuBERT or a student with a CTC output layer, of fairseq's kind and of ours."""

import argparse
from typing import Any, Dict, Iterator, Tuple

from omegaconf import DictConfig

from distill_user_dir.checkpoints.layouts.hubert import HubertLayout
from distill_user_dir.checkpoints.layouts.layout import Layout, Shape, Weights
from distill_user_dir.checkpoints.layouts.student_hubert import StudentLayout
from distill_user_dir.checkpoints.pickled import Refused
from distill_user_dir.messages import quoted

ENCODER_PREFIX = "w2v_encoder.w2v_model."
ENCODERS = (HubertLayout(), StudentLayout())


def flat(args: argparse.Namespace) -> Dict[str, Dict[str, Any]]:
    """The options of before fairseq had configs, as the configs of model and task."""
    values = dict(vars(args))
    model = dict(values, _name=values.get("_name") or values.get("arch"))
    return {"model": model, "task": dict(values, _name=values.get("task"))}


def encoder_configs(model: Dict[str, Any]) -> Dict[str, Dict[str, Any]]:
    """`model` and `task` of the encoder in a fine-tuned model, which fairseq keeps in `w2v_args`."""
    inner = model.get("w2v_args")
    if isinstance(inner, argparse.Namespace):
        return flat(inner)
    if not isinstance(inner, dict) or not all(isinstance(inner.get(key), dict) for key in ("model", "task")):
        raise Refused("fine-tuned, but without `w2v_args`: the structure of its encoder is unknown")
    return inner


class CtcLayout(Layout):
    names = ("student_ctc", "hubert_ctc")
    decodes = True
    tasks = ("hubert_distillation", "hubert_pretraining", "audio_finetuning", "audio_pretraining")

    def weights(self, model: DictConfig, there: Weights) -> Iterator[Tuple[str, Shape]]:
        proj = there.get("w2v_encoder.proj.weight")
        if proj is None or proj.dim() != 2:
            raise Refused("fine-tuned, but without its output layer `w2v_encoder.proj.weight`")
        yield "w2v_encoder.proj.bias", (len(proj),)

    def check(self, model: Dict[str, Any], task: Dict[str, Any], there: Weights) -> None:
        super().check(dict(model, w2v_args=None), task, there)
        inner = encoder_configs(model)
        name = inner["model"].get("_name")
        layout = next((one for one in ENCODERS if isinstance(name, str) and one.knows(name)), None)
        if layout is None:
            raise Refused(f"fine-tuned from a model {quoted(name)}; expected hubert or student_hubert")
        encoder = {k[len(ENCODER_PREFIX) :]: w for k, w in there.items() if k.startswith(ENCODER_PREFIX)}
        layout.check(inner["model"], inner["task"], encoder)
        width = there["w2v_encoder.proj.weight"].size(1)
        if encoder["mask_emb"].numel() != width:
            raise Refused(f"its output layer wants features of {width}, and its encoder has others")
