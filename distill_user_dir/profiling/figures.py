"""The figures of a model: multiply-accumulates, seconds and memory of a forward."""

import argparse
import functools
import itertools
import logging
import sys
from typing import Any, Callable, Dict, List

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from distill_user_dir.measure import interleaved, peak_memory
from distill_user_dir.modules.fold import fold
from distill_user_dir.profiling.rows import BASE, SAMPLE_RATE, Row, load_row, parameters


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
