"""Full-size distillation updates: audio a second, peak memory, and where the time goes.

    python benchmarks/distillation_update.py                           # 2 x 10 s, two threads
    python benchmarks/distillation_update.py --device cuda --bf16 --size 10x24 --plot update.png

A HuBERT-Base-shaped teacher (random weights) and the deep & thin student, from our own task and criterion, with Adam:
regression, regression with the discriminative loss, and both stages of an Fbank student. Updates of all are taken in
turn; memory is the peak beyond what models, gradients and moments take, each in a process of its own on a CPU.
"""

import argparse
import logging
import os
import tempfile
import time
from typing import Any, Callable, Dict, List, NamedTuple

import numpy as np
import soundfile
import torch
import yaml
from omegaconf import OmegaConf
from random_data import write_teacher
from torch.utils.flop_counter import FlopCounterMode

from distill_user_dir.criterions.distillation import DistillationCriterion
from distill_user_dir.criterions.distillation_config import DistillationCriterionConfig
from distill_user_dir.files import write_lines
from distill_user_dir.measure import interleaved, peak_memory
from distill_user_dir.models.student_config import StudentHubertConfig
from distill_user_dir.tasks.hubert_distillation import HubertDistillationConfig, HubertDistillationTask

STRUCTURE = "recipes/distill/student/deep_thin.yaml"
PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12}  # bf16 operations a second, dense
KINDS: Dict[str, Dict[str, Any]] = {
    "reg": {},
    "reg + disc": {"criterion": {"discriminative_weight": 1.0}},
    "Fbank, stage 1": {"model": {"frontend": "fbank"}, "criterion": {"frontend_updates": 1}, "update": 0},
    "Fbank, stage 2": {"model": {"frontend": "fbank"}, "criterion": {"frontend_updates": 1}, "update": 1},
}


class Run(NamedTuple):
    """An update of one kind and its parts."""

    update: Callable[[], None]
    parts: Dict[str, float]


def configs(kind: str, teacher: str) -> Any:
    """As a recipe has them, with interpolations resolved."""
    with open(STRUCTURE, encoding="utf-8") as file:
        structure = {**yaml.safe_load(file), "fbank_norm": "utterance", "label_rate": 50.0}
    parts = {
        "common": {"seed": 1},
        "dataset": {"train_subset": "train"},
        "optimization": {"max_update": 0},
        "checkpoint": {"best_checkpoint_metric": "loss", "save_dir": "/"},
        "task": OmegaConf.merge(
            OmegaConf.structured(HubertDistillationConfig), {"data": "/", "label_rate": 50.0, "teacher_path": teacher}
        ),
        "criterion": OmegaConf.merge(
            OmegaConf.structured(DistillationCriterionConfig), KINDS[kind].get("criterion", {})
        ),
        "model": OmegaConf.merge(
            OmegaConf.structured(StudentHubertConfig), {**structure, **KINDS[kind].get("model", {})}
        ),
    }
    cfg = OmegaConf.create(OmegaConf.to_container(OmegaConf.create(parts), resolve=True, enum_to_str=True))
    cfg.model._name = "student_hubert"
    return cfg


def prepare(kind: str, teacher: str, size: str, device: str, bf16: bool) -> Run:
    """A first update has been done: moments and gradients are there."""
    cfg = configs(kind, teacher)
    task = HubertDistillationTask(cfg.task)
    student = task.build_model(cfg.model).to(device).train()
    criterion = DistillationCriterion(cfg.criterion, task)
    student = student.bfloat16() if bf16 else student
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4, fused=True)
    seconds, utterances = size.split("x")
    audio = 0.1 * torch.randn(int(utterances), int(16000 * float(seconds)), dtype=torch.double)
    sample = {"id": torch.arange(len(audio)), "net_input": {"source": audio}, "lengths": [audio.size(1)] * len(audio)}
    number, parts, run_teacher = KINDS[kind].get("update", 1), {}, criterion.run_teacher

    def timed(name: str, call: Callable[[], Any]) -> Any:
        start = clock(device)
        result = call()
        parts[name] = parts.get(name, 0.0) + clock(device) - start
        return result

    criterion.run_teacher = lambda *args: timed("teacher", lambda: run_teacher(*args))
    forward = student.forward
    student.forward = lambda *args, **kwargs: timed("student forward", lambda: forward(*args, **kwargs))

    def update() -> None:
        moved = timed("data", lambda: to_device(sample, device))
        student.set_num_updates(number)
        student.choose_what_learns()
        loss, _, _ = timed("loss", lambda: criterion(student, moved))
        timed("backward", loss.backward)
        timed("optimizer", optimizer.step)
        optimizer.zero_grad(set_to_none=False)

    update()
    return Run(update, parts)


def to_device(sample: Dict[str, Any], device: str) -> Dict[str, Any]:
    net_input = sample["net_input"]
    return {**sample, "net_input": {**net_input, "source": net_input["source"].to(device)}}


