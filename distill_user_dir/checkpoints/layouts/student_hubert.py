"""A student, on waveforms or on Fbank features, with the heads of its distillation."""

from typing import Iterator, Tuple

from omegaconf import DictConfig

from distill_user_dir.checkpoints.layouts.hubert import HubertLayout, convolutions, frames, transformer
from distill_user_dir.checkpoints.layouts.layout import Shape, Weights, any_text
from distill_user_dir.checkpoints.pickled import Refused
from distill_user_dir.modules.frontends import FRONTENDS

LONGEST_WINDOW, SHORTEST_FRAME = 1000, 5  # milliseconds


class StudentLayout(HubertLayout):
    names = ("student_hubert",)
    texts = {
        "conv_feature_layers": frames,
        "fbank_window": any_text,  # checked where a window is made of it
        "fbank_stats": any_text,
        "init_from_student": any_text,
        **{f"discriminative_{field}": any_text for field in ("head", "target", "frames")},
        "frontend_target": any_text,
    }

    def weights(self, model: DictConfig, there: Weights) -> Iterator[Tuple[str, Shape]]:
        yield from transformer(model)
        frontend = FRONTENDS.get(str(model.frontend))
        if frontend is None:
            yield from convolutions(model)
            return
        window, shift, stride = frontend.frames(model)
        if not 0 < shift <= window <= LONGEST_WINDOW or shift * stride < SHORTEST_FRAME:
            raise Refused(f"its windows of {window:g} ms every {shift:g} ms are none, or too many")
        for name, shape in frontend.weights(model):
            yield f"feature_extractor.{name}", shape

    def heads(self, model: DictConfig, symbols: int) -> Iterator[Shape]:
        yield from super().heads(model, symbols)
        width, teacher = model.encoder_embed_dim, model.teacher_embed_dim
        yield len(model.layer_map), width, max(width, teacher)
        yield width, teacher
        for clusters in model.cluster_sizes:
            yield clusters, max(width, model.codebook_dim)
        yield width, model.codebook_dim, len(model.cluster_sizes)
