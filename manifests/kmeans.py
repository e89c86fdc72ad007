"""Clusters features with fairseq's simple_kmeans: DATA/{split}.km, a line of labels an utterance, and dict.km.txt.

    python manifests/kmeans.py FEAT_DIR --splits train valid --clusters 50 --dest DATA

FEAT_DIR is what manifests/features.py wrote, with the same --nshard for every split. The clusters are learned on the
first split; --percent 0.1 learns on a tenth of its utterances (all features are held in memory otherwise). The
clusters themselves are kept in DATA/kmeans.joblib.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from typing import List, Optional, Sequence

import fairseq

from distill_user_dir.audio import write_lines

SCRIPTS = os.path.join(os.path.dirname(fairseq.__file__), "examples", "hubert", "simple_kmeans")
THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def default_threads() -> int:
    """The cores this process may use, 8 at most: more does not make mini-batches of 10,000 frames any faster."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


def run_script(name: str, arguments: Sequence[str], threads: int) -> None:
    """Prints and runs one of fairseq's scripts; CalledProcessError if it fails."""
    command = [sys.executable, os.path.join(SCRIPTS, name), *arguments]
    print(" ".join(shlex.quote(part) for part in command), flush=True)
    environment = {**os.environ, **{limit: str(threads) for limit in THREAD_LIMITS}}
    subprocess.run(command, env=environment, check=True)


def read_lengths(feat_dir: str, split: str, nshard: int) -> List[List[int]]:
    """The frames of each utterance, for each shard; ValueError if a shard's files are not there."""
    shards = []
    for rank in range(nshard):
        stem = os.path.join(feat_dir, f"{split}_{rank}_{nshard}")
        for path in (f"{stem}.npy", f"{stem}.len"):
            if not os.path.exists(path):
                told = f"--nshard {nshard} --rank {rank}"
                raise ValueError(f"{path}: no such file; make it with manifests/features.py {told}")
        with open(f"{stem}.len", encoding="utf-8") as stream:
            shards.append([int(line) for line in stream])
    return shards


def join_labels(folder: str, split: str, shards: Sequence[Sequence[int]]) -> List[str]:
    """The label lines of all shards in order; ValueError where they are not one label a frame."""
    lines: List[str] = []
    for rank, lengths in enumerate(shards):
        path = os.path.join(folder, f"{split}_{rank}_{len(shards)}.km")
        with open(path, encoding="utf-8") as stream:
            of_shard = stream.read().splitlines()
        found = [len(line.split()) for line in of_shard]
        if found != list(lengths):
            counts = f"{len(found)} lines with {sum(found)} labels"
            wanted = f"{len(lengths)} utterances with {sum(lengths)} frames"
            raise ValueError(f"{path}: {counts} for {wanted}; make the features anew")
        lines.extend(of_shard)
    return lines


def label(
    feat_dir: str,
    splits: Sequence[str],
    clusters: int,
    dest: str,
    nshard: int = 1,
    seed: int = 0,
    percent: float = -1,
    threads: Optional[int] = None,
) -> None:
    """Learns `clusters` clusters on the first split and labels them all; writes `{split}.km` and `dict.km.txt`.

    percent: the share of the utterances to learn on, from 0 to 1, or -1 for all of them. ValueError where features
    are missing, CalledProcessError where a script of fairseq's fails.
    """
    lengths = {split: read_lengths(feat_dir, split, nshard) for split in splits}
    threads = threads or default_threads()
    os.makedirs(dest, exist_ok=True)
    model = os.path.join(dest, "kmeans.joblib")
    learning = [feat_dir, splits[0], str(nshard), model, str(clusters), "--seed", str(seed), "--percent", str(percent)]
    run_script("learn_kmeans.py", learning, threads)
    with tempfile.TemporaryDirectory(prefix="labels-", dir=dest) as folder:
        for split in splits:
            for rank in range(nshard):
                run_script("dump_km_label.py", [feat_dir, split, model, str(nshard), str(rank), folder], threads)
        joined = {split: join_labels(folder, split, lengths[split]) for split in splits}
    for split, lines in joined.items():
        write_lines(os.path.join(dest, f"{split}.km"), lines)
    write_lines(os.path.join(dest, "dict.km.txt"), [f"{cluster} 1" for cluster in range(clusters)])


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("feat_dir", metavar="FEAT_DIR", help="folder of the features")
    parser.add_argument("--splits", nargs="+", default=["train", "valid"], help="to label; learns on the first")
    parser.add_argument("--clusters", type=int, required=True, help="HuBERT Base: 100 on MFCC, 500 on its own layers")
    parser.add_argument("--dest", default=".", metavar="DATA", help="folder of the labels (default: this one)")
    parser.add_argument("--nshard", type=int, default=1, help="shards of the features (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the clustering (default 0)")
    parser.add_argument("--percent", type=float, default=-1, help="share to learn on, 0 to 1 (default -1: all)")
    parser.add_argument("--threads", type=int, help="default: the cores of this process, 8 at most")
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    args = get_parser().parse_args(argv)
    try:
        label(args.feat_dir, args.splits, args.clusters, args.dest, args.nshard, args.seed, args.percent, args.threads)
    except (ValueError, OSError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{args.dest}: labels of {', '.join(args.splits)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
