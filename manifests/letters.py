"""Transcripts of a manifest's audio as fairseq reads them: `{split}.ltr`, `{split}.wrd` and `dict.ltr.txt`.

    python manifests/letters.py DATA/train.tsv                                   # LibriSpeech's *.trans.txt
    python manifests/letters.py DATA/train.tsv --transcripts train.trans.txt     # one file, `ID WORDS` a line
    python manifests/letters.py DATA/valid.tsv --dict DATA/dict.ltr.txt          # no new dictionary

An audio file's ID is its name without the extension. Whatever is wrong with the transcripts is named with its file and
line, and then nothing is written.
"""

import argparse
import collections
import dataclasses
import glob
import os
import sys
from typing import Any, Dict, List, Optional, Sequence, Tuple

from distill_user_dir.data.manifest import read_manifest
from distill_user_dir.decoding.word_times import WORD_END
from distill_user_dir.files import utf8_lines, write_lines
from distill_user_dir.messages import quoted, tell

# wav2vec 2.0's dict.ltr.txt, which HuBERT's fine-tuned models have too
LIBRISPEECH = [
    f"{symbol} {count}"
    for symbol, count in zip(
        "|ETAOINHSRDLUMWCFGYPBVK'XJQZ",
        (94802, 51860, 38431, 33152, 31495, 28855, 28794, 27187, 26071, 23546, 18289, 16308, 12400, 10685, 10317, 9844)
        + (9062, 8924, 8226, 6890, 6339, 3936, 3456, 1023, 636, 598, 437, 213),
    )
]


@dataclasses.dataclass(frozen=True)
class Transcript:
    """The words, and where they stand: `FILE:LINE`."""

    words: str
    place: str


def read_transcripts(path: str, errors: List[str]) -> Dict[str, Transcript]:
    """`ID WORDS` lines -> the transcripts by ID; an ID that comes twice goes to `errors`."""
    transcripts: Dict[str, Transcript] = {}
    with utf8_lines(path) as stream:
        for number, line in enumerate(stream, start=1):
            items = line.split()
            if not items:
                continue
            transcript = Transcript(" ".join(items[1:]), f"{path}:{number}")
            if items[0] in transcripts:
                errors.append(f"{transcript.place}: {items[0]} is at {transcripts[items[0]].place} too; remove one")
            transcripts.setdefault(items[0], transcript)
    return transcripts


def read_files(paths: Sequence[str], errors: List[str]) -> Dict[str, Transcript]:
    """Several files of them -> the transcripts by ID; an ID that comes twice, in whichever files, goes to `errors`."""
    merged: Dict[str, Transcript] = {}
    for path in paths:
        for key, transcript in read_transcripts(path, errors).items():
            if key in merged:
                errors.append(f"{transcript.place}: {key} is at {merged[key].place} too; remove one")
            merged.setdefault(key, transcript)
    return merged


class _Transcripts:
    """The transcripts of one file, or of the `*.trans.txt` beside the audio, read once a folder."""

    def __init__(self, path: Optional[str], errors: List[str]) -> None:
        self.path = path
        self.errors = errors
        self.by_source: Dict[str, Dict[str, Transcript]] = {}

    def of(self, folder: str) -> Tuple[str, Dict[str, Transcript]]:
        """What the transcripts are looked for in, and those found."""
        source = os.path.join(folder, "*.trans.txt") if self.path is None else self.path
        if source not in self.by_source:
            files = sorted(glob.glob(os.path.join(glob.escape(folder), "*.trans.txt")))
            self.by_source[source] = read_files(files if self.path is None else [self.path], self.errors)
        return source, self.by_source[source]


def words_of(tsv: str, transcripts: Optional[str] = None, upper: bool = False) -> List[Transcript]:
    """The transcript of each line of the manifest, in its order; ValueError with a line for each that is wrong."""
    errors: List[str] = []
    sources = _Transcripts(transcripts, errors)
    manifest = read_manifest(tsv)
    result = []
    used: Dict[Tuple[str, str], str] = {}
    for number, name in enumerate(manifest.names, start=2):
        source, found = sources.of(os.path.join(manifest.root, os.path.dirname(name)))
        key = os.path.splitext(os.path.basename(name))[0]
        place = f"{tsv}:{number}"
        if key not in found:
            errors.append(f"{place}: {name} has no transcript {key} in {source}; add it, or take the audio out")
        elif (source, key) in used:
            errors.append(f"{place}: {name} has the ID {key} of {used[source, key]} too; rename one")
        elif not found[key].words:
            errors.append(f"{found[key].place}: the transcript of {key} is empty; add it, or take the audio out")
        elif WORD_END in found[key].words:
            errors.append(f"{found[key].place}: '{WORD_END}' in the transcript of {key} stands for a space; remove it")
        else:
            words = found[key].words.upper() if upper else found[key].words
            result.append(Transcript(words, found[key].place))
        used.setdefault((source, key), place)
    if errors:
        raise ValueError("\n".join([*errors, f"{len(errors)} errors, nothing written"]))
    return result


