"""HuBERT as fairseq pre-trains it."""

from typing import Iterator, Tuple

from omegaconf import DictConfig

from distill_user_dir.checkpoints.layouts.layout import Layout, Shape, Weights, transformer_layer
from distill_user_dir.conv_layers import parse_conv_layers


def transformer(model: DictConfig) -> Iterator[Tuple[str, Shape]]:
    """Weights behind the front-end."""
    width, groups = model.encoder_embed_dim, model.conv_pos_groups
    yield "mask_emb", (width,)
    place = "1.weight" if model.get("conv_pos_batch_norm") else "0.weight_v"
    yield f"encoder.pos_conv.{place}", (width, width // groups, model.conv_pos)
    for number in range(model.encoder_layers):
        yield from transformer_layer(f"encoder.layers.{number}", width, model.encoder_ffn_embed_dim)


def convolutions(model: DictConfig) -> Iterator[Tuple[str, Shape]]:
    """Weights of the CNN on the waveform, and of the projection behind it."""
    channels = 1
    for number, (dim, kernel, _) in enumerate(parse_conv_layers(model.conv_feature_layers)):
        yield f"feature_extractor.conv_layers.{number}.0.weight", (dim, channels, kernel)
        channels = dim
    if channels != model.encoder_embed_dim:
        yield "post_extract_proj.weight", (model.encoder_embed_dim, channels)


class HubertLayout(Layout):
    names = ("hubert",)
    positive = ("encoder_layers", "encoder_attention_heads", "conv_pos_groups")
    tasks = ("hubert_pretraining", "hubert_distillation")
    evaluated = {"conv_feature_layers": parse_conv_layers}

    def weights(self, model: DictConfig, there: Weights) -> Iterator[Tuple[str, Shape]]:
        yield from transformer(model)
        yield from convolutions(model)

    def heads(self, model: DictConfig) -> Iterator[Shape]:
        final = model.final_dim if model.final_dim > 0 else model.encoder_embed_dim
        yield model.encoder_embed_dim, final
        if model.target_glu:
            yield 2 * final, final
