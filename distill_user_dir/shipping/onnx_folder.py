"""A folder that runs by itself: model.onnx, its runner, what that needs, and how to use it."""

import hashlib
import json
import os
import shutil
import tempfile
from typing import Any, Dict, List, Sequence

import numpy as np

from distill_user_dir.files import write_bytes, write_lines
from distill_user_dir.machine import need
from distill_user_dir.modules.conv_layers import receptive_field
from distill_user_dir.shipping import runner
from distill_user_dir.shipping.graph import SHORTEST, hushed, to_onnx
from distill_user_dir.student import Student, load_student

REQUIREMENTS = ["numpy", "soundfile", "onnxruntime", "soxr"]
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
    by tensor as they come. Convolutions stay."""
    quantization = need("onnxruntime.quantization", "export")
    weights = {one.name for one in model.graph.initializer if OWN_TABLES not in one.name}
    nodes = [node.name for node in model.graph.node if node.op_type in ("MatMul", "Gemm") and node.input[1] in weights]
    with tempfile.TemporaryDirectory() as folder, hushed():
        path = os.path.join(folder, "int8.onnx")
        quantization.quantize_dynamic(
            model, path, nodes_to_quantize=nodes, per_channel=True, extra_options={"MatMulConstBOnly": True}
        )
        return need("onnx", "export").load(path)


def write_folder(path: str, folder: str, int8: bool) -> None:
    """A fine-tuned checkpoint, exported into an empty folder."""
    student = load_student(path, folded=False)
    known = metadata(path, student)
    model = to_onnx(student)
    if int8:
        model = quantised(model)
    for key, value in known.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    write_bytes(os.path.join(folder, "model.onnx"), model.SerializeToString())
    shutil.copyfile(runner.__file__, os.path.join(folder, "transcribe.py"))
    write_lines(os.path.join(folder, "requirements.txt"), REQUIREMENTS)


class Difference:
    """Between a checkpoint and its export on some recordings.

    log_probs: the largest of any frame and unit, infinite where one is no number; frames: the share of those whose
    likeliest unit differs; lengths, words: how many recordings differ in them.
    """

    def __init__(self, model: Any, export: Any, audio: Sequence[np.ndarray]):
        self.log_probs, different, count, self.lengths, self.words = 0.0, 0, 0, 0, 0
        self.recordings = len(audio)
        frame = model.frame_shift / model.sample_rate
        for batch in (audio[at : at + 8] for at in range(0, len(audio), 8)):
            for ours, theirs in zip(model.log_probs(batch), export.log_probs(batch)):
                if ours.shape != theirs.shape:
                    self.lengths += 1
                    continue
                apart = np.nan_to_num(np.abs(ours - theirs), nan=np.inf)
                self.log_probs = max(self.log_probs, float(apart.max(initial=0)))
                different += int((ours.argmax(1) != theirs.argmax(1)).sum())
                count += len(ours)
                said = [
                    [word.word for word in runner.words_of(one, model.symbols, model.units, frame)]
                    for one in (ours, theirs)
                ]
                self.words += said[0] != said[1]
        self.frames = different / max(count, 1)

    def __str__(self) -> str:
        return (
            f"{self.recordings} recordings: log-probabilities differ by at most {self.log_probs:.2g}, the likeliest "
            f"unit in {self.frames:.2%} of the frames, lengths in {self.lengths}, words in {self.words} recordings"
        )


def noises(window: int) -> List[np.ndarray]:
    """Built-in audio: noise that comes and goes, from one frame to eight seconds, the same each time."""
    rng = np.random.RandomState(1)
    sizes = [window, 719, 720, 5000, 16000, 23456, 48000, 128000]
    loudness = [np.abs(np.sin(np.arange(size) / 3000.0)) * 0.1 for size in sizes]
    return [(rng.standard_normal(len(one)) * one).astype(np.float32) for one in loudness]
