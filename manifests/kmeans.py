"""Clusters features with fairseq's simple_kmeans: DATA/{split}.km, a line of labels an utterance, and dict.km.txt.

    python manifests/kmeans.py FEAT_DIR --splits train valid --clusters 50 --dest DATA

FEAT_DIR is what manifests/features.py wrote, with the same --nshard for every split. The clusters are learned on the
first split and kept in DATA/kmeans.npy, (clusters, dim) float32. Learning holds its frames in memory twice: how much
that is, is told, and refused above --memory; --percent 0.1 learns on a tenth of the utterances. In large:

    python manifests/features.py DATA train_tenth FEAT_DIR --feature hubert --checkpoint CKPT --layer 6
    python manifests/kmeans.py FEAT_DIR --splits train_tenth --clusters 500 --dest DATA
    python manifests/features.py DATA train FEAT_DIR ... --kmeans DATA/kmeans.npy --nshard 8 --rank R   # 0 to 7
    python manifests/kmeans.py FEAT_DIR --splits train --join --nshard 8 --dest DATA

With --kmeans, features.py writes labels, and no features at all; --join puts the shards' in the manifest's order.
With --label km4 the files are {split}.km4, dict.km4.txt and kmeans.km4.npy: a label set of several. Each set has a
FEAT_DIR of its own.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from typing import List, NamedTuple, Optional, Sequence

import numpy as np

from distill_user_dir.data.arrays import read_centres
from distill_user_dir.files import replacing, write_lines
from distill_user_dir.machine import need
from distill_user_dir.messages import plain, tell
from manifests.arrays import read_counts, read_features
from manifests.label_files import DEFAULT, LabelFiles

SCRIPTS = os.path.join(os.path.dirname(find_spec("fairseq").origin), "examples", "hubert", "simple_kmeans")
# runs a script, which would pickle its model, and keeps the centres alone
KEEP_CENTRES = """
import runpy, sys, joblib, numpy
joblib.dump = lambda model, path: numpy.save(path, model.cluster_centers_.astype(numpy.float32))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
ROWS = 100_000  # of features that are looked at at a time
NOT_FINITE = "features that are not finite; look at the audio and the checkpoint they are of"
THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def default_threads() -> int:
    """The cores this process may use, 8 at most: more does not make mini-batches of 10,000 frames any faster."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


def run_script(name: str, arguments: Sequence[str], threads: int) -> None:
    """Prints and runs one of fairseq's scripts; ValueError with its last words if it fails."""
    command = [os.path.join(SCRIPTS, name), *arguments]
    print(" ".join(shlex.quote(part) for part in ["python", *command]), flush=True)
    command = [sys.executable, "-c", KEEP_CENTRES, *command]
    environment = {**os.environ, **{limit: str(threads) for limit in THREAD_LIMITS}}
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, errors="replace")
    if done.returncode != 0:
        words = [line for line in done.stderr.split("\n") if line.strip()]
        raise ValueError(f"{name} failed: {plain(words[-1] if words else f'status {done.returncode}')}")


def learn(feat_dir: str, split: str, nshard: int, clusters: int, seed: int, percent: float, threads: int) -> np.ndarray:
    """-> (clusters, dim) float32, by fairseq's learn_kmeans.py. ValueError if it fails."""
    with tempfile.TemporaryDirectory(prefix="kmeans-", dir=feat_dir) as folder:
        path = os.path.join(folder, "kmeans.npy")
        learning = [feat_dir, split, str(nshard), path, str(clusters), "--seed", str(seed), "--percent", str(percent)]
        run_script("learn_kmeans.py", learning, threads)
        return read_centres(path)


def check_memory(feat_dir: str, split: str, lengths: Sequence[Sequence[int]], percent: float, memory: float) -> None:
    """Tells what learning will hold; ValueError where it is more than `memory` gigabytes, or where features are not
    what their lengths say, or not finite."""
    dim = None
    for rank, of_shard in enumerate(lengths):
        path = os.path.join(feat_dir, f"{split}_{rank}_{len(lengths)}.npy")
        features = read_features(path)
        dim = dim or features.shape[1]
        if features.shape != (sum(of_shard), dim):
            raise ValueError(f"{path}: {features.shape}, expected ({sum(of_shard)}, {dim}) by its .len; make both anew")
        if not all(np.isfinite(features[at : at + ROWS]).all() for at in range(0, len(features), ROWS)):
            raise ValueError(f"{path}: {NOT_FINITE}")
    frames = sum(sum(shard) for shard in lengths) * (percent if percent >= 0 else 1)
    needed = 2 * frames * dim * 4 / 1e9  # the shards' samples, and all of them in one piece
    print(f"learning on about {frames:.0f} frames of {dim}: {needed:.3g} GB", flush=True)
    if needed > memory:
        share = memory / needed * (percent if percent >= 0 else 1)
        raise ValueError(
            f"{feat_dir}: learning would hold {needed:.3g} GB, and --memory is {memory:g}: learn on a part of the "
            f"utterances (--percent {share:.2g}), or allow more"
        )


