"""Lists the audio of a folder as fairseq reads it: `{split}.tsv`, the folder and then a line `PATH<TAB>SAMPLES` each.

    python manifests/tsv.py AUDIO --dest DATA --name test
    python manifests/tsv.py AUDIO --dest DATA --valid-percent 0.01       # train.tsv and valid.tsv
    python manifests/tsv.py AUDIO --dest DATA --ext flac wav --skip-bad

Every file's header is checked: 16 kHz, one channel, at least 400 samples (one frame). A file that fails is named and
nothing is written, unless --skip-bad leaves it out.
"""

import argparse
import os
import random
import sys
from typing import Dict, List, Optional, Sequence

from distill_user_dir.data.audio import SAMPLE_RATE, scan
from distill_user_dir.files import write_lines
from distill_user_dir.messages import tell

MIN_SAMPLES = 400  # the receptive field of one frame


def find(root: str, exts: Sequence[str]) -> List[str]:
    """Paths of the files below `root` with one of the extensions, sorted; as in a shell, hidden ones are left out.

    Links to folders are followed. Folders and files are listed once, however many ways lead to them. What cannot be
    read is told on stderr.
    """

    def warn(error: OSError) -> None:
        tell(f"warning: {error.filename}: left out, it cannot be read ({error.strerror})")

    ends, found = tuple(f".{ext.lstrip('.')}" for ext in exts), {}
    seen = {os.path.realpath(root)}
    for folder, folders, names in os.walk(root, followlinks=True, onerror=warn):
        folders.sort(key=lambda name: (os.path.islink(os.path.join(folder, name)), name))  # noqa: B023
        inside = {name: os.path.realpath(os.path.join(folder, name)) for name in folders if not name.startswith(".")}
        folders[:] = [name for name in inside if not (inside[name] in seen or seen.add(inside[name]))]
        for name in sorted(names):
            path = os.path.join(folder, name)
            if name.endswith(ends) and not name.startswith("."):
                found.setdefault(os.path.realpath(path), path)
    return sorted(found.values())


def fits_manifest(name: str) -> bool:
    """Whether a name is one field of one line for everybody: fairseq ends lines at a carriage return too."""
    return name == name.strip() and not set(name) & set("\t\n\r\0") and is_text(name)


def is_text(name: str) -> bool:
    """Whether it can be written as UTF-8."""
    try:
        return bool(name.encode("utf-8"))
    except UnicodeEncodeError:
        return False


def split(lines: Sequence[str], name: str, valid_percent: float, seed: int) -> Dict[str, List[str]]:
    """Draws the lines of `valid` as fairseq does: one number for each line, in their order."""
    if valid_percent == 0:
        return {name: list(lines)}
    rng = random.Random(seed)
    splits: Dict[str, List[str]] = {name: [], "valid": []}
    for line in lines:
        splits[name if rng.random() > valid_percent else "valid"].append(line)
    empty = [key for key, of_split in splits.items() if not of_split]
    if empty:
        raise ValueError(f"nothing in {empty[0]} out of {len(lines)} files; change --valid-percent or --seed")
    return splits


def make_manifest(
    root: str,
    dest: str,
    name: str = "train",
    exts: Sequence[str] = ("flac", "wav"),
    valid_percent: float = 0.0,
    seed: int = 42,
    skip_bad: bool = False,
    progress: bool = True,
) -> Dict[str, int]:
    """Writes `{name}.tsv`, and `valid.tsv` with a share `valid_percent` of the files -> the files in each.

    ValueError, a line a file, if there are none or some are refused; with `skip_bad` these are told on stderr.
    """
    if not 0 <= valid_percent < 1 or (valid_percent > 0 and name == "valid"):
        raise ValueError(f"--valid-percent {valid_percent} of {name!r}: a share of 0 to 1 taken from another split")
    root = os.path.realpath(root)
    if not fits_manifest(root):
        raise ValueError(f"{root!r}: a line break or an outer space in this folder's name; rename it")
    paths = find(root, exts)
    if not paths:
        raise ValueError(f"{root}: no files *.{{{','.join(exts)}}}; name another folder, or --ext")
    names = [os.path.relpath(os.path.realpath(path), root) for path in paths]  # links resolved, as fairseq does
    kept = [i for i, name in enumerate(names) if fits_manifest(name)]
    lengths, errors = scan([paths[i] for i in kept], SAMPLE_RATE, MIN_SAMPLES, progress=progress)
    unfit = [path for path, name in zip(paths, names) if not fits_manifest(name)]
    errors += [f"{path!r}: a tab, a line break, an outer space or no UTF-8 in its name; rename it" for path in unfit]
    lines = [f"{names[i]}\t{length}" for i, length in zip(kept, lengths) if length]
    told = "\n".join([*errors, f"{len(errors)} of {len(paths)} files"])
    if errors and not skip_bad:
        raise ValueError(f"{told} refused; --skip-bad leaves them out")
    if errors:
        tell(f"{told} left out")
    if not lines:
        raise ValueError(f"{root}: no file of {len(paths)} can be used")
    splits = split(lines, name, valid_percent, seed)
    os.makedirs(dest, exist_ok=True)
    for key, of_split in splits.items():
        write_lines(os.path.join(dest, f"{key}.tsv"), [root, *of_split])
    return {key: len(of_split) for key, of_split in splits.items()}


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", metavar="AUDIO", help="folder with the audio, at any depth")
    parser.add_argument("--dest", default=".", metavar="DIR", help="folder of the manifests (default: this one)")
    parser.add_argument("--name", default="train", help="split to write (default train)")
    parser.add_argument("--ext", nargs="+", default=["flac", "wav"], help="extensions to look for (default flac wav)")
    parser.add_argument(
        "--valid-percent",
        type=float,
        default=0.0,
        metavar="P",
        help="share of valid.tsv, from 0 to 1 (default 0: none)",
    )
    parser.add_argument("--seed", type=int, default=42, help="of the draw of valid.tsv (default 42, as fairseq's)")
    parser.add_argument("--skip-bad", action="store_true", help="leave files out that fail the check, and name them")
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    args = get_parser().parse_args(argv)
    try:
        counts = make_manifest(args.root, args.dest, args.name, args.ext, args.valid_percent, args.seed, args.skip_bad)
    except (ValueError, OSError) as error:
        tell(error)
        return 1
    for name, count in counts.items():
        print(f"{os.path.join(args.dest, name)}.tsv: {count} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
