"""A random part of a split, with its labels: a smaller label budget.

    python manifests/subset.py DATA train labelled --utterances 150
    python manifests/subset.py DATA train train_tenth --share 0.1 --seed 2

Takes the lines of DATA/{split}.tsv and of every label file beside it ({split}.ltr, .wrd, .km ...) and writes them, in
the same order, as the new split. The same seed draws the same utterances, and a larger part holds a smaller one.
"""

import argparse
import glob
import os
import random
import sys
from typing import List, Optional

from distill_user_dir.data.manifest import check_labels, read_manifest
from distill_user_dir.files import utf8_lines, write_lines
from distill_user_dir.messages import tell


def subset(data: str, split: str, name: str, utterances: int, seed: int = 1) -> List[str]:
    """Writes `{name}.tsv` and label files for so many utterances of `{split}`; returns the paths written.

    ValueError where there are too few utterances, or where a label file does not fit the manifest.
    """
    manifest = read_manifest(f"{data}/{split}.tsv")
    if not 0 < utterances <= len(manifest.names):
        raise ValueError(f"{manifest.path} has {len(manifest.names)} utterances; {utterances} of them cannot be taken")
    if name == split:
        raise ValueError(f"{name}: the new split needs another name")
    order = list(range(len(manifest.names)))
    random.Random(seed).shuffle(order)
    chosen = sorted(order[:utterances])
    written = []
    for path in sorted(glob.glob(f"{glob.escape(data)}/{glob.escape(split)}.*")):
        extension = path[len(f"{data}/{split}.") :]
        if extension.endswith(".tmp"):  # another command's, which is still being written
            continue
        if extension != "tsv":
            check_labels(manifest, path)
        with utf8_lines(path) as file:
            lines = [line.rstrip("\n") for line in file]
        header = lines[:1] if extension == "tsv" else []
        body = lines[len(header) :]
        written.append(f"{data}/{name}.{extension}")
        write_lines(written[-1], header + [body[i] for i in chosen])
    return written


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="folder of the manifests")
    parser.add_argument("split", metavar="SPLIT", help="to take from")
    parser.add_argument("name", metavar="NAME", help="of the new split")
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--utterances", type=int, metavar="N", help="how many")
    size.add_argument("--share", type=float, metavar="P", help="how many, as a share from 0 to 1")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (1)")
    args = parser.parse_args(argv)
    try:
        data = os.path.normpath(args.data)
        total = len(read_manifest(f"{data}/{args.split}.tsv").names)
        if args.share is not None and not 0 < args.share <= 1:
            raise ValueError(f"--share {args.share:g}: expected a share above 0, and 1 at most")
        count = args.utterances if args.share is None else round(args.share * total)
        written = subset(data, args.split, args.name, count, args.seed)
    except (ValueError, OSError) as error:
        tell(error)
        return 1
    print(f"{count} of {total} utterances: {', '.join(written)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
