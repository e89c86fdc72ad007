"""Sizes and speeds of models side by side: parameters by part, multiply-accumulates, real-time factor, memory.

    python -m distill_user_dir.profile recipes/distill/student/deep_thin.yaml CTC/checkpoint_best.pt
    python -m distill_user_dir.profile recipes/distill/student/deep_thin.yaml+recipes/distill/frontend/fbank.yaml
    python -m distill_user_dir.profile recipes/distill/student/*.yaml --seconds 2 10 --batch 1 8 --plot profile.png

A row is a student's structure (a YAML of recipes/distill/student, and behind a + one of recipes/distill/frontend) or a
checkpoint (*.pt: a HuBERT, a student, or one fine-tuned from either). HuBERT Base, with random weights, is always the
first. Heads that only distillation needs are counted, but neither run nor in the sum; the output layer of a fine-tuned
model is.
"""

import argparse
import functools
import itertools
import json
import logging
import os
import sys
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import torch
import yaml
from fairseq.models.hubert.hubert import HubertConfig
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from distill_user_dir.checkpoints.hubert import hubert_in
from distill_user_dir.machine import need, usable_device
from distill_user_dir.measure import interleaved, peak_memory
from distill_user_dir.messages import reason, tell
from distill_user_dir.models.student_hubert import StudentHubert, student_config
from distill_user_dir.modules.fold import fold
from distill_user_dir.modules.hubert import LengthAwareHubert
from distill_user_dir.student import load_student
from distill_user_dir.texts import read_text

PARTS = ("front-end", "positional convolution", "Transformer", "CTC layer")
BASE = "HuBERT Base"
HEADS = ("heads.", "cluster_head.projection.", "frontend_head.")
SAMPLE_RATE, SHORTEST = 16000, 400  # Hz; samples of one frame
MOST = 3600  # seconds, utterances, rounds


class Row(NamedTuple):
    """run: (B, N) audio -> the output of the last layer, or of the CTC layer; heads: parameters of those."""

    name: str
    encoder: LengthAwareHubert
    output: Optional[nn.Module]
    heads: int

    def run(self, audio: Tensor) -> Tensor:
        x = self.encoder.encode(audio).x
        return x if self.output is None else self.output(x)


def load_row(source: str, teacher_width: int) -> Row:
    """`BASE`, a structure's YAML, or a checkpoint; ValueError in one line where it is none of these."""
    task = OmegaConf.create({"normalize": False, "sample_rate": SAMPLE_RATE})
    if source == BASE:
        config = OmegaConf.merge(OmegaConf.structured(HubertConfig), {"label_rate": 50, "final_dim": 256})
        model = LengthAwareHubert(config, task, [None])
        heads = sum(parameter.numel() for parameter in model.final_proj.parameters()) + 504 * 256  # its clusters
        model.remove_pretraining_modules()
        return Row(BASE, model.eval(), None, heads)
    name = "+".join(os.path.splitext(os.path.basename(path))[0] for path in source.split("+"))
    if source.endswith(".yaml"):
        model = StudentHubert(structure(source, teacher_width), task)
        heads = sum(parameter.numel() for parameter in model.heads.parameters())
        model.remove_pretraining_modules()
        return Row(name, model.eval(), None, heads)
    if not source.endswith(".pt"):
        raise ValueError(f"{source}: neither a structure (*.yaml) nor a checkpoint (*.pt)")
    student = load_student(source, folded=False)
    folder = os.path.basename(os.path.dirname(os.path.abspath(source)))
    state = hubert_in(source).state
    heads = sum(value.numel() for key, value in state.items() if key.startswith(HEADS))
    return Row(f"{folder}/{name}", student.encoder, student.proj, heads)


