"""Students in every runtime they are exported to, beside what else could be taken: time, size and memory, in one run.

python benchmarks/shipped.py --plot shipped.png                    # 2, 10 and 30 s, one and eight at a time
python benchmarks/shipped.py --sizes 10x1 --threads 1 --rounds 9
python benchmarks/shipped.py --only 'Fbank|HuBERT Base'

All have random weights of their published sizes. HuBERT Base is fairseq's own, eager; DistilHuBERT, wav2vec 2.0 Base,
Whisper tiny and Moonshine tiny are transformers'. The last two write words one after the other: an encoder, of Whisper
on its 30 s window, and a step of the decoder for each word of speech at 2.5 a second. All are taken in turn.
"""

import argparse
import functools
import logging
import os
import re
import tempfile
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import onnxruntime
import sherpa_onnx
import torch
import yaml
from peers import PEERS, TASK, Model, count, of_module
from torch import nn

from distill_user_dir.files import write_bytes, write_lines
from distill_user_dir.measure import interleaved, peak_memory
from distill_user_dir.models.student_config import student_config
from distill_user_dir.models.student_hubert import StudentHubert
from distill_user_dir.modules.fold import fold
from distill_user_dir.shipping import int8, sherpa_folder
from distill_user_dir.shipping.graph import Graph
from distill_user_dir.shipping.onnx_folder import model_of
from distill_user_dir.student import Student

STRUCTURE = "recipes/distill/student/deep_thin.yaml"
SYMBOLS = ["", "", "", "", *"|ETAONIHSRDLUMWCFGYPBVKXJQZ", "'"]
RUNTIMES = ("eager", "folded", "ONNX", "ONNX int8", "sherpa", "sherpa int8")


def student(frontend: str) -> Student:
    """The deep & thin student, with an output layer of letters."""
    torch.manual_seed(1)
    with open(STRUCTURE, encoding="utf-8") as file:
        config = student_config({**yaml.safe_load(file), "teacher_embed_dim": 768, "frontend": frontend})
    encoder = StudentHubert(config, TASK)
    encoder.remove_pretraining_modules()
    return Student(encoder, nn.Linear(encoder.embed_dim, len(SYMBOLS)), SYMBOLS).eval()


def of_student(name: str, threads: int, folder: str) -> Model:
    frontend, _, runtime = name.lower().partition(", ")
    if runtime in ("eager", "folded"):
        ours = student(frontend)
        if runtime == "folded":
            fold(ours.encoder)
        return of_module(ours, lambda audio: ours(torch.from_numpy(audio)))
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        export(student(frontend), path, runtime)
    model = f"{path}/model.onnx"
    if runtime.startswith("onnx"):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # its threads would be in others' way
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        run = functools.partial(run_session, session)
    else:
        made = getattr(sherpa_onnx.OfflineRecognizer, f"from_{sherpa_folder.TYPES[frontend == 'fbank']}")
        run = functools.partial(run_sherpa, made(model, f"{path}/tokens.txt", num_threads=threads))
    with open(f"{path}/parameters", encoding="ascii") as file:
        return Model(run, int(file.read()), os.path.getsize(model))


def export(ours: Student, path: str, runtime: str) -> None:
    """A folder with what a runtime needs."""
    os.makedirs(path)
    write_lines(f"{path}/parameters", [str(count(ours))])
    precision = int8.quantised if runtime.endswith("int8") else None
    if runtime.startswith("onnx"):
        content = model_of(Graph(ours), {}, precision)
    else:
        write_lines(f"{path}/tokens.txt", sherpa_folder.tokens("", SYMBOLS, "letter"))
        content = sherpa_folder.model_for_sherpa(ours, precision)
    write_bytes(f"{path}/model.onnx", content)


def run_session(session: onnxruntime.InferenceSession, audio: np.ndarray) -> None:
    session.run(None, {"audio": audio, "lengths": np.full(len(audio), audio.shape[1])})