def nearest(frames: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(T, dim), (clusters, dim) -> (T,) int: the centre of least distance; the first of several."""
    return ((centres**2).sum(1) - 2 * frames @ centres.T).argmin(1)


def label_line(frames: np.ndarray, centres: np.ndarray) -> str:
    """A line of labels; ValueError for features that are not finite, which are near to nothing."""
    if not np.isfinite(frames).all():
        raise ValueError(NOT_FINITE)
    return " ".join(map(str, nearest(frames, centres).tolist()))


def dump_labels(feat_dir: str, split: str, nshard: int, rank: int, centres: np.ndarray, lengths: Sequence[int]) -> None:
    """Writes FEAT_DIR/{split}_{rank}_{nshard}.km; features are read an utterance at a time."""
    stem = os.path.join(feat_dir, f"{split}_{rank}_{nshard}")
    features = read_features(f"{stem}.npy")
    if len(features) != sum(lengths) or features.shape[1] != centres.shape[1]:
        raise ValueError(
            f"{stem}.npy: {features.shape}, expected ({sum(lengths)}, {centres.shape[1]}) by its .len and the centres; "
            "make the features anew"
        )
    ends = np.cumsum(lengths)
    write_lines(f"{stem}.km", [label_line(features[end - n : end], centres) for n, end in zip(lengths, ends)])


def read_lengths(feat_dir: str, split: str, nshard: int) -> List[List[int]]:
    """The frames of each utterance, for each shard; ValueError if a shard's files are not there."""
    shards = []
    for rank in range(nshard):
        stem = os.path.join(feat_dir, f"{split}_{rank}_{nshard}")
        for path in (f"{stem}.npy", f"{stem}.len"):
            if not os.path.exists(path):
                told = f"--nshard {nshard} --rank {rank}"
                raise ValueError(f"{path}: no such file; make it with manifests/features.py {told}")
        shards.append(read_counts(f"{stem}.len"))
    return shards


class Learning(NamedTuple):
    """percent: the share of the utterances to learn on, from 0 to 1, or -1 for all; memory: gigabytes at most."""

    clusters: int
    seed: int = 0
    percent: float = -1
    memory: float = 16.0
    threads: Optional[int] = None

    def check(self, frames: int) -> None:
        """ValueError for numbers by which nothing can be learned."""
        if not 1 <= self.clusters <= frames:
            raise ValueError(f"--clusters {self.clusters}: expected 1 to {frames}, the frames there are")
        if self.percent != -1 and not 0 < self.percent <= 1:
            raise ValueError(f"--percent {self.percent:g}: expected a share above 0, and 1 at most")
        if self.seed < 0 or (self.threads is not None and self.threads < 1):
            raise ValueError(f"--seed {self.seed} --threads {self.threads}: expected 0 or more, and 1 or more")


def label(feat_dir: str, splits: Sequence[str], files: LabelFiles, nshard: int, learning: Optional[Learning]) -> None:
    """Labels all splits with the clusters learned on the first, or, without `learning`, with those in `files.centres`.

    ValueError where features are missing, or where a script of fairseq's fails.
    """
    lengths = {split: read_lengths(feat_dir, split, nshard) for split in splits}
    if learning is not None:
        learning.check(sum(map(sum, lengths[splits[0]])))
        check_memory(feat_dir, splits[0], lengths[splits[0]], learning.percent, learning.memory)
        threads = learning.threads or default_threads()
        centres = learn(feat_dir, splits[0], nshard, learning.clusters, learning.seed, learning.percent, threads)
        os.makedirs(files.dest, exist_ok=True)
        with replacing(files.centres) as temporary, open(temporary, "wb") as stream:
            np.save(stream, centres)
    centres = read_centres(files.centres)
    for split in splits:
        for rank in range(nshard):
            dump_labels(feat_dir, split, nshard, rank, centres, lengths[split][rank])
    files.write(feat_dir, splits, nshard, len(centres))


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("feat_dir", metavar="FEAT_DIR", help="folder of the features")
    parser.add_argument("--splits", nargs="+", default=["train", "valid"], help="to label; learns on the first")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--clusters", type=int, help="learn so many; HuBERT Base: 100 on MFCC, 500 on its own layers")
    what.add_argument("--known", action="store_true", help="learn none: label with the centres in DATA")
    what.add_argument("--join", action="store_true", help="only join the labels that features.py --kmeans wrote")
    parser.add_argument("--dest", default=".", metavar="DATA", help="folder of the labels (default: this one)")
    parser.add_argument("--label", default=DEFAULT, metavar="NAME", help="name of the label set (default km)")
    parser.add_argument("--nshard", type=int, default=1, help="shards of the features (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the clustering (default 0)")
    parser.add_argument("--percent", type=float, default=-1, help="share to learn on, 0 to 1 (default -1: all)")
    parser.add_argument("--memory", type=float, default=16.0, metavar="GB", help="that learning may hold (16)")
    parser.add_argument("--threads", type=int, help="default: the cores of this process, 8 at most")
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    args = get_parser().parse_args(argv)
    try:
        if args.clusters is not None:
            need("sklearn", "manifests"), need("joblib", "manifests")
        if args.nshard < 1:
            raise ValueError(f"--nshard {args.nshard}: expected 1 or more")
        files = LabelFiles(args.dest, args.label)
        files.check()
        if args.join:
            files.write(args.feat_dir, args.splits, args.nshard, len(read_centres(files.centres)))
        else:
            learning = Learning(args.clusters, args.seed, args.percent, args.memory, args.threads)
            label(args.feat_dir, args.splits, files, args.nshard, None if args.known else learning)
    except (ValueError, OSError) as error:
        tell(error)
        return 1
    print(f"{args.dest}: labels of {', '.join(args.splits)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
