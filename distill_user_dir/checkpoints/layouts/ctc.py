"""A HuBERT or a student with a CTC output layer, of fairseq's kind and of ours."""

import argparse
from typing import Dict, Iterator, Tuple

from omegaconf import DictConfig

from distill_user_dir.checkpoints.layouts.hubert import HubertLayout
from distill_user_dir.checkpoints.layouts.layout import Config, Configs, Layout, Shape, Weights, any_text
from distill_user_dir.checkpoints.layouts.student_hubert import StudentLayout
from distill_user_dir.checkpoints.pickled import Refused
from distill_user_dir.messages import quoted

ENCODER_PREFIX = "w2v_encoder.w2v_model."
ENCODERS = (HubertLayout(), StudentLayout())


def flat(args: argparse.Namespace) -> Dict[str, Config]:
    """The options of before fairseq had configs, as the configs of model and task: by `arch` and `task`, which is what
    fairseq goes by."""
    values = dict(vars(args))
    if "_name" in values:
        raise Refused("its args have a `_name`, which fairseq's never have")
    return {"model": dict(values, _name=values.get("arch")), "task": dict(values, _name=values.get("task"))}


def encoder_configs(model: Config) -> Dict[str, Config]:
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
    texts = {"w2v_path": any_text, "data": any_text}

    def weights(self, model: DictConfig, there: Weights) -> Iterator[Tuple[str, Shape]]:
        proj = there.get("w2v_encoder.proj.weight")
        if proj is None or proj.dim() != 2:
            raise Refused("fine-tuned, but without its output layer `w2v_encoder.proj.weight`")
        yield "w2v_encoder.proj.bias", (len(proj),)

    def settled(self, model: Config, task: Config, there: Weights, symbols: int) -> Configs:
        inner = encoder_configs(model)
        configs = super().settled(dict(model, w2v_args=None), task, there, symbols)
        name = inner["model"].get("_name")
        layout = next((one for one in ENCODERS if isinstance(name, str) and one.knows(name)), None)
        if layout is None:
            raise Refused(f"fine-tuned from a model {quoted(name)}; expected hubert or student_hubert")
        encoder = {k[len(ENCODER_PREFIX) :]: w for k, w in there.items() if k.startswith(ENCODER_PREFIX)}
        found = layout.settled(inner["model"], inner["task"], encoder, symbols)
        width = there["w2v_encoder.proj.weight"].size(1)
        if encoder["mask_emb"].numel() != width:
            raise Refused(f"its output layer wants features of {width}, and its encoder has others")
        return configs._replace(model=dict(configs.model, w2v_args=found._asdict()))
