"""Any transcribed corpus as fairseq reads it: {name}.tsv, {name}.ltr, {name}.wrd and dict.ltr.txt.

    python manifests/corpus.py AUDIO --dest DATA --name train                            # *.trans.txt beside the audio
    python manifests/corpus.py AUDIO --transcripts train.txt --dest DATA --name train    # `ID WORDS` lines
    python manifests/corpus.py train.csv --dest DATA --name train --upper --remove ".,?!"
    python manifests/corpus.py train.jsonl --columns audio_filepath text --dest DATA --name train --resample WAV

A CSV has a header, a JSON-lines file an object a line; their `path` and `text` (--columns) name the audio, below
--audio or the file's own folder, and its words. Audio has to be 16 kHz and one channel; --resample writes what is not,
as that, into a new folder. DATA/dict.ltr.txt is made by the first call; later ones, of other splits, keep to it.
Whatever is wrong is named with file and line, and then nothing is written, unless --skip-bad leaves it out.
"""

import argparse
import csv
import json
import os
import sys
from typing import Iterator, List, Optional, Sequence, Tuple

from distill_user_dir.files import utf8_lines, write_lines
from distill_user_dir.machine import need
from distill_user_dir.messages import quoted, reason, tell
from manifests import items
from manifests.letters import read_files
from manifests.resample import resample_all
from manifests.tsv import find


def csv_rows(path: str, columns: Sequence[str]) -> Iterator[Tuple[int, List[Optional[str]]]]:
    """Line number and the values of the columns; ValueError for a header that lacks one."""
    with utf8_lines(path, "utf-8-sig", newline="") as stream:
        rows = csv.reader(stream)
        header = next(rows, [])
        lacking = [column for column in columns if header.count(column) != 1]
        if lacking:
            there = quoted(", ".join(header)) if header else "nothing"
            raise ValueError(f"{path}:1: no column {', '.join(lacking)} but {there}; name them: --columns PATH TEXT")
        places = [header.index(column) for column in columns]
        for row in filter(None, rows):
            if any(row[len(header) :]):
                told = f"{len(row)} fields, and the first line names {len(header)}; put text with commas in quotes"
                raise ValueError(f"{path}:{rows.line_num}: {told}")
            found = [row[place] if place < len(row) else None for place in places]
            if any("\n" in value or "\r" in value for value in found if value):
                raise ValueError(f"{path}:{rows.line_num}: a field of several lines; is a quote left open?")
            yield rows.line_num, found


def json_rows(path: str, columns: Sequence[str]) -> Iterator[Tuple[int, List[Optional[str]]]]:
    """Line number and the values of the keys, None where one is missing; ValueError where a line is no JSON object."""
    with utf8_lines(path, "utf-8-sig") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}:{number}: no JSON ({reason(error)})") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path}:{number}: no JSON object with {' and '.join(columns)}")
            values = [row.get(column) for column in columns]
            yield number, [value if isinstance(value, str) else None for value in values]


def read_table(path: str, columns: Sequence[str], audio: Optional[str]) -> Tuple[List[items.Item], List[str]]:
    """A CSV or JSON-lines file -> its items in its order, and a line for each row that is wrong."""
    root = os.path.abspath(audio or os.path.dirname(path) or ".")
    found, errors, used = [], [], {}
    rows = csv_rows(path, columns) if path.endswith(".csv") else json_rows(path, columns)
    try:
        listed = list(rows)
    except csv.Error as error:
        raise ValueError(f"{path}: no CSV ({reason(error)}); save it again") from None
    for number, (name, text) in listed:
        place = f"{path}:{number}"
        if not name or text is None:
            errors.append(f"{place}: no {columns[0] if not name else columns[1]} in this row; add it, or take it out")
            continue
        full = os.path.normpath(os.path.join(root, name))
        if full in used:
            errors.append(f"{place}: {quoted(name, 200)} is at {used[full]} too; remove one")
            continue
        used[full] = place
        found.append(items.Item(full, " ".join(text.split()), place))
    return found, errors


def read_folder(folder: str, transcripts: Optional[str], exts: Sequence[str]) -> Tuple[List[items.Item], List[str]]:
    """A folder of audio, with one file of transcripts or with *.trans.txt in it -> items by path, and what is wrong."""
    errors: List[str] = []
    known = read_files([transcripts] if transcripts else find(folder, ["trans.txt"]), errors)
    paths = [os.path.abspath(path) for path in find(folder, exts)]
    if not paths:
        raise ValueError(f"{folder}: no files *.{{{','.join(exts)}}}; name another folder, or --ext")
    found, alone = items.pair(paths, known, transcripts or os.path.join(folder, "**", "*.trans.txt"))
    return found, errors + alone


def prepare(
    listed: Sequence[items.Item], wrong: Sequence[str], dest: str, name: str, text: items.Text, options: items.Options
) -> str:
    """Writes the split `name` of the items; `wrong`: what their reader refused. Returns a line about it.

    ValueError with all that is wrong, before a manifest is written, unless options.skip_bad.
    """
    total = len(listed) + len(wrong)
    found = items.check(listed, text, options)
    items.settle([*wrong, *found.errors], total, options.skip_bad)
    path, symbols = items.symbols_for(dest, options.dict_path, found.items)
    found = items.known_letters(found, path, symbols, options.skip_bad)
    if not found.items:
        raise ValueError(f"{name}: none of {total} utterances can be used")
    folders = {os.path.dirname(item.path) for item in found.items}
    items.write(found.items, found.sizes, os.path.commonpath(folders), dest, name)
    own = os.path.join(dest, "dict.ltr.txt")
    if not os.path.exists(own):  # calls for other splits may run beside this one, and all hold to the first one's
        write_lines(own, symbols)
    return items.describe(name, found.items, found.sizes)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "source", metavar="SOURCE", help="folder with audio, or .csv, .jsonl or .json (an object a line)"
    )
    parser.add_argument("--name", default="train", help="split to write (default train)")
    parser.add_argument(
        "--transcripts", metavar="FILE", help="of a folder: `ID WORDS` lines (default: its *.trans.txt)"
    )
    parser.add_argument("--ext", nargs="+", default=["flac", "wav"], help="of a folder: extensions (default flac wav)")
    parser.add_argument("--columns", nargs=2, default=["path", "text"], metavar=("PATH", "TEXT"), help="of a table")
    parser.add_argument("--audio", metavar="DIR", help="of a table: what its paths are below (default: its folder)")
    parser.add_argument("--upper", action="store_true", help="make the words upper-case")
    parser.add_argument("--remove", default="", metavar="CHARS", help="characters to take out of transcripts")
    parser.add_argument("--characters", default="", metavar="CHARS", help="the only ones allowed (default: any)")
    parser.add_argument("--resample", metavar="DIR", help="write audio of other rates or channels there, 16 kHz mono")
    items.Options.add_to(parser)
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    args = get_parser().parse_args(argv)
    text = items.Text(args.upper, args.remove, args.characters)
    try:
        if args.resample:
            need("scipy.signal", "manifests")
        if os.path.isdir(args.source):
            listed, wrong = read_folder(args.source, args.transcripts, args.ext)
        else:
            listed, wrong = read_table(args.source, args.columns, args.audio)
        if args.resample:
            listed, refused = resample_all(listed, args.resample, args.workers, progress=True)
            wrong = wrong + refused
        print(prepare(listed, wrong, args.dest, args.name, text, items.Options.of(args)))
    except (ValueError, OSError) as error:
        tell(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
