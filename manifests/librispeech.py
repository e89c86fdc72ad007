"""LibriSpeech and Libri-light's small splits as fairseq reads them: {split}.tsv, .ltr, .wrd and dict.ltr.txt.

    python manifests/librispeech.py LibriSpeech --dest DATA                      # every split that is there
    python manifests/librispeech.py LibriSpeech --dest DATA --splits train-clean-100 dev-other test-other
    python manifests/librispeech.py LibriSpeech --dest DATA --splits train-clean-100 train-clean-360 train-other-500 \\
        --join train_960
    python manifests/librispeech.py LibriSpeech --dest DATA --splits dev-other --limited librispeech_finetuning

--join writes the training splits, one after another, as one more. --limited takes Libri-light's folder and writes
train_10m, train_1h and train_10h. Every file's header is read, every transcript has to have its audio and the other way
round; --decode reads all audio from end to end and finds files that are cut. Whatever is wrong is named, and then
nothing is written, unless --skip-bad leaves it out.
"""

import argparse
import os
import sys
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from distill_user_dir.files import write_lines
from distill_user_dir.messages import tell
from manifests import items
from manifests.letters import read_files
from manifests.tsv import find

# utterances of each split, as LibriSpeech is published
UTTERANCES = {
    "train-clean-100": 28539,
    "train-clean-360": 104014,
    "train-other-500": 148688,
    "dev-clean": 2703,
    "dev-other": 2864,
    "test-clean": 2620,
    "test-other": 2939,
}


class Split(NamedTuple):
    """name: of the files written; root: of the paths in the manifest; folders: below it, read in this order; spare:
    transcripts may have no audio, as those of whole chapters beside a few of their utterances."""

    name: str
    root: str
    folders: List[str]
    spare: bool = False


def splits_of(root: str, names: Optional[Sequence[str]]) -> List[Split]:
    """The named splits, or all that are there; ValueError where one is missing."""
    there = [name for name in UTTERANCES if os.path.isdir(os.path.join(root, name))]
    for name in names or []:
        if not os.path.isdir(os.path.join(root, name)):
            raise ValueError(f"{root}: no folder {name}; it has {', '.join(there) or 'none of LibriSpeech'}")
    if not (names or there):
        raise ValueError(f"{root}: none of {', '.join(UTTERANCES)}; give the folder that holds them")
    return [Split(name, root, [name]) for name in names or there]


def limited(root: str, fold: int) -> List[Split]:
    """Libri-light's 10 minutes (the given one of its six), 1 hour and 10 hours; ValueError where a part is missing."""
    minutes = [f"1h/{i}" for i in range(6)]
    for folder in [*minutes, "9h"]:
        if not os.path.isdir(os.path.join(root, folder)):
            raise ValueError(f"{root}: no folder {folder}; expected Libri-light's 1h/0 to 1h/5 and 9h")
    return [
        Split("train_10m", root, [f"1h/{fold}"], spare=True),
        Split("train_1h", root, minutes, spare=True),
        Split("train_10h", root, [*minutes, "9h"], spare=True),
    ]


def read_folder(folder: str, spare: bool) -> Tuple[List[items.Item], List[str]]:
    """The audio below a folder with its *.trans.txt -> items in the order of their paths, and what is wrong."""
    errors: List[str] = []
    transcripts = read_files(find(folder, ["trans.txt"]), errors)
    paths = find(folder, ["flac"])
    if spare:
        heard = {items.stem(path) for path in paths}
        transcripts = {key: transcript for key, transcript in transcripts.items() if key in heard}
    found, alone = items.pair(paths, transcripts, os.path.join(folder, "**", "*.trans.txt"))
    return found, errors + alone


def joined(parts: Sequence[items.Checked]) -> items.Checked:
    """One after another."""
    whole = items.Checked([], [], [])
    for part in parts:
        for everything, more in zip(whole, part):
            everything.extend(more)
    return whole


def read_all(splits: Sequence[Split], options: items.Options) -> Dict[str, items.Checked]:
    """The utterances of each split that can be used; ValueError with all that cannot, unless options.skip_bad."""
    folders: Dict[str, items.Checked] = {}  # one of Libri-light is in several splits
    found, total = {}, 0
    for split in splits:
        paths = [os.path.join(split.root, folder) for folder in split.folders]
        for path in paths:
            if path not in folders:
                listed, alone = read_folder(path, split.spare)
                checked = items.check(listed, items.Text(), options)
                folders[path] = checked._replace(errors=alone + checked.errors)
                total += len(listed) + len(alone)
        found[split.name] = joined([folders[path] for path in paths])
    items.settle([error for part in folders.values() for error in part.errors], total, options.skip_bad)
    return found


def prepare(splits: Sequence[Split], dest: str, options: items.Options, join: Optional[str] = None) -> List[str]:
    """Writes the splits, and LibriSpeech's training ones as `join` too; returns a line about each.

    ValueError with all that is wrong, before anything is written, unless options.skip_bad.
    """
    found = read_all(splits, options)
    roots = {split.name: split.root for split in splits}
    parts = [split.name for split in splits if split.name in UTTERANCES and split.name.startswith("train")]
    if join and not parts:
        raise ValueError(f"--join {join}: no training split among {', '.join(found)}")
    if join:
        found[join], roots[join] = joined([found[name] for name in parts]), roots[parts[0]]
    training = [name for name in found if name.startswith("train")] or list(found)
    path, symbols = items.symbols_for(
        dest, options.dict_path, [item for name in training for item in found[name].items]
    )
    for name, part in found.items():
        found[name] = items.known_letters(part, path, symbols, options.skip_bad)
        if not found[name].items:
            raise ValueError(f"{roots[name]}: {name} has no utterance that can be used")
    told = []
    for name, part in found.items():
        items.write(part.items, part.sizes, roots[name], dest, name)
        published = UTTERANCES.get(name, len(part.items))
        missing = "" if published == len(part.items) else f" (LibriSpeech has {published} utterances)"
        told.append(items.describe(name, part.items, part.sizes) + missing)
    write_lines(os.path.join(dest, "dict.ltr.txt"), symbols)
    return told


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", metavar="LIBRISPEECH", help="folder of train-clean-100 and the others")
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="default: every one that is there")
    parser.add_argument("--join", metavar="NAME", help="one more split of all training splits, e.g. train_960")
    parser.add_argument("--limited", metavar="DIR", help="Libri-light's librispeech_finetuning, to be written too")
    parser.add_argument(
        "--fold", type=int, default=0, choices=range(6), help="which 10 minutes of Libri-light's hour (0)"
    )
    items.Options.add_to(parser)
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    args = get_parser().parse_args(argv)
    try:
        splits = splits_of(os.path.abspath(args.root), args.splits)
        splits += limited(os.path.abspath(args.limited), args.fold) if args.limited else []
        told = prepare(splits, args.dest, items.Options.of(args), args.join)
    except (ValueError, OSError) as error:
        tell(error)
        return 1
    print("\n".join(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
