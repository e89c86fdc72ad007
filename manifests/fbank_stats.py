"""Mean and standard deviation of each Fbank bin over a manifest, for students with `frontend=fbank`.

    python manifests/fbank_stats.py DATA train                    # reads DATA/train.tsv, writes DATA/fbank.json
    python manifests/fbank_stats.py DATA train --bins 40 --workers 8 --dest DATA/fbank40.json

The options are those of the recipe (`model.fbank_bins` and so on); a recipe with others refuses the file. One utterance
at a time is in memory.
"""

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import sys
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
import tqdm

from distill_user_dir.data.audio import SAMPLE_RATE, read_samples
from distill_user_dir.data.manifest import read_manifest
from distill_user_dir.files import write_bytes
from distill_user_dir.messages import tell
from distill_user_dir.modules.fbank import KaldiFbank

PIECE = 1 << 22  # numbers in the windows that are computed at a time


class Moments(NamedTuple):
    """Of each bin, in float64: number of frames, mean, and sum of squared differences to the mean."""

    frames: int
    mean: np.ndarray
    squares: np.ndarray

    def __add__(self, other: "Moments") -> "Moments":
        """Of both together (Chan et al., 1979): no digits are lost, however many frames there are."""
        frames = self.frames + other.frames
        if frames == 0:
            return self
        shift = other.mean - self.mean
        mean = self.mean + shift * other.frames / frames
        return Moments(frames, mean, self.squares + other.squares + shift**2 * self.frames * other.frames / frames)


def moments_of(features: np.ndarray) -> Moments:
    """(T, bins) -> Moments."""
    features = features.astype(np.float64)
    mean = features.mean(0)
    return Moments(len(features), mean, ((features - mean) ** 2).sum(0))


_fbank: Optional[KaldiFbank] = None  # of a worker


def start_worker(options: Dict[str, Any]) -> None:
    global _fbank
    _fbank = KaldiFbank(**options)


def start_one_of_several(options: Dict[str, Any]) -> None:
    torch.set_num_threads(1)  # each has a core of its own
    start_worker(options)


def measure(entry: Tuple[str, int]) -> Moments:
    """Path and samples of an utterance -> its Moments; ValueError if the file is not what the manifest says."""
    path, expected = entry
    samples = torch.from_numpy(read_samples(path, expected, int(_fbank.options["sample_frequency"])))
    found, frames = None, int(_fbank.num_frames(torch.tensor(expected)))
    step = max(1, PIECE // _fbank.padded)
    for first in range(0, frames, step):
        last = min(first + step, frames) - 1
        piece = samples[first * _fbank.shift : last * _fbank.shift + _fbank.size]
        part = moments_of(_fbank(piece[None])[0].numpy())
        found = part if found is None else found + part
    return found


def total(entries: List[Tuple[str, int]], options: Dict[str, Any], workers: int, progress: bool) -> Moments:
    bins = options["num_mel_bins"]
    found = Moments(0, np.zeros(bins), np.zeros(bins))
    with contextlib.ExitStack() as stack:
        if workers > 1:
            pool = stack.enter_context(
                multiprocessing.get_context("spawn").Pool(workers, start_one_of_several, (options,))
            )
            parts = pool.imap(measure, entries, chunksize=16)  # in order: any number of workers gives the same sums
        else:
            start_worker(options)
            parts = map(measure, entries)
        for part in tqdm.tqdm(parts, total=len(entries), desc="fbank", unit="utterance", disable=not progress):
            found = found + part
    return found


def write_stats(tsv: str, dest: str, options: Dict[str, Any], workers: int = 1, progress: bool = True) -> Moments:
    """Writes `dest`, at once and whole, and returns what is in it. ValueError names what is wrong with which file."""
    fbank = KaldiFbank(**options)
    manifest = read_manifest(tsv)
    entries = [(os.path.join(manifest.root, name), size) for name, size in zip(manifest.names, manifest.sizes)]
    short = [path for path, size in entries if size < fbank.size]
    if short:
        raise ValueError(f"{short[0]}: shorter than one window of {fbank.size} samples; take it out of the manifest")
    found = total(entries, fbank.options, workers, progress)
    std = np.sqrt(found.squares / found.frames)
    flat = [i for i, value in enumerate(std) if not value > 1e-5 or not math.isfinite(value)]
    if flat:
        raise ValueError(
            f"{tsv}: bin {flat[0]} has mean {found.mean[flat[0]]:g} and deviation {std[flat[0]]:g} over {found.frames} "
            "frames: there is nothing to normalise (silence, or audio of a lower rate?)"
        )
    content = {"mean": found.mean.tolist(), "std": std.tolist(), "frames": found.frames, "options": fbank.options}
    write_bytes(dest, json.dumps(content, indent=1).encode())
    return found


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="folder of the manifests")
    parser.add_argument("split", metavar="SPLIT", help="reads DATA/SPLIT.tsv")
    parser.add_argument("--dest", metavar="FILE", help="default: DATA/fbank.json")
    parser.add_argument("--bins", type=int, default=80, help="model.fbank_bins (80)")
    parser.add_argument("--length", type=float, default=25.0, help="model.fbank_length, in milliseconds (25)")
    parser.add_argument("--shift", type=float, default=10.0, help="model.fbank_shift, in milliseconds (10)")
    parser.add_argument("--window", default="povey", help="model.fbank_window (povey)")
    parser.add_argument("--rate", type=float, default=SAMPLE_RATE, help=f"of the audio, in Hz ({SAMPLE_RATE})")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="default: one a core")
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    args = get_parser().parse_args(argv)
    options = {
        "num_mel_bins": args.bins,
        "sample_frequency": args.rate,
        "frame_length": args.length,
        "frame_shift": args.shift,
        "window_type": args.window,
    }
    dest = args.dest or os.path.join(args.data, "fbank.json")
    try:
        found = write_stats(os.path.join(args.data, f"{args.split}.tsv"), dest, options, args.workers)
    except (ValueError, OSError) as error:
        tell(error)
        return 1
    print(f"{dest}: {found.frames} frames, {args.bins} bins")
    return 0


if __name__ == "__main__":
    sys.exit(main())
