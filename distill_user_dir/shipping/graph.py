"""A student as an ONNX graph: audio and lengths in, log-probabilities and lengths out, for any batch and length."""

import contextlib
import io
import logging
import warnings
from typing import Any, Iterator, Tuple

import torch
from torch import Tensor, nn

from distill_user_dir.machine import need
from distill_user_dir.modules.fold import join_projections
from distill_user_dir.shipping.checkpoint_model import outputs_of
from distill_user_dir.student import Student

SHORTEST = (
    720  # samples of a batch: torch exports no convolution whose output may be one frame long; lengths may be less
)
OPSET = 18


def folded_for_export(student: Student) -> Student:
    """In place: what `fold` does, but for the block convolution, whose number of blocks a graph cannot leave open."""
    encoder = student.encoder.encoder
    for module in encoder.pos_conv:
        if isinstance(module, nn.Conv1d):
            nn.utils.remove_weight_norm(module)
    for layer in encoder.layers:
        join_projections(layer.self_attn)
    return student


class Graph(nn.Module):
    """(B, N) float32 audio with zeros behind it, (B,) int64 samples -> (B, T, V) log-probabilities, or (B, T, D)
    features of a student without CTC; (B,) frames."""

    inputs = ["audio", "lengths"]
    shortest = SHORTEST
    free = ({0: "batch", 1: "size"}, {0: "batch"})  # axes of any size, by input

    def __init__(self, student: Student):
        super().__init__()
        self.student = folded_for_export(student)
        self.outputs = ["features" if student.proj is None else "log_probs", "frames"]

    def example(self) -> Tuple[Tensor, ...]:
        return torch.randn(2, 16000), torch.tensor([16000, 12000])

    def forward(self, audio: Tensor, lengths: Tensor) -> Tuple[Tensor, ...]:
        return outputs_of(self.student, audio, lengths)


def to_onnx(graph: Graph) -> Any:
    """-> onnx.ModelProto. ValueError where a package is missing."""
    need("onnxscript", "export")
    import torch.fx.experimental._config as export_config

    sizes = {"batch": torch.export.Dim("batch", min=1), "size": torch.export.Dim("size", min=graph.shortest)}
    shapes = tuple({axis: sizes[name] for axis, name in axes.items()} for axes in graph.free)
    names = {"input_names": graph.inputs, "output_names": graph.outputs}
    with hushed(), torch.no_grad(), export_config.patch(backed_size_oblivious=True):  # else a batch of one is another
        program = torch.export.export(graph.eval(), graph.example(), dynamic_shapes=shapes, strict=False)
        return torch.onnx.export(program, dynamo=True, verbose=False, opset_version=OPSET, **names).model_proto


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Without the exporters' talk."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
