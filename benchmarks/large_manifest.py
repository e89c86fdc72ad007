"""A manifest of 300,000 utterances: time and memory of reading it, filtering it, and making its batches.

python benchmarks/large_manifest.py
"""

import argparse
import logging
import os
import random
import resource
import tempfile
import time

from distill_user_dir.data.manifest import check_kept, check_sizes, read_manifest
from distill_user_dir.tasks.hubert_distillation import HubertDistillationConfig, HubertDistillationTask


def write(folder: str, utterances: int) -> None:
    """As long as LibriSpeech's: 2 to 24 s. No audio: nothing here opens it."""
    rng = random.Random(1)
    with open(os.path.join(folder, "train.tsv"), "w", encoding="utf-8") as stream:
        stream.write(f"{folder}\n")
        for i in range(utterances):
            stream.write(f"train-other-500/{i % 2000}/{i % 97}/{i:09d}.flac\t{rng.randint(32000, 390000)}\n")


def peak() -> float:
    """Of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=300_000)
    args = parser.parse_args()
    logging.getLogger().setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        write(folder, args.utterances)
        rows, start, before = [], time.perf_counter(), peak()

        def lap(name: str) -> None:
            nonlocal start
            rows.append((name, time.perf_counter() - start, peak() - before))
            start = time.perf_counter()

        manifest = read_manifest(os.path.join(folder, "train.tsv"))
        check_kept(manifest, 8000, None)
        check_sizes(manifest, 400, 8000)
        lap("read and checked")
        config = HubertDistillationConfig(
            data=folder, check_audio=False, max_sample_size=250000, min_sample_size=8000, pad_audio=True, seed=1
        )
        config.train_subset = "train"
        task = HubertDistillationTask(config)
        task.load_dataset("train")
        lap("data set")
        batches = task.get_batch_iterator(task.dataset("train"), max_tokens=6_000_000, max_sentences=24, seed=1)
        lap("filtered, in batches")
        batches.next_epoch_itr(shuffle=True)
        lap("shuffled epoch")
    print(f"{args.utterances} utterances, {len(batches.frozen_batches)} batches; peak memory beside {before:.0f} MB")
    for name, seconds, memory in rows:
        print(f"{name:24}{seconds:8.2f} s{memory:8.0f} MB")


if __name__ == "__main__":
    main()
