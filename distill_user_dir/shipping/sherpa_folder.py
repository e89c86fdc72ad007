"""A folder that sherpa-onnx runs as it is, on phones, desktops and servers, in a dozen languages.

A student with Fbank is one of its `fire_red_asr_ctc` models, whose features are computed by sherpa; one on the
waveform, or a HuBERT, is `omnilingual`.
"""

import os
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from distill_user_dir.files import write_bytes, write_lines
from distill_user_dir.machine import need
from distill_user_dir.modules.fbank import KaldiFbank
from distill_user_dir.modules.padding import normalise_audio
from distill_user_dir.shipping.graph import Graph
from distill_user_dir.shipping.int8 import Precision
from distill_user_dir.shipping.onnx_folder import model_of
from distill_user_dir.shipping.runner import BLANK, WORD_END, WORD_START
from distill_user_dir.student import Student, load_student

TYPES = {True: "fire_red_asr_ctc", False: "omnilingual_asr_ctc"}  # by whether the student has Fbank
LOUDNESS = 0.05  # sherpa makes the audio of variance 1; a model that wants it as it is gets it at the level of speech
SHORTEST_FEATURES = 4  # torch exports no convolution whose output may be one frame long


class NoFeatures(nn.Module):
    """Where a front-end computes its Fbank: that is its input already."""

    def num_frames(self, frames: Tensor) -> Tensor:
        return frames

    def forward(self, features: Tensor) -> Tensor:
        return features


class FeatureGraph(Graph):
    """(B, T, bins) Fbank, (B,) int64 frames -> (B, T', V) log-probabilities, (B,) frames."""

    inputs = ["features", "lengths"]
    shortest = SHORTEST_FEATURES

    def __init__(self, student: Student):
        super().__init__(student)
        front = student.encoder.feature_extractor
        self.bins = front.fbank.mel.size(1)
        front.fbank = NoFeatures()
        student.encoder.conv_layers = [(student.encoder.embed_dim, 1, front.conv.stride[0])]

    def example(self) -> Tuple[Tensor, ...]:
        return torch.randn(2, 600, self.bins), torch.tensor([600, 480])


class WaveformGraph(Graph):
    """(B, N) audio of zero mean and variance 1, unpadded; sherpa's B is 1 -> (B, T, V) log-probabilities."""

    inputs = ["audio"]
    free = ({0: "batch", 1: "size"},)

    def __init__(self, student: Student):
        super().__init__(student)
        self.scale = 1.0 if student.encoder.normalize else LOUDNESS
        student.encoder.normalize = False
        self.outputs = ["log_probs"]

    def example(self) -> Tuple[Tensor, ...]:
        return (torch.randn(2, 96000),)

    def forward(self, audio: Tensor) -> Tensor:
        return self.student.proj(self.student.encoder.encode(audio * self.scale).x).float().log_softmax(-1)


def write_folder(path: str, folder: str, precision: Precision) -> List[str]:
    """A fine-tuned checkpoint, exported into an empty folder -> how to use it. ValueError if sherpa cannot run it."""
    student = load_student(path, folded=False)
    if not student.encoder.has_cnn:
        check_features(path, student)
    elif student.sample_rate != 16000:
        raise ValueError(f"{path}: audio of {student.sample_rate} Hz; sherpa's models of this kind have 16000")
    write_lines(os.path.join(folder, "tokens.txt"), tokens(path, student.symbols, student.units))
    write_bytes(os.path.join(folder, "model.onnx"), model_for_sherpa(student, precision))
    return usage(not student.encoder.has_cnn)


def model_for_sherpa(student: Student, precision: Precision) -> bytes:
    """Its model.onnx; the student is of no other use after."""
    known: Dict[str, str] = {}
    if not student.encoder.has_cnn:
        front = student.encoder.feature_extractor
        known = {
            "model_type": "fire-red-asr-2-ctc",
            "cmvn_mean": ",".join(["0"] * 80),
            "cmvn_inv_stddev": ",".join(["1"] * 80),
            "subsampling_factor": str(front.conv.stride[0]),
        }
    return model_of(WaveformGraph(student) if student.encoder.has_cnn else FeatureGraph(student), known, precision)


def usage(with_fbank: bool) -> List[str]:
    return [
        "```",
        "pip install sherpa-onnx soundfile",
        "```",
        "```python",
        "import sherpa_onnx, soundfile",
        f"recogniser = sherpa_onnx.OfflineRecognizer.from_{TYPES[with_fbank]}('model.onnx', 'tokens.txt')",
        "stream, (samples, rate) = recogniser.create_stream(), soundfile.read('speech.wav', dtype='float32')",
        "stream.accept_waveform(rate, samples)",
        "recogniser.decode_stream(stream)",
        "print(stream.result.text)",
        "```",
    ]


def tokens(path: str, symbols: Sequence[str], units: str) -> List[str]:
    """The lines of tokens.txt; ValueError for a symbol that it cannot hold."""
    lines = []
    for index, symbol in enumerate(symbols):
        if index == BLANK:
            symbol = "<blk>"
        elif symbol == "" or symbol == WORD_END and units == "letter":
            symbol = WORD_START  # sherpa writes a space for it; the empty ones are fairseq's special symbols
        if symbol.split() != [symbol]:
            raise ValueError(f"{path}: its unit {index} is {symbol!r}, which tokens.txt cannot hold; --format onnx can")
        lines.append(f"{symbol} {index}")
    return lines


def keeps_loudness(model: Any) -> bool:
    """Whether the student hears what sherpa hears; one that wants the waveform as it is gets it at another level."""
    return not model.student.encoder.has_cnn or model.student.encoder.normalize


def check_features(path: str, student: Student) -> None:
    """ValueError unless the student's Fbank is sherpa's."""
    ours, theirs = student.encoder.feature_extractor.fbank.options, KaldiFbank().options
    for name, value in theirs.items():
        if ours[name] != value:
            raise ValueError(f"{path}: its Fbank has {name}={ours[name]}, sherpa's {value}; --format onnx can hold it")


class SherpaModel:
    """An exported folder: its log-probabilities by onnxruntime, its words by sherpa-onnx."""

    def __init__(self, folder: str, model: Any):
        """model: the checkpoint's."""
        sherpa = need("sherpa_onnx", "export")
        path, listed = (os.path.join(folder, name) for name in ("model.onnx", "tokens.txt"))
        self.session = need("onnxruntime", "export").InferenceSession(path, providers=["CPUExecutionProvider"])
        self.fbank = None if model.student.encoder.has_cnn else KaldiFbank()
        self.sample_rate = model.sample_rate
        self.recogniser = getattr(sherpa.OfflineRecognizer, f"from_{TYPES[self.fbank is not None]}")(path, listed)

    def outputs(self, audio: Sequence[np.ndarray]) -> List[np.ndarray]:
        """(samples,) float32 each -> (frames, units) each."""
        return [self.of_one(torch.from_numpy(one)[None]) for one in audio]

    def of_one(self, audio: Tensor) -> np.ndarray:
        if self.fbank is None:
            (found,) = self.session.run(None, {"audio": normalise_audio(audio, None).numpy()})
            return found[0]
        features = self.fbank(audio).numpy()
        lengths = np.array([features.shape[1]])
        found, frames = self.session.run(None, {"features": features, "lengths": lengths})
        return found[0, : frames[0]]

    def said(self, audio: np.ndarray) -> List[str]:
        stream = self.recogniser.create_stream()
        stream.accept_waveform(self.sample_rate, audio)
        self.recogniser.decode_stream(stream)
        return stream.result.text.split()
