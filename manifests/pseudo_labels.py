"""A recogniser's words as labels: what it wrote of a manifest's audio -> {name}.tsv, {name}.ltr and {name}.wrd.

    python -m distill_user_dir.transcribe TEACHER.pt AUDIO --output json > words.jsonl     # --lm FILE, if you have one
    python manifests/pseudo_labels.py DATA train words.jsonl pseudo --confidence 0.9
    python manifests/pseudo_labels.py DATA train decode/utterances.tsv pseudo              # of distill_user_dir.infer

DATA/train.tsv lists the audio. An utterance without words, or of less confidence (the mean probability of its units),
is left out and counted. DATA/dict.ltr.txt has to hold the letters. Train on it with task.pseudo_labelled=[pseudo].
"""

import argparse
import json
import os
import sys
from typing import Dict, List, NamedTuple, Optional, Sequence

from distill_user_dir.data.manifest import Manifest, read_dictionary, read_manifest
from distill_user_dir.decoding.wer import utterance_ids
from distill_user_dir.files import utf8_lines
from distill_user_dir.messages import quoted, reason, tell
from manifests import items
from manifests.letters import letters


class Written(NamedTuple):
    """What was written of an utterance; confidence: from 0 to 1, where the file has it; place: `FILE:LINE`."""

    words: str
    confidence: Optional[float]
    place: str


def read_json(path: str, manifest: Manifest) -> Dict[int, Written]:
    """transcribe's lines -> by the utterance's place in the manifest."""
    places = {os.path.realpath(os.path.join(manifest.root, name)): i for i, name in enumerate(manifest.names)}
    found: Dict[int, Written] = {}
    with utf8_lines(path) as lines:
        for number, line in enumerate(lines, 1):
            place = f"{path}:{number}"
            try:
                row = json.loads(line)
                name, words, confidence = row["file"], row["text"].split(), float(row["confidence"])
                index = places.get(os.path.realpath(name))
                if not 0 <= confidence <= 1:
                    raise ValueError(f"confidence {confidence:g}")
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
                raise ValueError(f"{place}: no line of `transcribe --output json` ({reason(error)})") from None
            add(found, index, Written(" ".join(words), confidence, place), name, manifest)
    return found


def read_table(path: str, manifest: Manifest) -> Dict[int, Written]:
    """infer's utterances.tsv -> by the utterance's place in the manifest."""
    places = {name: i for i, name in enumerate(utterance_ids(manifest.names))}
    found: Dict[int, Written] = {}
    with utf8_lines(path) as lines:
        header = next(lines, "").rstrip("\n").split("\t")
        if not {"id", "hyp"} <= set(header):
            raise ValueError(f"{path}:1: neither an utterances.tsv of infer nor `transcribe --output json`")
        for number, line in enumerate(lines, 2):
            row = dict(zip(header, line.rstrip("\n").split("\t")))
            name = row.get("id", "")
            add(found, places.get(name), Written(row.get("hyp", ""), None, f"{path}:{number}"), name, manifest)
    return found


def add(found: Dict[int, Written], index: Optional[int], written: Written, name: str, manifest: Manifest) -> None:
    """ValueError where it is of no utterance, or of one that was there."""
    if index is None:
        raise ValueError(f"{written.place}: {quoted(name, 200)} is not in {manifest.path}; give that one's words")
    if index in found:
        raise ValueError(f"{written.place}: {quoted(name, 200)} is at {found[index].place} too; remove one")
    found[index] = written


def check_letters(spoken: Sequence[items.Item], path: str) -> None:
    """ValueError for words with letters outside the dictionary."""
    known = set(read_dictionary(path).symbols)
    for item in spoken:
        foreign = sorted(set(letters(item.words)) - known)
        if foreign:
            told = f"{quoted(' '.join(foreign))} not in {path}"
            raise ValueError(f"{item.place}: {told}; name the recogniser's with --dict")


def pseudo_labels(data: str, split: str, path: str, name: str, least: Optional[float], symbols: str) -> str:
    """Writes the split `name` -> a line about it. symbols: the path of the dictionary. ValueError where the words do
    not fit, or none are left."""
    manifest = read_manifest(f"{data}/{split}.tsv")
    with utf8_lines(path) as lines:
        is_json = next(lines, "").startswith("{")
    found = (read_json if is_json else read_table)(path, manifest)
    if least is not None and not is_json:
        raise ValueError(f"{path}: it has no confidence; leave --confidence out, or give `transcribe --output json`")
    heard = {index: one for index, one in found.items() if one.words}
    kept = {index: one for index, one in heard.items() if least is None or (one.confidence or 0.0) >= least}
    if not kept:
        best = max((one.confidence or 0.0 for one in heard.values()), default=0.0)
        told = f"{len(heard)} have words, the surest {best:g}"
        raise ValueError(f"{path}: none of {len(found)} utterances is left; {told}")
    audio = [os.path.join(manifest.root, manifest.names[index]) for index in kept]
    spoken = [items.Item(one, written.words, written.place) for one, written in zip(audio, kept.values())]
    sizes = [manifest.sizes[index] for index in kept]
    check_letters(spoken, symbols)
    items.write(spoken, sizes, manifest.root, data, name)
    parts = [f"{len(heard) - len(kept)} below {least:g}"] if least is not None else []
    parts += [f"{len(found) - len(heard)} without words", f"{len(manifest.names) - len(found)} not in {path}"]
    return f"{items.describe(name, spoken, sizes)}; left out: {', '.join(parts)}"


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="folder of the manifests and of dict.ltr.txt")
    parser.add_argument("split", metavar="SPLIT", help="whose audio was written down")
    parser.add_argument("written", metavar="FILE", help="`transcribe --output json`, or utterances.tsv of infer")
    parser.add_argument("name", metavar="NAME", help="of the new split")
    parser.add_argument("--confidence", type=float, metavar="P", help="the least that is taken, from 0 to 1 (any)")
    parser.add_argument("--dict", metavar="FILE", help="of the recogniser's letters (default DATA/dict.ltr.txt)")
    args = parser.parse_args(argv)
    data = os.path.normpath(args.data)
    try:
        if args.name == args.split:
            raise ValueError(f"{args.name}: the new split needs another name")
        symbols = args.dict or f"{data}/dict.ltr.txt"
        print(pseudo_labels(data, args.split, args.written, args.name, args.confidence, symbols))
    except (ValueError, OSError) as error:
        tell(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
