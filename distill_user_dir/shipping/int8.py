"""Products with weights in 8-bit integers, by onnxruntime's own tools.

Weights have a scale for each output channel. An activation has one for its whole tensor: of each batch as it comes, or,
calibrated, always that of some recordings, so that a loud neighbour changes nothing.
"""

import os
import tempfile
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

import numpy as np

from distill_user_dir.machine import need
from distill_user_dir.shipping.graph import hushed
from distill_user_dir.shipping.runner import padded

KERNEL = ".kernel"  # ends the name of the positional convolution's
OWN_TABLES = ".fbank."  # in names of weights that are no weights: mel filters, which int8 would ruin
PRODUCTS = ("MatMul", "Gemm")
Precision = Optional[Callable[[Any], Any]]  # what makes another onnx.ModelProto of an exported one; None: float32


def products(model: Any) -> List[str]:
    """Names of the nodes of an onnx.ModelProto that multiply by a weight."""
    weights = {one.name for one in model.graph.initializer if OWN_TABLES not in one.name}
    return [node.name for node in model.graph.node if node.op_type in PRODUCTS and node.input[1] in weights]


def quantised(model: Any, recordings: Optional[Sequence[np.ndarray]] = None, shortest: int = 1) -> Any:
    """onnx.ModelProto -> one whose products with weights are of 8-bit integers. Convolutions compute as before, from
    float16. recordings: (samples,) float32 each, the audio that calibrates it; shortest: what they are padded to."""
    quantization = need("onnxruntime.quantization", "export")
    options: Dict[str, Any] = {"nodes_to_quantize": products(model), "per_channel": True}
    extra: Dict[str, Any] = {"MatMulConstBOnly": True}
    with tempfile.TemporaryDirectory() as folder, hushed():
        path = os.path.join(folder, "int8.onnx")
        if recordings is None:
            quantization.quantize_dynamic(model, path, extra_options=extra, **options)
        else:
            extra["OpTypesToExcludeOutputQuantization"] = list(PRODUCTS)
            feeds = Feeds([one.name for one in model.graph.input], recordings, shortest)
            options.update(activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8)
            quantization.quantize_static(model, path, feeds, extra_options=extra, **options)
        return with_half_convolutions(need("onnx", "export").load(path))


class Feeds:
    """What onnxruntime calibrates on, one recording at a time."""

    def __init__(self, names: Sequence[str], recordings: Sequence[np.ndarray], shortest: int):
        """names: of the inputs audio and lengths."""
        self.feeds: Iterator[Dict[str, np.ndarray]] = (dict(zip(names, padded([one], shortest))) for one in recordings)

    def get_next(self) -> Optional[Dict[str, np.ndarray]]:
        return next(self.feeds, None)


def with_half_convolutions(model: Any) -> Any:
    """In place: kernels of convolutions in float16, which onnxruntime makes float32 of when it loads them."""
    onnx, graph = need("onnx", "export"), model.graph
    kernels = {node.input[1] for node in graph.node if node.op_type == "Conv"}
    for one in graph.initializer:
        if one.name in kernels or one.name.endswith(KERNEL):
            name, half = one.name, onnx.numpy_helper.to_array(one).astype(np.float16)
            one.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}.half"))
            graph.node.insert(0, onnx.helper.make_node("Cast", [one.name], [name], to=onnx.TensorProto.FLOAT))
    return model
