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
import json
import logging
import os
import sys
from typing import List, Optional

import torch

from distill_user_dir.machine import need, usable_device
from distill_user_dir.messages import tell
from distill_user_dir.profiling.figures import profile
from distill_user_dir.profiling.report import plot, table
from distill_user_dir.profiling.rows import SAMPLE_RATE

SHORTEST = 400  # samples of one frame
MOST = 3600  # seconds, utterances, rounds


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
