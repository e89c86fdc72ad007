"""Looks at a data folder before a run: everything that could stop it, or spoil its result, in one pass.

    python manifests/check.py DATA                                  # every {split}.tsv in it
    python manifests/check.py DATA --splits train valid --label-rate 50 --plot lengths.png

Errors, and exit status 1: audio that is missing, not readable, cut, not finite, of another rate, channels or length
than the manifest says; labels that are not one line an utterance, not in their dictionary, or do not fit the frames
(k-means labels one a frame; letters no more than CTC can place); an utterance of test*, dev* or valid* that another
split has too, whatever its name (the samples are compared). Warnings: silence, clipping, an utterance twice in a split.
Every file is decoded; --workers says how many at a time.
"""

import argparse
import glob
import os
import sys
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from distill_user_dir.data.audio import SAMPLE_RATE
from distill_user_dir.data.frame_labels import check_frame_labels, expected_labels
from distill_user_dir.data.manifest import Manifest, check_labels, read_dictionary, read_manifest
from distill_user_dir.files import utf8_lines
from distill_user_dir.machine import need
from distill_user_dir.messages import quoted, tell
from manifests.check_audio import Findings, Heard, hear_all, of_audio

FRAME_RATE = 50  # of HuBERT and its students
HELD_OUT = ("test", "dev", "valid")


def shared(manifests: Sequence[Manifest], heard: Sequence[Sequence[Heard]]) -> List[str]:
    """A line for each utterance of a held-out split that is in a split of another kind too."""
    places: Dict[bytes, Tuple[str, int]] = {}
    errors = []
    by_split = sorted(zip(manifests, heard), key=lambda pair: is_held_out(pair[0]))
    for manifest, of_split in by_split:
        for number, one in enumerate(of_split, 2):
            there = places.get(one.digest)
            if not one.digest or one.error:
                continue
            if is_held_out(manifest) and there is not None:
                name = manifest.names[number - 2]
                errors.append(f"{manifest.path}:{number}: {name} is {there[0]}:{there[1]} too; take one out")
            elif not is_held_out(manifest):
                places.setdefault(one.digest, (manifest.path, number))
    return errors


def is_held_out(manifest: Manifest) -> bool:
    return os.path.basename(manifest.path).startswith(HELD_OUT)


def least_frames(units: Sequence[str]) -> int:
    """What CTC needs: a frame for each unit, and a blank between two that are the same."""
    return len(units) + sum(one == other for one, other in zip(units, units[1:]))


def sequence_errors(manifest: Manifest, path: str, dictionary: Any, sample_rate: int) -> List[str]:
    """A line for each utterance whose units are none, not in the dictionary, or more than its frames can hold."""
    known, errors = set(dictionary.symbols[dictionary.nspecial :]), []
    with utf8_lines(path) as lines:
        for number, (name, size, line) in enumerate(zip(manifest.names, manifest.sizes, lines), 1):
            units = line.split()
            frames, unknown = expected_labels(size, sample_rate, FRAME_RATE), sorted(set(units) - known)
            if not units:
                errors.append(f"{path}:{number}: {name} has an empty transcript")
            elif unknown:
                errors.append(f"{path}:{number}: {name} has {quoted(' '.join(unknown), 40)}, not in its dictionary")
            elif least_frames(units) > frames:
                errors.append(
                    f"{path}:{number}: {name} has {len(units)} units, for which CTC needs {least_frames(units)} "
                    f"frames, and its {size} samples are {frames}"
                )
    return errors


def of_labels(manifest: Manifest, sample_rate: int, label_rate: Optional[float]) -> List[str]:
    """What is wrong with the label files beside a manifest, of every dictionary that lies there."""
    stem, errors = os.path.splitext(manifest.path)[0], []
    for dict_path in sorted(glob.glob(os.path.join(glob.escape(os.path.dirname(stem) or "."), "dict.*.txt"))):
        path = f"{stem}.{os.path.basename(dict_path)[len('dict.') : -len('.txt')]}"
        if not os.path.exists(path):
            continue
        try:
            dictionary = read_dictionary(dict_path)
            check_labels(manifest, path)
            if path.endswith((".ltr", ".spm")):
                errors += sequence_errors(manifest, path, dictionary, sample_rate)
            else:
                rate = label_rate or likely_rate(manifest, path, sample_rate)
                check_frame_labels(manifest, path, dictionary, sample_rate, rate)
        except (ValueError, OSError) as error:
            errors.append(str(error))
    return errors