def structure(source: str, teacher_width: int) -> Any:
    """A student's config from YAMLs of recipes/distill, joined by +; ValueError where that does not fit."""
    values = {"teacher_embed_dim": teacher_width}
    for path in source.split("+"):
        try:
            found = yaml.safe_load(read_text(path))
            found = found.get("model", found) if isinstance(found, dict) else None
            if not isinstance(found, dict):
                raise ValueError("it holds no keys")
            values.update(found)
        except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
            raise ValueError(f"{path}: no structure of a student: {reason(error)}") from None
    try:
        return student_config({**values, "fbank_stats": None})  # a file of the data's
    except (ValueError, TypeError, RecursionError, OmegaConfBaseException) as error:
        raise ValueError(f"{source}: no structure of a student: {reason(error)}") from None


def parameters(row: Row) -> Dict[str, int]:
    """Of each part: the front-end is the CNN or what stands for it, LayerNorm, projection and mask embedding."""
    encoder = row.encoder.encoder

    def count(*modules: Optional[nn.Module]) -> int:
        return sum(p.numel() for module in modules if module is not None for p in module.parameters())

    found = {
        "positional convolution": count(encoder.pos_conv),
        "Transformer": count(encoder.layers, encoder.layer_norm),
        "CTC layer": count(row.output),
    }
    found["front-end"] = count(row.encoder, row.output) - sum(found.values())
    return {part: found[part] for part in PARTS}


def multiply_accumulates(row: Row, samples: int) -> int:
    """Of one utterance, by torch's own counter; attention is computed by its formula, as the counter knows that."""
    audio = torch.zeros(1, samples, device=row.encoder.mask_emb.device)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        row.run(audio)
    return counter.get_total_flops() // 2


def prepare(source: str, teacher_width: int, seconds: float, batch: int) -> Callable[[], Any]:
    """For a process that measures memory."""
    logging.disable(logging.INFO)
    row = load_row(source, teacher_width)
    fold(row.encoder)
    audio = torch.randn(batch, int(seconds * SAMPLE_RATE))
    return torch.inference_mode()(lambda: row.run(audio))


def memory(row: Row, source: str, teacher_width: int, audio: Tensor) -> int:
    """Bytes that a forward needs at its peak, beside the model: on a GPU torch's own figure, else resident memory."""
    if audio.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        row.run(audio)
        return torch.cuda.max_memory_allocated() - before
    return peak_memory(prepare, source, teacher_width, audio.size(1) / SAMPLE_RATE, audio.size(0))[1]


@torch.inference_mode()
def profile(args: argparse.Namespace) -> List[Dict[str, Any]]:
    """One dict a row, HuBERT Base first; `runs` has one entry for each length and batch size."""
    sources = [BASE, *args.rows]
    named = [load_row(source, args.teacher_width) for source in args.rows]  # first: one of them may be none
    rows = [load_row(BASE, args.teacher_width), *named]
    found = []
    for row in rows:
        row.encoder.to(args.device), (row.output or nn.Identity()).to(args.device)
        parts = parameters(row)
        macs = multiply_accumulates(row, int(args.seconds[0] * SAMPLE_RATE)) / args.seconds[0]
        sums = {"parameters": sum(parts.values()), "heads": row.heads, "macs": macs}
        found.append({"name": row.name, "parts": parts, **sums, "runs": []})
        fold(row.encoder)
    for seconds, batch in itertools.product(args.seconds, args.batch):
        audio = torch.randn(batch, int(seconds * SAMPLE_RATE), device=args.device)
        runs = {str(i): functools.partial(row.run, audio) for i, row in enumerate(rows)}
        for i, taken in enumerate(interleaved(runs, args.rounds).values()):
            peak = memory(rows[i], sources[i], args.teacher_width, audio)
            found[i]["runs"].append(
                {"seconds": seconds, "batch": batch, "rtf": taken / seconds / batch, "memory": peak}
            )
            print(f"{rows[i].name}, {seconds:g} s x {batch}: {taken:.3f} s", file=sys.stderr)
    return found