def run_sherpa(recogniser: sherpa_onnx.OfflineRecognizer, audio: np.ndarray) -> None:
    streams = [recogniser.create_stream() for _ in audio]
    for stream, one in zip(streams, audio):
        stream.accept_waveform(16000, one)
    recogniser.decode_streams(streams)


STUDENTS = [f"{kind}, {runtime}" for kind in ("waveform", "Fbank") for runtime in RUNTIMES]


def model_of_name(name: str, threads: int, folder: str) -> Model:
    """folder: where exports are, or will be."""
    torch.manual_seed(1)
    return PEERS[name]() if name in PEERS else of_student(name, threads, folder)


def audio_of(size: Tuple[int, int]) -> np.ndarray:
    """(seconds, how many) -> (B, N) float32."""
    seconds, several = size
    return np.random.RandomState(1).standard_normal((several, 16000 * seconds)).astype(np.float32) * 0.05


def prepared(name: str, folder: str) -> Callable[[], Any]:
    """For `peak_memory`, in a process of its own."""
    logging.disable(logging.INFO)
    return functools.partial(model_of_name(name, 1, folder).run, audio_of((10, 1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["10x1", "2x1", "30x1", "10x8"], help="seconds x how many")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plot", metavar="FILE", help="bars of the first size and number of threads, to this picture")
    parser.add_argument("--only", default="", metavar="PATTERN", help="of names")
    args = parser.parse_args()
    logging.disable(logging.INFO)  # fairseq logs every config
    names = [name for name in (*PEERS, *STUDENTS) if re.search(args.only, name)]
    sizes = [tuple(int(part) for part in size.split("x")) for size in args.sizes]
    with tempfile.TemporaryDirectory() as folder:
        columns, models = measured(names, sizes, args.threads, args.rounds, folder)
        heads = [f"{seconds} s x {several}, {number} t" for number in args.threads for seconds, several in sizes]
        print(table(models, heads, columns, folder))
    if args.plot:
        plot(columns[0], sizes[0][0] * sizes[0][1], heads[0], args.plot)
    print(f"\nms; t: threads; memory: 10 s x 1, one thread. {os.cpu_count()} cores")


def measured(
    names: List[str], sizes: List[Tuple[int, int]], threads: List[int], rounds: int, folder: str
) -> Tuple[List[Dict[str, float]], Dict[str, Model]]:
    """Seconds by name, for each number of threads and size; the models."""
    columns: List[Dict[str, float]] = []
    models: Dict[str, Model] = {}
    for number in threads:
        torch.set_num_threads(number)
        models = {name: model_of_name(name, number, folder) for name in names}
        for size in sizes:
            runs = {name: functools.partial(model.run, audio_of(size)) for name, model in models.items()}
            columns.append(interleaved(runs, rounds))
    return columns, models


def table(models: Dict[str, Model], heads: List[str], columns: List[Dict[str, float]], folder: str) -> str:
    lines = [f"| | M | MB | {' | '.join(heads)} | MB of memory |", "|---" * (len(heads) + 4) + "|"]
    for name, model in models.items():
        taken = [f"{1000 * column[name]:.0f}" for column in columns]
        memory = f"{sum(peak_memory(prepared, name, folder)) / 1e6:.0f}"
        told = [name, f"{model.parameters / 1e6:.1f}", f"{model.size / 1e6:.0f}", *taken, memory]
        lines.append(f"| {' | '.join(told)} |")
    return "\n".join(lines)


def plot(taken: Dict[str, float], seconds: int, title: str, path: str) -> None:
    """Bars of how many times faster than real time; taken: seconds of computing by name."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 0.35 * len(taken) + 1.2))
    names = list(taken)[::-1]
    colours = [
        "tab:grey" if name in PEERS else "tab:blue" if name.startswith("waveform") else "tab:orange" for name in names
    ]
    bars = axes.barh(names, [seconds / taken[name] for name in names], color=colours)
    axes.bar_label(bars, fmt="%.0f", padding=3)
    axes.set(xlabel="times faster than real time", title=title)
    axes.margins(x=0.1)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