def clock(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def memory_of(kind: str, teacher: str, size: str) -> Callable[[], None]:
    logging.disable(logging.INFO)
    return prepare(kind, teacher, size, "cpu", False).update


def shares(run: Run) -> Dict[str, float]:
    """Of an update's time; the loss is what the criterion takes beside teacher and student."""
    parts = dict(run.parts)
    parts["loss"] = parts["loss"] - parts["teacher"] - parts["student forward"]
    total = sum(parts.values())
    return {
        name: parts[name] / total for name in ("data", "teacher", "student forward", "loss", "backward", "optimizer")
    }


def measure(kinds: List[str], args: argparse.Namespace, teacher: str) -> List[Dict[str, Any]]:
    rows = []
    runs = {kind: prepare(kind, teacher, args.size, args.device, args.bf16) for kind in kinds}
    for run in runs.values():
        run.parts.clear()
    taken = interleaved({kind: run.update for kind, run in runs.items()}, args.rounds)
    seconds, utterances = args.size.split("x")
    for kind, run in runs.items():
        row = {"kind": kind, "seconds": taken[kind], "audio": float(seconds) * int(utterances) / taken[kind]}
        row["shares"] = shares(run)
        with FlopCounterMode(display=False) as counter:
            run.update()
        row["operations"] = counter.get_total_flops()
        if args.device == "cuda":
            held = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            run.update()
            row["memory"] = torch.cuda.max_memory_allocated() - held
        else:
            row["memory"] = peak_memory(memory_of, kind, teacher, args.size)[1]
        rows.append(row)
    return rows


def data_rate(folder: str, utterances: int = 48, seconds: int = 12) -> float:
    """Seconds of audio that one data worker reads, crops and collates in a second: FLAC, in batches of 8."""
    random = np.random.RandomState(1)
    lines = [folder]
    for number in range(utterances):
        soundfile.write(f"{folder}/{number}.flac", random.normal(0, 0.05, 16000 * seconds), 16000, "PCM_16")
        lines.append(f"{number}.flac\t{16000 * seconds}")
    write_lines(f"{folder}/train.tsv", lines)
    cfg = OmegaConf.merge(
        OmegaConf.structured(HubertDistillationConfig),
        {"data": folder, "seed": 1, "train_subset": "train", "best_checkpoint_metric": "loss", "save_dir": folder},
    )
    task = HubertDistillationTask(cfg)
    task.load_dataset("train")
    dataset, start = task.datasets["train"], time.perf_counter()
    for first in range(0, utterances, 8):
        dataset.collater([dataset[index] for index in range(first, first + 8)])
    return utterances * seconds / (time.perf_counter() - start)


def table(rows: List[Dict[str, Any]], device: str) -> str:
    names = list(rows[0]["shares"])
    lines = [
        "update             s    audio s/s   peak MB  " + "  ".join(f"{name:>9.9}" for name in names) + "  TFLOP/s"
    ]
    peak = next((value for name, value in PEAK.items() if device == "cuda" and name in torch.cuda.get_device_name()), 0)
    for row in rows:
        rate = row["operations"] / row["seconds"]
        of_peak = f" ({100 * rate / peak:.0f}% of the card's)" if peak else ""
        lines.append(
            f"{row['kind']:<15}{row['seconds']:7.3f}{row['audio']:11.2f}{row['memory'] / 1e6:10.0f}  "
            + "  ".join(f"{100 * share:8.1f}%" for share in row["shares"].values())
            + f"  {rate / 1e12:7.2f}{of_peak}"
        )
    return "\n".join(lines)


def plot(rows: List[Dict[str, Any]], path: str) -> None:
    """Where an update's time goes: a bar each, its parts side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.6 * len(rows) + 1.4), layout="constrained")
    axis, left = figure.subplots(), [0.0] * len(rows)
    for name in rows[0]["shares"]:
        widths = [row["shares"][name] * row["seconds"] for row in rows]
        axis.barh([row["kind"] for row in rows], widths, left=left, label=name)
        left = [start + width for start, width in zip(left, widths)]
    axis.invert_yaxis()
    axis.set_xlabel("seconds an update")
    figure.legend(loc="outside upper center", ncols=len(rows[0]["shares"]), fontsize="small")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="10x2", help="seconds x utterances (10x2)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--bf16", action="store_true", help="the student's weights in bfloat16, as common.bf16")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS), metavar="KIND")
    parser.add_argument("--rounds", type=int, default=3, help="timed (3)")
    parser.add_argument("--threads", type=int, default=2, help="(2)")
    parser.add_argument("--plot", metavar="PNG", help="picture of where the time goes")
    args = parser.parse_args()
    logging.disable(logging.INFO)  # fairseq logs every config
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    with tempfile.TemporaryDirectory() as folder:
        teacher = os.path.join(folder, "teacher.pt")
        write_teacher(teacher)
        rows = measure(args.kinds, args, teacher)
        rate = data_rate(folder)
    print(f"{args.size} s, {args.device}, {args.threads} threads" + (", bf16" if args.bf16 else ""))
    print(table(rows, args.device))
    print(f"one data worker gives {rate:.0f} s of audio a second")
    if args.plot:
        plot(rows, args.plot)


if __name__ == "__main__":
    main()
