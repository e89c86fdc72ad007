"""A folder that runs by itself: model.onnx, its runner, what that needs, and how to use it."""

import hashlib
import json
import os
import shutil
from typing import Dict, List

from distill_user_dir.files import write_bytes, write_lines
from distill_user_dir.modules.conv_layers import receptive_field
from distill_user_dir.shipping import runner
from distill_user_dir.shipping.graph import SHORTEST, Graph, to_onnx
from distill_user_dir.shipping.int8 import Precision
from distill_user_dir.student import Student, load_student

REQUIREMENTS = ["numpy", "soundfile", "onnxruntime", "soxr"]


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


def model_of(graph: Graph, known: Dict[str, str], precision: Precision) -> bytes:
    """The file of a graph with these metadata."""
    model = to_onnx(graph)
    if precision is not None:
        model = precision(model)
    for key, value in known.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return model.SerializeToString()


def write_folder(path: str, folder: str, precision: Precision) -> List[str]:
    """A checkpoint, exported into an empty folder -> how to use it."""
    student = load_student(path, folded=False)
    known = metadata(path, student)
    write_bytes(os.path.join(folder, "model.onnx"), model_of(Graph(student), known, precision))
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
