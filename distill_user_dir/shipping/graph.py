"""A student as an ONNX graph: audio and lengths in, log-probabilities and lengths out, for any batch and length."""

import contextlib
import io
import logging
import math
import warnings
from typing import Any, Iterator, Optional, Tuple

import torch
from torch import Tensor, nn

from distill_user_dir.machine import need
from distill_user_dir.modules.block_convolution import BlockConvolution, spectrum
from distill_user_dir.modules.fbank import KaldiFbank
from distill_user_dir.shipping.checkpoint_model import outputs_of
from distill_user_dir.student import Student

SHORTEST = (
    720  # samples of a batch: torch exports no convolution whose output may be one frame long; lengths may be less
)
OPSET = 20


class ExportedAttention(nn.Module):
    """onnxruntime's own in a graph, for it does without a mask of the scores."""

    def __init__(self, heads: int):
        super().__init__()
        self.heads = heads

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, attended: Optional[Tensor]) -> Tensor:
        """(B, T, D) each, (B, 1, 1, T) bool, where there is something to attend to, or None -> (B, T, D)."""
        lengths = () if attended is None else (None, attended.sum(-1, dtype=torch.int32).flatten())
        return torch.onnx.ops.symbolic(
            "com.microsoft::MultiHeadAttention",
            (queries, keys, values, *lengths),
            {"num_heads": self.heads},
            dtype=queries.dtype,
            shape=queries.shape,
            version=1,
        )


class ExportedConvolution(BlockConvolution):
    """With the kernel itself in the file, which is half the size of its spectrum."""

    def keep(self, kernel: Tensor) -> None:
        self.kernel = nn.Parameter(kernel, requires_grad=False)

    def spectrum(self) -> Tensor:
        return spectrum(self.kernel, self.groups, self.forth.t())

    def cut(self, x: Tensor, size: int) -> Tensor:
        return x.index_select(1, torch.arange(size))  # a slice of a size that torch cannot prove to be there


class ExportedFbank(KaldiFbank):
    """With a matrix product in place of the FFT, which onnxruntime is slow at. The file holds one turn of a cosine, and
    where in it each element is; onnxruntime makes the matrix when it loads the file."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        turn = torch.arange(self.padded, dtype=torch.float64) * (2 * math.pi / self.padded)
        at = torch.arange(self.size).outer(torch.arange(self.padded // 2 + 1)) % self.padded
        self.register_buffer("cosine", turn.cos().float(), persistent=False)
        self.register_buffer("at", at.to(torch.int16 if self.padded <= 1 << 15 else torch.int32), persistent=False)

    def power(self, frames: Tensor) -> Tensor:
        at = self.at.long()
        table = torch.cat([self.cosine[at], self.cosine[(at + self.padded // 4) % self.padded]], 1)
        return (frames @ (self.window.unsqueeze(1) * table)).unflatten(-1, (2, -1)).square().sum(-2)


def made_for_export(student: Student) -> Student:
    """In place: what `fold` does, in the forms that onnxruntime is fast at. Queries, keys and values stay apart: to
    divide a product of all three takes longer than it saves."""
    encoder, front = student.encoder.encoder, student.encoder.feature_extractor
    for number, module in enumerate(encoder.pos_conv):
        if isinstance(module, nn.Conv1d):
            encoder.pos_conv[number] = ExportedConvolution(nn.utils.remove_weight_norm(module))
    for layer in encoder.layers:
        layer.self_attn.exported = ExportedAttention(layer.self_attn.num_heads)
    if isinstance(getattr(front, "fbank", None), KaldiFbank):
        front.fbank = ExportedFbank(**front.fbank.options)
    return student


class Graph(nn.Module):
    """(B, N) float32 audio with zeros behind it, (B,) int64 samples -> (B, T, V) log-probabilities, or (B, T, D)
    features of a student without CTC; (B,) frames."""

    inputs = ["audio", "lengths"]
    shortest = SHORTEST
    free = ({0: "batch", 1: "size"}, {0: "batch"})  # axes of any size, by input

    def __init__(self, student: Student):
        super().__init__()
        self.student = made_for_export(student)
        self.outputs = ["features" if student.proj is None else "log_probs", "frames"]

    def example(self) -> Tuple[Tensor, ...]:
        return torch.randn(2, 96000), torch.tensor([96000, 72000])

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
        model = torch.onnx.export(program, dynamo=True, verbose=False, opset_version=OPSET, **names).model_proto
    return with_plain_norms(model)


def with_plain_norms(model: Any) -> Any:
    """In place: the sums before LayerNorms by another operator, else onnxruntime makes one of both, which takes four
    times as long."""
    normalised = {node.input[0] for node in model.graph.node if node.op_type == "LayerNormalization"}
    for node in model.graph.node:
        if node.op_type == "Add" and node.output[0] in normalised:
            node.op_type = "Sum"
    return model


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Without the exporters' talk."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
