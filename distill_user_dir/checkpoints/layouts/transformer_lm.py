"""fairseq's Transformer language models, word or unit, with plain or adaptive embeddings."""

import re
from typing import Any, Iterator, List, Tuple

from fairseq.models import ARCH_MODEL_NAME_REGISTRY
from omegaconf import DictConfig

from distill_user_dir.checkpoints.layouts.layout import Config, Configs, Layout, Shape, Weights, transformer_layer
from distill_user_dir.checkpoints.pickled import Refused
from distill_user_dir.messages import quoted

MOST_POSITIONS = 2**24  # numbers of the table of positions, which need not be in the file


def cutoffs(text: Any) -> List[int]:
    """`20000,60000` -> [20000, 60000]; fairseq evaluates it."""
    found = []
    if isinstance(text, str) and re.fullmatch(r"[1-9][0-9]{0,8}(,[1-9][0-9]{0,8}){0,20}", text.replace(" ", "")):
        found = [int(number) for number in text.split(",")]
    if not found or sorted(set(found)) != found:
        raise ValueError(f"adaptive cutoffs {quoted(text)} are no ascending numbers with commas between them")
    return found


def filters(text: Any) -> str:
    """`[(1, 64), (2, 128)]`, of character embeddings, which no language model read here has."""
    if not isinstance(text, str) or not re.fullmatch(r"\[(\(\d{1,5},\d{1,5}\),?){0,20}\]", text.replace(" ", "")):
        raise ValueError(f"character_filters {quoted(text)} are no list of pairs of numbers")
    return text


class TransformerLmLayout(Layout):
    names = ("transformer_lm",)
    positive = ("decoder_layers", "decoder_attention_heads")
    tasks = ("language_modeling",)
    texts = {
        "adaptive_softmax_cutoff": cutoffs,
        "adaptive_input_cutoff": cutoffs,
        "character_filters": filters,
    }

    def knows(self, name: str) -> bool:
        """Its architectures are of the same model: transformer_lm_gbw and so on."""
        return ARCH_MODEL_NAME_REGISTRY.get(name, name) in self.names

    def settled(self, model: Config, task: Config, there: Weights, symbols: int) -> Configs:
        configs = super().settled(model, task, there, symbols)
        width = configs.model["decoder_embed_dim"]
        for field in ("max_target_positions", "tokens_per_sample"):
            count = configs.model[field] or 0
            if not 0 <= count * width <= MOST_POSITIONS:
                raise Refused(f"{field} is {count}: its table of positions is too large")
        return configs

    def weights(self, model: DictConfig, there: Weights) -> Iterator[Tuple[str, Shape]]:
        """All of them: fairseq's search loads a language model without asking for any that is missing."""
        for field in ("character_embeddings", "base_layers", "quant_noise_pq"):
            if model[field]:
                raise Refused(f"its {field} is {quoted(model[field])}, and a model with it is not read here")
        width, inner, outer = model.decoder_embed_dim, model.decoder_input_dim, model.decoder_output_dim
        for number in range(model.decoder_layers):
            yield from transformer_layer(f"decoder.layers.{number}", width, model.decoder_ffn_embed_dim)
        final = model.decoder_normalize_before and not model.no_decoder_final_norm
        for name in ["layer_norm"] * final + ["layernorm_embedding"] * model.layernorm_embedding:
            yield f"decoder.{name}.weight", (width,)
            yield f"decoder.{name}.bias", (width,)
        if inner != width:
            yield "decoder.project_in_dim.weight", (width, inner)
        if outer != width and not model.tie_adaptive_weights:
            yield "decoder.project_out_dim.weight", (outer, width)
        yield from self.vocabulary(model, there)

    def heads(self, model: DictConfig, symbols: int) -> Iterator[Shape]:
        """What fairseq builds up to the last cutoff; behind it, as many rows as the dictionary has."""
        for text in (model.adaptive_input_cutoff if model.adaptive_input else None, model.adaptive_softmax_cutoff):
            if text:
                yield cutoffs(text)[-1] + len(cutoffs(text)), max(model.decoder_input_dim, model.decoder_output_dim)

    def vocabulary(self, model: DictConfig, there: Weights) -> Iterator[Tuple[str, Shape]]:
        """The largest parts of what is as large as the dictionary, which lies beside the file."""
        if min(model.adaptive_input_factor, model.adaptive_softmax_factor) < 1:
            raise Refused("its adaptive factors are below 1")
        if model.adaptive_input:
            first = cutoffs(model.adaptive_input_cutoff)[0]
            yield "decoder.embed_tokens.embeddings.0.0.weight", (first, model.decoder_input_dim)
        else:
            words = there.get("decoder.embed_tokens.weight")
            yield "decoder.embed_tokens.weight", (0 if words is None else len(words), model.decoder_input_dim)
            if model.adaptive_softmax_cutoff is None and not model.share_decoder_input_output_embed:
                yield "decoder.output_projection.weight", (len(words), model.decoder_output_dim)
