"""Utterances of a transcribed corpus: audio and words paired, checked, and written as fairseq reads them.

What corpus.py and librispeech.py have in common: {name}.tsv, {name}.ltr, {name}.wrd and dict.ltr.txt.
"""

import argparse
import os
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from distill_user_dir.data.audio import SAMPLE_RATE, scan
from distill_user_dir.files import write_lines
from distill_user_dir.messages import is_plain, quoted, tell
from manifests.letters import WORD_END, Transcript, dictionary, letters, read_lines, unknown_letters
from manifests.tsv import MIN_SAMPLES, fits_manifest


class Options(NamedTuple):
    """dict_path: a dictionary to keep to; whole: decode all audio; workers: threads that read it."""

    dict_path: Optional[str] = None
    skip_bad: bool = False
    whole: bool = False
    workers: int = 8
    progress: bool = True

    @staticmethod
    def add_to(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--dest", default=".", metavar="DATA", help="folder of the manifests (default: this one)")
        parser.add_argument("--dict", metavar="FILE", help="dictionary to keep to (default: DATA's, or a new one)")
        parser.add_argument("--decode", action="store_true", help="decode all audio, to find files that are cut")
        parser.add_argument("--skip-bad", action="store_true", help="leave out what is wrong, name and count it")
        parser.add_argument("--workers", type=int, default=8, help="threads that read audio (8)")

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Options":
        return cls(args.dict, args.skip_bad, args.decode, args.workers)


class Item(NamedTuple):
    """An utterance: the path of its audio, absolute; its words; and where they stand, `FILE:LINE`."""

    path: str
    words: str
    place: str


class Text(NamedTuple):
    """What is done to transcripts: upper-casing, characters that are taken out, and those that may be left."""

    upper: bool = False
    remove: str = ""
    characters: str = ""

    def of(self, item: Item) -> Tuple[Item, Optional[str]]:
        """The item with its words changed, and what is wrong with them."""
        words = item.words.upper() if self.upper else item.words
        words = " ".join(words.translate({ord(character): None for character in self.remove}).split())
        foreign = sorted(set(words) - set(self.characters) - {" "}) if self.characters else []
        error = None
        if not words:
            error = f"{item.place}: the transcript of {os.path.basename(item.path)} is empty; add it, or leave it out"
        elif not is_plain(words):
            error = f"{item.place}: control characters in the transcript, {quoted(words)}; take them out"
        elif WORD_END in words:
            error = f"{item.place}: '{WORD_END}' stands for a space; take it out (--remove '{WORD_END}')"
        elif foreign:
            error = f"{item.place}: {' '.join(foreign)} not among --characters; add them, or --remove them"
        return item._replace(words=words), error


def stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def pair(paths: Iterable[str], transcripts: Dict[str, Transcript], source: str) -> Tuple[List[Item], List[str]]:
    """Audio and the transcripts of their IDs (names without extension) -> items, and a line for all that is alone."""
    items, errors, used = [], [], {}
    for path in paths:
        key = stem(path)
        if key in used:
            errors.append(f"{path}: has the ID {key} of {used[key]} too; rename one")
        elif key not in transcripts:
            errors.append(f"{path}: no transcript {key} in {source}; add it, or take the audio out")
        else:
            items.append(Item(path, transcripts[key].words, transcripts[key].place))
        used.setdefault(key, path)
    for key, transcript in transcripts.items():
        if key not in used:
            errors.append(f"{transcript.place}: {key} has no audio; restore it, or take the line out")
    return items, errors


class Checked(NamedTuple):
    """Items that can be used, their samples, and a line for each that cannot."""

    items: List[Item]
    sizes: List[int]
    errors: List[str]


def check(items: Sequence[Item], text: Text, options: Options) -> Checked:
    """Looks at words and audio of every item, the audio in parallel."""
    errors, spoken = [], []
    for item in items:
        changed, error = text.of(item)
        if error is None and not all(fits_manifest(part) for part in (item.path, *item.path.split(os.sep)[1:])):
            error = f"{item.path!r}: a tab, a line break or an outer space in a name on its path; rename it"
        errors += [] if error is None else [error]
        spoken += [changed] if error is None else []
    lengths, refused = scan(
        [item.path for item in spoken], SAMPLE_RATE, MIN_SAMPLES, options.workers, options.progress, options.whole
    )
    kept = [(item, length) for item, length in zip(spoken, lengths) if length]
    return Checked([item for item, _ in kept], [length for _, length in kept], errors + refused)


def settle(errors: Sequence[str], total: int, skip_bad: bool) -> None:
    """Tells what is wrong on stderr; ValueError unless `skip_bad` leaves it out."""
    if not errors:
        return
    told = "\n".join([*errors, f"{len(errors)} errors in {total} utterances"])
    if not skip_bad:
        raise ValueError(f"{told}, nothing written; --skip-bad leaves them out")
    tell(f"{told}, left out")


def symbols_for(dest: str, dict_path: Optional[str], training: Sequence[Item]) -> Tuple[str, List[str]]:
    """The dictionary that is to be used, and its lines: `dict_path`, or the one in `dest`, or a new one.

    ValueError where `dest` has another one: a model's outputs follow the lines of its dictionary.
    """
    own = os.path.join(dest, "dict.ltr.txt")
    known = read_lines(own) if os.path.exists(own) else None
    given = read_lines(dict_path) if dict_path else None
    if known is not None and given is not None and known != given:
        raise ValueError(f"{own}: there, and not the same as {dict_path}; remove one, or take another --dest")
    lines = given or known or dictionary(training)
    return (dict_path or own), lines


def known_letters(found: Checked, path: str, lines: Sequence[str], skip_bad: bool) -> Checked:
    """Without the items that have letters outside the dictionary; ValueError unless `skip_bad` where there are any."""
    errors = unknown_letters(found.items, path, lines)
    settle(list(errors.values()), len(found.items), skip_bad)
    kept = [i for i in range(len(found.items)) if i not in errors]
    return found._replace(items=[found.items[i] for i in kept], sizes=[found.sizes[i] for i in kept])


def write(items: Sequence[Item], sizes: Sequence[int], root: str, dest: str, name: str) -> None:
    """{name}.tsv with paths below `root`, {name}.ltr and {name}.wrd."""
    os.makedirs(dest, exist_ok=True)
    stem_of = os.path.join(dest, name)
    names = [os.path.relpath(item.path, root) for item in items]
    write_lines(f"{stem_of}.ltr", [" ".join(letters(item.words)) for item in items])
    write_lines(f"{stem_of}.wrd", [item.words for item in items])
    write_lines(f"{stem_of}.tsv", [root, *(f"{path}\t{size}" for path, size in zip(names, sizes))])


def describe(name: str, items: Sequence[Item], sizes: Sequence[int]) -> str:
    words = sum(len(item.words.split()) for item in items)
    return f"{name}: {len(items)} utterances, {sum(sizes) / SAMPLE_RATE / 3600:.2f} h, {words} words"
