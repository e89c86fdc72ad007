"""HuBERT Base and what else could be taken, with random weights of their published sizes."""

import functools
from typing import Any, Callable, Dict, NamedTuple

import numpy as np
import torch
from fairseq.models.hubert.hubert import HubertConfig, HubertModel
from omegaconf import OmegaConf
from torch import nn

from distill_user_dir.modules.hubert import plain_config
from distill_user_dir.shipping.hf_model import transformers_here

transformers = transformers_here()

TASK = OmegaConf.create({"normalize": False, "sample_rate": 16000, "label_rate": 50})
WORDS = 2.5  # a second of speech
Run = Callable[[np.ndarray], Any]


class Model(NamedTuple):
    """run: from (B, N) float32 audio; parameters; bytes on disk."""

    run: Run
    parameters: int
    size: int


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def of_module(module: nn.Module, run: Run) -> Model:
    return Model(torch.inference_mode()(run), count(module), 4 * count(module))


def hubert_base() -> Model:
    config = OmegaConf.merge(OmegaConf.structured(HubertConfig), {"label_rate": 50, "final_dim": 256})
    model = HubertModel(plain_config(config), TASK, [None]).eval()
    return of_module(model, lambda audio: model.extract_features(torch.from_numpy(audio), padding_mask=None))


def encoder_of_transformers(name: str) -> Model:
    kinds = {
        "DistilHuBERT": (transformers.HubertConfig(num_hidden_layers=2), transformers.HubertModel),
        "wav2vec 2.0 Base": (transformers.Wav2Vec2Config(), transformers.Wav2Vec2Model),
    }
    config, kind = kinds[name]
    model = kind(config).eval()
    return of_module(model, lambda audio: model(torch.from_numpy(audio)))


def whisper() -> Model:
    sizes = {"d_model": 384, "encoder_layers": 4, "decoder_layers": 4, "vocab_size": 51865}
    heads = {"encoder_attention_heads": 6, "decoder_attention_heads": 6}
    wide = {"encoder_ffn_dim": 1536, "decoder_ffn_dim": 1536}
    model = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**sizes, **heads, **wide)).eval()
    return of_module(model, lambda audio: spoken(model, torch.zeros(len(audio), 80, 3000), audio))


def moonshine() -> Model:
    model = transformers.MoonshineForConditionalGeneration(transformers.MoonshineConfig()).eval()
    return of_module(model, lambda audio: spoken(model, torch.from_numpy(audio), audio))


def spoken(model: nn.Module, inputs: torch.Tensor, audio: np.ndarray) -> None:
    """An encoder, and a step of the decoder for each word."""
    encoded = model.get_encoder()(inputs)
    tokens, past = torch.ones(len(audio), 1, dtype=torch.long), None
    for _ in range(max(1, round(audio.shape[1] / 16000 * WORDS))):
        output = model(encoder_outputs=encoded, decoder_input_ids=tokens, past_key_values=past, use_cache=True)
        tokens, past = output.logits[:, -1:].argmax(-1), output.past_key_values


PEERS: Dict[str, Callable[[], Model]] = {
    "HuBERT Base": hubert_base,
    "DistilHuBERT": functools.partial(encoder_of_transformers, "DistilHuBERT"),
    "wav2vec 2.0 Base": functools.partial(encoder_of_transformers, "wav2vec 2.0 Base"),
    "Whisper tiny": whisper,
    "Moonshine tiny": moonshine,
}