def likely_rate(manifest: Manifest, path: str, sample_rate: int) -> float:
    """50 or 100 labels a second, whichever is nearer."""
    with utf8_lines(path) as lines:
        labels = sum(len(line.split()) for line in lines)
    rate = labels / max(1, sum(manifest.sizes)) * sample_rate
    return 100.0 if rate > 75 else 50.0


def table(manifests: Sequence[Manifest], findings: Sequence[Findings], sample_rate: int) -> str:
    rows = [("split", "utterances", "hours", "shortest", "median", "longest (s)", "errors", "warnings")]
    for manifest, found in zip(manifests, findings):
        seconds = np.array(manifest.sizes) / sample_rate
        spread = [f"{value:.2f}" for value in (seconds.min(), np.median(seconds), seconds.max())]
        counts = (str(len(found.errors)), str(len(found.warnings)))
        name = os.path.basename(manifest.path)[: -len(".tsv")]
        rows.append((name, str(len(seconds)), f"{seconds.sum() / 3600:.2f}", *spread, *counts))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows)


def plot(manifests: Sequence[Manifest], path: str, sample_rate: int) -> None:
    """Histograms of the lengths, one below the other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 1 + 1.6 * len(manifests)), layout="constrained")
    longest = max(max(manifest.sizes) for manifest in manifests) / sample_rate
    for axis, manifest in zip(figure.subplots(len(manifests), sharex=True, squeeze=False)[:, 0], manifests):
        axis.hist(np.array(manifest.sizes) / sample_rate, bins=50, range=(0, longest), color="tab:blue")
        axis.set_title(os.path.basename(manifest.path), loc="left", fontsize="medium")
        axis.set_ylabel("utterances")
    axis.set_xlabel("seconds")
    figure.savefig(path, dpi=120, format="png")


def check(
    data: str,
    splits: Optional[Sequence[str]] = None,
    sample_rate: int = SAMPLE_RATE,
    label_rate: Optional[float] = None,
    workers: int = 8,
    progress: bool = True,
) -> Tuple[List[Manifest], List[Findings], List[str]]:
    """The manifests that can be read, what was found in each, and the errors that belong to none of them alone."""
    paths = sorted(glob.glob(os.path.join(glob.escape(data), "*.tsv")))
    paths = [os.path.join(data, f"{split}.tsv") for split in splits] if splits else paths
    if not paths:
        raise ValueError(f"{data}: no {{split}}.tsv in it; make them with manifests/corpus.py or manifests/tsv.py")
    manifests, errors = [], []
    for path in paths:
        try:
            manifests.append(read_manifest(path))
        except ValueError as error:
            errors.append(str(error))
    heard = hear_all(manifests, sample_rate, workers, progress)
    findings = [of_audio(manifest, of_split) for manifest, of_split in zip(manifests, heard)]
    for manifest, found in zip(manifests, findings):
        found.errors.extend(of_labels(manifest, sample_rate, label_rate))
    return manifests, findings, errors + shared(manifests, heard)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="folder of the manifests, labels and dictionaries")
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="default: every .tsv that is there")
    parser.add_argument("--sample-rate", type=int, default=SAMPLE_RATE, metavar="HZ", help="expected (16000)")
    parser.add_argument("--label-rate", type=float, help="k-means labels a second (default: 50 or 100, as they are)")
    parser.add_argument("--plot", metavar="PNG", help="histograms of the lengths (default: DATA/lengths.png)")
    parser.add_argument("--workers", type=int, default=8, help="threads that read audio (8)")
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    args = get_parser().parse_args(argv)
    try:
        need("matplotlib", "manifests")  # before everything is read
        for option, value in (("--sample-rate", args.sample_rate), ("--workers", args.workers)):
            if value < 1:
                raise ValueError(f"{option} {value}: expected 1 or more")
        if args.label_rate is not None and not 0 < args.label_rate <= args.sample_rate:
            raise ValueError(f"--label-rate {args.label_rate:g}: expected labels a second, 50 or 100")
        manifests, findings, errors = check(args.data, args.splits, args.sample_rate, args.label_rate, args.workers)
        for line in [line for found in findings for line in found.warnings]:
            tell(f"warning: {line}")
        for line in [*(line for found in findings for line in found.errors), *errors]:
            tell(f"error: {line}")
        if manifests:
            print(table(manifests, findings, args.sample_rate))
            plot(manifests, args.plot or os.path.join(args.data, "lengths.png"), args.sample_rate)
    except (ValueError, OSError) as error:
        tell(error)
        return 1
    total = sum(len(found.errors) for found in findings) + len(errors)
    print(f"{total} errors, {sum(len(found.warnings) for found in findings)} warnings")
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