def letters(words: str) -> List[str]:
    """`THE END` -> T H E | E N D |"""
    return [*words.replace(" ", WORD_END), WORD_END]


def dictionary(transcripts: Sequence[Any]) -> List[str]:
    """`symbol count` lines for transcripts (or items).

    LibriSpeech's, so that a model has the outputs of public ones and other splits may have letters that this one lacks;
    or, where those are not enough, the letters that are there, the most frequent first, then by symbol, as fairseq's
    Dictionary saves them.
    """
    counts = collections.Counter(letter for transcript in transcripts for letter in letters(transcript.words))
    if counts.keys() <= {line.split(" ")[0] for line in LIBRISPEECH}:
        return list(LIBRISPEECH)
    return [f"{letter} {count}" for letter, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def read_lines(path: str) -> List[str]:
    with utf8_lines(path) as stream:
        return "".join(stream).rstrip("\n").split("\n")


def unknown_letters(transcripts: Sequence[Any], dict_path: str, lines: Sequence[str]) -> Dict[int, str]:
    """For each transcript (or item) that has a letter which the dictionary lacks, its index and a line about it."""
    known = {line.rsplit(" ", 1)[0] for line in lines}
    errors = {}
    for index, transcript in enumerate(transcripts):
        unknown = sorted(set(letters(transcript.words)) - known)
        if unknown:
            told = quoted(" ".join(unknown))
            errors[index] = f"{transcript.place}: {told} not in {dict_path}; --upper, or another dictionary"
    return errors


def write_labels(
    tsv: str,
    output_dir: str,
    output_name: str,
    transcripts: Optional[str] = None,
    dict_path: Optional[str] = None,
    upper: bool = False,
) -> int:
    """Writes the labels of a manifest -> their number; ValueError if anything is wrong, with nothing written."""
    found = words_of(tsv, transcripts, upper)
    own_dict = os.path.join(output_dir, "dict.ltr.txt")
    if dict_path is not None:
        symbols = read_lines(dict_path)
        errors = list(unknown_letters(found, dict_path, symbols).values())
        if errors:
            raise ValueError("\n".join([*errors, f"{len(errors)} errors, nothing written"]))
    else:
        symbols = dictionary(found)
        dict_path = own_dict
    if os.path.exists(own_dict) and read_lines(own_dict) != symbols:
        # a model's outputs follow the lines of its dictionary: another split must not change them unasked
        raise ValueError(f"{own_dict}: there with other symbols or counts; pass it as --dict, or remove it")
    os.makedirs(output_dir, exist_ok=True)
    write_lines(os.path.join(output_dir, f"{output_name}.ltr"), [" ".join(letters(item.words)) for item in found])
    write_lines(os.path.join(output_dir, f"{output_name}.wrd"), [item.words for item in found])
    if not os.path.exists(own_dict):
        write_lines(own_dict, symbols)
    return len(found)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tsv", metavar="TSV", help="manifest of the audio")
    parser.add_argument(
        "--transcripts", metavar="FILE", help="`ID WORDS` lines (default: *.trans.txt beside the audio)"
    )
    parser.add_argument("--output-dir", metavar="DIR", help="folder of the labels (default: the manifest's)")
    parser.add_argument("--output-name", metavar="SPLIT", help="name of the labels (default: the manifest's)")
    parser.add_argument("--dict", metavar="FILE", help="dictionary that must have all letters (default: a new one)")
    parser.add_argument("--upper", action="store_true", help="make the words upper-case")
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    args = get_parser().parse_args(argv)
    output_dir = args.output_dir or os.path.dirname(args.tsv) or "."
    output_name = args.output_name or os.path.splitext(os.path.basename(args.tsv))[0]
    try:
        count = write_labels(args.tsv, output_dir, output_name, args.transcripts, args.dict, args.upper)
    except (ValueError, OSError) as error:
        tell(error)
        return 1
    print(f"{os.path.join(output_dir, output_name)}.ltr, .wrd: {count} transcripts")
    return 0


if __name__ == "__main__":
    sys.exit(main())
