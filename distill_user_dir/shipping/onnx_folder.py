"""A folder that runs by itself: model.onnx, its runner, what that needs, and how to use it."""

import hashlib
import json
import os
import shutil
import tempfile
from typing import Any, Dict, List

import numpy as np

from distill_user_dir.files import write_bytes, write_lines
from distill_user_dir.machine import need
from distill_user_dir.modules.conv_layers import receptive_field
from distill_user_dir.shipping import runner
from distill_user_dir.shipping.graph import SHORTEST, Graph, hushed, to_onnx
from distill_user_dir.student import Student, load_student

REQUIREMENTS = ["numpy", "soundfile", "onnxruntime", "soxr"]
KERNEL = ".kernel"  # ends the name of the positional convolution's
OWN_TABLES = ".fbank."  # in names of weights that are no weights: mel filters, which int8 would ruin


def metadata(path: str, student: Student) -> Dict[str, str]:
    """What the runner has to know, and where the model came from."""
    window, shift = receptive_field(student.encoder.conv_layers)
    with open(path, "rb") as file:
        source = hashlib.sha256(file.read()).hexdigest()
    known = {
        "format": runner.FORMAT,
        "symbols": json.dumps(student.symbols),
        "units": student.units,
        "sample_rate": student.sample_rate,
        "window": window,
        "frame_shift": shift,
        "shortest": max(SHORTEST, window),
        "blank": runner.BLANK,
        "source_sha256": source,
    }
    return {key: str(value) for key, value in known.items()}


def quantised(model: Any) -> Any:
    """onnx.ModelProto -> one whose products with weights are of 8-bit integers: weights by output channel, activations
    by tensor as they come. Convolutions compute as before, from float16."""
    quantization = need("onnxruntime.quantization", "export")
    weights = {one.name for one in model.graph.initializer if OWN_TABLES not in one.name}
    nodes = [node.name for node in model.graph.node if node.op_type in ("MatMul", "Gemm") and node.input[1] in weights]
    with tempfile.TemporaryDirectory() as folder, hushed():
        path = os.path.join(folder, "int8.onnx")
        quantization.quantize_dynamic(
            model, path, nodes_to_quantize=nodes, per_channel=True, extra_options={"MatMulConstBOnly": True}
        )
        return with_half_convolutions(need("onnx", "export").load(path))


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


def model_of(graph: Graph, known: Dict[str, str], int8: bool) -> bytes:
    """The file of a graph with these metadata."""
    model = to_onnx(graph)
    if int8:
        model = quantised(model)
    for key, value in known.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return model.SerializeToString()


def write_folder(path: str, folder: str, int8: bool) -> List[str]:
    """A checkpoint, exported into an empty folder -> how to use it."""
    student = load_student(path, folded=False)
    known = metadata(path, student)
    write_bytes(os.path.join(folder, "model.onnx"), model_of(Graph(student), known, int8))
    if student.proj is None:
        return usage_of_features()
    shutil.copyfile(runner.__file__, os.path.join(folder, "transcribe.py"))
    write_lines(os.path.join(folder, "requirements.txt"), REQUIREMENTS)
    return ["```", "pip install -r requirements.txt", "python transcribe.py speech.flac", "```"]


def usage_of_features() -> List[str]:
    return [
        "```python",
        "import numpy, onnxruntime, soundfile",
        "audio, _ = soundfile.read('speech.wav', dtype='float32')",
        "session = onnxruntime.InferenceSession('model.onnx')",
        "features, _ = session.run(None, {'audio': audio[None], 'lengths': numpy.array([len(audio)])})",
        "```",
    ]
