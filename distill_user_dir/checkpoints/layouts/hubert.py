"""HuBERT as fairseq pre-trains it."""

from typing import Any, Iterator, Tuple

from omegaconf import DictConfig

from distill_user_dir.checkpoints.layouts.layout import Layout, Shape, Weights, transformer_layer
from distill_user_dir.checkpoints.pickled import Refused
from distill_user_dir.messages import quoted
from distill_user_dir.modules.conv_layers import parse_conv_layers

SHORTEST_HOP = 80  # samples from one frame to the next, of which a shorter one takes ever more
WIDEST = 256  # channels of a convolution for each sample from one of its outputs to the next; HuBERT has 512 for 5
SETS = 16  # of labels, at most


def frames(text: Any) -> None:
    """ValueError for `conv_feature_layers` that are none, or make too many numbers: no weight shows a stride."""
    hop = 1
    for channels, _, stride in parse_conv_layers(text):
        hop *= stride
        if channels > WIDEST * hop:
            raise ValueError(f"conv_feature_layers have {channels} channels every {hop} samples; expected fewer")
    if hop < SHORTEST_HOP:
        raise ValueError(f"conv_feature_layers make a frame every {hop} samples; expected {SHORTEST_HOP} or more")


def transformer(model: DictConfig) -> Iterator[Tuple[str, Shape]]:
    """Weights behind the front-end."""
    if model.layer_type != "transformer":
        raise Refused(f"its layer_type is {quoted(model.layer_type)}; expected transformer, as HuBERT's")
    width = model.encoder_embed_dim
    yield "mask_emb", (width,)
    place = "1.weight" if model.get("conv_pos_batch_norm") else "0.weight_v"
    yield f"encoder.pos_conv.{place}", (width, width // model.conv_pos_groups, model.conv_pos)
    for number in range(model.encoder_layers):
        yield from transformer_layer(f"encoder.layers.{number}", width, model.encoder_ffn_embed_dim)


def convolutions(model: DictConfig) -> Iterator[Tuple[str, Shape]]:
    """Weights of the CNN on the waveform, and of the projection behind it."""
    channels = 1
    frames(model.conv_feature_layers)
    for number, (dim, kernel, _) in enumerate(parse_conv_layers(model.conv_feature_layers)):
        yield f"feature_extractor.conv_layers.{number}.0.weight", (dim, channels, kernel)
        channels = dim
    if channels != model.encoder_embed_dim:
        yield "post_extract_proj.weight", (model.encoder_embed_dim, channels)


class HubertLayout(Layout):
    names = ("hubert",)
    positive = ("encoder_layers", "encoder_attention_heads", "conv_pos_groups")
    tasks = ("hubert_pretraining", "hubert_distillation")
    texts = {"conv_feature_layers": frames}

    def weights(self, model: DictConfig, there: Weights) -> Iterator[Tuple[str, Shape]]:
        yield from transformer(model)
        yield from convolutions(model)

    def heads(self, model: DictConfig, symbols: int) -> Iterator[Shape]:
        final = model.final_dim if model.final_dim > 0 else model.encoder_embed_dim
        yield model.encoder_embed_dim, final, SETS if model.untie_final_proj else 1
        yield symbols, final
        if model.target_glu:
            yield 2 * final, final
        if not 0 < model.required_seq_len_multiple <= 64:
            raise Refused(f"its required_seq_len_multiple is {model.required_seq_len_multiple}")
