"""The lexicon of a beam search: how each word of a language model is spelled in a model's units.

    python manifests/lexicon.py DATA/dict.ltr.txt --dest DATA/lexicon.txt --arpa 4-gram.arpa
    python manifests/lexicon.py DATA/dict.ltr.txt --dest DATA/lexicon.txt --words DATA/train.wrd vocabulary.txt
    python manifests/lexicon.py DATA/dict.spm.txt --dest DATA/lexicon.txt --arpa lm.arpa --sentencepiece DATA/spm.model

A line a word: `CAT<TAB>C A T |`, or its pieces. Words come from the unigrams of an ARPA file or from texts, once each,
in the order of their letters. A word that the units cannot spell is named with its file and line, and then nothing is
written, unless --skip-bad leaves it out.
"""

import argparse
import re
import sys
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from distill_user_dir.decoding.lexicon import read_units
from distill_user_dir.files import utf8_lines, write_lines
from distill_user_dir.messages import quoted, tell
from manifests.letters import WORD_END, letters
from manifests.sentencepieces import read_processor

MOST_WORDS = 2_000_000
MARKERS = ("<s>", "</s>", "<unk>", "<UNK>")


def arpa_words(path: str) -> Iterator[Tuple[str, str]]:
    """The unigrams of an ARPA file, .gz or not, with their places; ValueError where it has none."""
    inside, promised, count = False, None, 0
    with utf8_lines(path) as lines:
        for number, line in enumerate(lines, start=1):
            if line.startswith("ngram 1=") and line.strip()[8:].isdecimal():
                promised = int(line.strip()[8:18])
            if line.startswith("\\"):
                if inside and count != promised:
                    raise ValueError(f"{path}:{number}: {count} unigrams, and its head says {promised}; fetch it again")
                if inside:
                    return
                inside = line.strip() == "\\1-grams:"
            elif inside and line.strip():
                count += 1
                fields = re.split(r"[ \t]+", line.strip())
                if len(fields) < 2:
                    raise ValueError(
                        f"{path}:{number}: no unigram (log-probability, word, back-off): {quoted(line.strip())}"
                    )
                if fields[1] not in MARKERS:
                    yield fields[1], f"{path}:{number}"
    if inside:
        raise ValueError(f"{path}: cut behind {count} unigrams; fetch it again")
    else:
        raise ValueError(f"{path}: no \\1-grams: of an ARPA file in it; a KenLM binary does not list its words")


def text_words(path: str) -> Iterator[Tuple[str, str]]:
    with utf8_lines(path) as lines:
        for number, line in enumerate(lines, start=1):
            for word in line.split():
                yield word, f"{path}:{number}"


def pieces(model: str) -> Callable[[str], List[str]]:
    """The spelling by a sentencepiece model; ValueError if there is none in the file."""
    processor = read_processor(model)
    return lambda word: processor.encode(word, out_type=str)


def spell(
    words: Dict[str, str], units: Sequence[str], dict_path: str, spelling: Callable[[str], List[str]]
) -> Tuple[List[str], List[str]]:
    """Words and their places -> lexicon lines by word, and a line for each word that has no spelling."""
    known, lines, errors = set(units), [], []
    for word in sorted(words):
        if len(word.split()) != 1 or WORD_END in word:
            errors.append(f"{words[word]}: {quoted(word)} is no word: white space or {WORD_END} in it")
            continue
        spelled = spelling(word)
        foreign = sorted(set(spelled) - known)
        if foreign:
            errors.append(f"{words[word]}: {quoted(word)} needs {quoted(' '.join(foreign))}, not in {dict_path}")
        else:
            lines.append(f"{word}\t{' '.join(spelled)}")
    return lines, errors


def write_lexicon(
    dict_path: str, dest: str, arpa: Optional[str], texts: Sequence[str], model: Optional[str], skip_bad: bool
) -> int:
    """Writes `dest` -> the number of its words; ValueError with a line for each that cannot be spelled."""
    words: Dict[str, str] = {}
    for source in [arpa_words(arpa)] if arpa else [text_words(path) for path in texts]:
        for word, place in source:
            words.setdefault(word, place)
            if len(words) > MOST_WORDS:
                raise ValueError(f"{place}: more than {MOST_WORDS} words")
    lines, errors = spell(words, read_units(dict_path), dict_path, pieces(model) if model else letters)
    told = "\n".join([*errors[:20], *(["..."] if len(errors) > 20 else []), f"{len(errors)} of {len(words)} words"])
    if errors and not skip_bad:
        raise ValueError(f"{told} have no spelling; --skip-bad leaves them out")
    if errors:
        print(f"{told} left out", file=sys.stderr)
    if not lines:
        raise ValueError(f"{dest}: no word to write")
    write_lines(dest, lines)
    return len(lines)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dict", metavar="DICT", help="the model's units: dict.ltr.txt or dict.spm.txt")
    parser.add_argument("--dest", required=True, metavar="FILE", help="the lexicon")
    words = parser.add_mutually_exclusive_group(required=True)
    words.add_argument("--arpa", metavar="FILE", help="language model as text, .gz or not: its unigrams")
    words.add_argument("--words", nargs="+", metavar="FILE", help="texts, or lists of words")
    parser.add_argument("--sentencepiece", metavar="MODEL", help="that made the units (default: they are letters)")
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave words out that cannot be spelled, and count them"
    )
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    args = get_parser().parse_args(argv)
    try:
        count = write_lexicon(args.dict, args.dest, args.arpa, args.words or (), args.sentencepiece, args.skip_bad)
    except (ValueError, OSError) as error:
        tell(error)
        return 1
    print(f"{args.dest}: {count} words")
    return 0


if __name__ == "__main__":
    sys.exit(main())