def table(found: List[Dict[str, Any]]) -> str:
    """Parameters in millions; multiply-accumulates in 10^9 a second of audio; real-time factor, and how many times
    faster than HuBERT Base; peak memory of a forward beside the model, in MB."""
    width = max(len(row["name"]) for row in found)
    head = f"{'':<{width}} {'front':>6} {'pos':>6} {'Transf':>6} {'CTC':>6} {'sum M':>7} {'heads':>6} {'GMAC/s':>7}"
    for run in found[0]["runs"]:
        size = f"{run['seconds']:g} s x {run['batch']}: RTF"
        head += f" | {size:>15} {'faster':>7} {'MB':>6}"
    lines = [head]
    for row in found:
        parts = "".join(f" {count / 1e6:>6.2f}" for count in row["parts"].values())
        sums = f" {row['parameters'] / 1e6:>7.2f} {row['heads'] / 1e6:>6.2f} {row['macs'] / 1e9:>7.2f}"
        line = f"{row['name']:<{width}}{parts}{sums}"
        for run, reference in zip(row["runs"], found[0]["runs"]):
            line += f" | {run['rtf']:>15.4f} {reference['rtf'] / run['rtf']:>7.2f} {run['memory'] / 1e6:>6.0f}"
        lines.append(line)
    return "\n".join(lines)


def plot(found: List[Dict[str, Any]], path: str) -> None:
    """Parameters by part, and the time of the first length and batch size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 0.5 * len(found) + 1.8), sharey=True)
    names, start = [row["name"] for row in found], [0.0] * len(found)
    for part in [part for part in PARTS if any(row["parts"][part] for row in found)]:
        sizes = [row["parts"][part] / 1e6 for row in found]
        left.barh(names, sizes, left=start, label=part)
        start = [a + b for a, b in zip(start, sizes)]
    left.set(xlabel="parameters (millions), without heads")
    left.legend(fontsize="small")
    run = found[0]["runs"][0]
    right.barh(names, [1000 * row["runs"][0]["rtf"] for row in found], color="tab:grey")
    right.set(xlabel=f"computing (ms) for a second of audio, {run['seconds']:g} s x {run['batch']}")
    left.invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m distill_user_dir.profile",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="structures (*.yaml) and checkpoints (*.pt)")
    parser.add_argument("--seconds", nargs="+", type=float, default=[10.0], help="of audio (10)")
    parser.add_argument("--batch", nargs="+", type=int, default=[1], help="utterances at a time (1)")
    parser.add_argument("--rounds", type=int, default=5, help="timed, after one that is not (5)")
    parser.add_argument("--threads", type=int, help="of the CPU; default: torch's")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    parser.add_argument("--teacher-width", type=int, default=768, help="that a structure's heads are for (768)")
    parser.add_argument("--json", metavar="FILE", help="everything, to this file")
    parser.add_argument("--plot", metavar="FILE", help="bars of parameters and time, to this picture")
    return parser


def check_arguments(args: argparse.Namespace) -> None:
    """ValueError for what would end it late; the device and the number of threads are taken up."""
    numbers = {"--seconds": args.seconds, "--batch": args.batch, "--rounds": [args.rounds]}
    for option, values in {**numbers, "--threads": [args.threads or 1]}.items():
        for value in values:
            if not 0 < value <= MOST:
                raise ValueError(f"{option} {value:g}: expected a number above 0, and {MOST} at most")
    if min(args.seconds) * SAMPLE_RATE < SHORTEST:
        raise ValueError(f"--seconds {min(args.seconds):g}: less than one frame, {SHORTEST / SAMPLE_RATE} s")
    args.device = usable_device(args.device)
    if args.threads:
        torch.set_num_threads(args.threads)
    for path in filter(None, (args.json, args.plot)):
        if not os.path.isdir(os.path.dirname(path) or "."):
            raise ValueError(f"{path}: there is no such folder to write to")
    if args.plot:
        need("matplotlib", "manifests")


def main(argv: Optional[List[str]] = None) -> int:
    args = get_parser().parse_args(argv)
    logging.disable(logging.INFO)  # fairseq logs every config
    try:
        check_arguments(args)
        found = profile(args)
    except (ValueError, OSError) as error:
        tell(f"error: {error}")
        return 1
    print(table(found))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=2)
    if args.plot:
        plot(found, args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
