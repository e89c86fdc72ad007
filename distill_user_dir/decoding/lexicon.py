"""The lexicon of a beam search: `WORD UNIT UNIT ...` lines, every unit of which the model has to have."""

import os
from typing import List, Set

from distill_user_dir.files import utf8_lines
from distill_user_dir.messages import quoted


def read_units(dict_path: str) -> List[str]:
    """The symbols of a fairseq dictionary (`symbol count` lines) in its order; ValueError where it has none."""
    if not os.path.isfile(dict_path):
        raise ValueError(f"{dict_path}: no such dictionary; correct task.data or the units")
    with utf8_lines(dict_path) as lines:
        units = [line.rstrip("\n").rsplit(" ", 1)[0] for line in lines if line.strip()]
    if not units:
        raise ValueError(f"{dict_path}: an empty dictionary")
    return units


def check_lexicon(path: str, dict_path: str) -> int:
    """The number of spellings; ValueError with file and line for the first that is none in these units."""
    units: Set[str] = set(read_units(dict_path))
    count = 0
    with utf8_lines(path) as lines:
        for number, line in enumerate(lines, start=1):
            items = line.split()
            if len(items) == 1:
                raise ValueError(f"{path}:{number}: {quoted(items[0])} has no spelling; expected `WORD UNIT UNIT ...`")
            foreign = sorted(set(items[1:]) - units)
            if foreign:
                told = f"{quoted(items[0])} is spelled with {quoted(' '.join(foreign[:5]))}"
                raise ValueError(
                    f"{path}:{number}: {told}, which {dict_path} lacks; "
                    "make the lexicon for these units with manifests/lexicon.py"
                )
            count += 1 if items else 0
    if count == 0:
        raise ValueError(f"{path}: an empty lexicon")
    return count
