"""Sentencepiece units in place of letters: spm.model, dict.spm.txt and {split}.spm, from the words in {split}.wrd.

    python manifests/sentencepieces.py DATA --learn train-clean-100 --size 1000
    python manifests/sentencepieces.py DATA --learn train-clean-100 --size 1000 --type bpe --splits dev-other test-other
    python manifests/sentencepieces.py DATA --splits test-clean                   # with the model that is there

Units are learned on one split, and every split with a .wrd (or those named) is written in them. Text is taken as it is:
what the units of a line say is its words, character by character. Choose them with units=sentencepiece in the recipes.
"""

import argparse
import collections
import glob
import io
import os
import sys
from typing import Any, Dict, List, Optional, Sequence

from distill_user_dir.files import utf8_lines, write_bytes, write_lines
from distill_user_dir.machine import need
from distill_user_dir.messages import quoted, reason, tell


def learn(texts: Sequence[str], size: int, kind: str) -> bytes:
    """Lines of words -> a sentencepiece model; ValueError where sentencepiece refuses, e.g. the size."""
    model, sentencepiece = io.BytesIO(), need("sentencepiece", "manifests")
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=size,
            model_type=kind,
            normalization_rule_name="identity",
            character_coverage=1.0,  # every letter has a unit
            max_sentence_length=1 << 20,
            bos_id=-1,
            eos_id=-1,
            num_threads=1,  # the same units on every machine
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ValueError(f"{size} {kind} units of {len(texts)} lines: {reason(error)}") from None
    return model.getvalue()


def read_processor(path: str, model: Optional[bytes] = None) -> Any:
    """sentencepiece's reader of a model, of the file's or of the bytes; ValueError where they are none."""
    content = read_model(path) if model is None else model
    if not content:
        raise ValueError(f"{path}: no sentencepiece model but an empty file")
    try:
        return need("sentencepiece", "manifests").SentencePieceProcessor(model_proto=content)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path}: no sentencepiece model ({reason(error)})") from None


def read_model(path: str) -> bytes:
    if not os.path.isfile(path):
        raise ValueError(f"{path}: no such model; name the split to learn it on: --learn train-clean-100")
    with open(path, "rb") as stream:
        return stream.read()


def units_of(processor: Any) -> List[str]:
    """All but <unk>, in the model's order."""
    return [processor.id_to_piece(i) for i in range(len(processor)) if not processor.is_unknown(i)]


def encode(processor: Any, path: str, known: Sequence[str]) -> List[List[str]]:
    """The units of each line of a .wrd; ValueError with a line for each that they cannot say."""
    units, errors, lines = set(known), [], []
    with utf8_lines(path) as stream:
        for number, line in enumerate(stream, start=1):
            words = line.rstrip("\n")
            pieces = processor.encode(words, out_type=str)
            foreign = sorted(set(pieces) - units)
            if foreign or "".join(pieces).replace("\u2581", " ").strip() != words:
                errors.append(f"{path}:{number}: not to be said in these units: {quoted(' '.join(foreign) or words)}")
            lines.append(pieces)
    if errors:
        told = errors[:20] + (["..."] if len(errors) > 20 else [])
        raise ValueError("\n".join([*told, f"{len(errors)} of {len(lines)} lines; learn units that have all letters"]))
    return lines


def write_units(data: str, splits: Sequence[str], learned: Optional[str], size: int, kind: str) -> Dict[str, float]:
    """Writes all of it -> the units to a word in each split. ValueError, with nothing written, for what is wrong."""
    path = os.path.join(data, "spm.model")
    if learned:
        with utf8_lines(os.path.join(data, f"{learned}.wrd")) as stream:
            model = learn([line.rstrip("\n") for line in stream], size, kind)
    else:
        model = read_model(path)
    processor = read_processor(path, model)
    known = units_of(processor)
    encoded = {split: encode(processor, os.path.join(data, f"{split}.wrd"), known) for split in splits}
    if learned:
        counts = collections.Counter(unit for line in encoded[learned] for unit in line)
        write_lines(os.path.join(data, "dict.spm.txt"), [f"{unit} {counts[unit]}" for unit in known])
        write_bytes(path, model)
    ratios = {}
    for split, lines in encoded.items():
        write_lines(os.path.join(data, f"{split}.spm"), [" ".join(line) for line in lines])
        words = sum(unit.startswith("\u2581") for line in lines for unit in line)
        ratios[split] = sum(len(line) for line in lines) / max(1, words)
    return ratios


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="folder of the manifests")
    parser.add_argument("--learn", metavar="SPLIT", help="learn the units on this split's words")
    parser.add_argument("--size", type=int, default=1000, help="units to learn (1000)")
    parser.add_argument("--type", choices=("unigram", "bpe"), default="unigram", help="of the units (unigram)")
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="to write (default: all that have a .wrd)")
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    args = get_parser().parse_args(argv)
    there = sorted(os.path.basename(path)[:-4] for path in glob.glob(os.path.join(glob.escape(args.data), "*.wrd")))
    splits = list(dict.fromkeys([*([args.learn] if args.learn else []), *(args.splits or there)]))
    try:
        ratios = write_units(args.data, splits, args.learn, args.size, args.type)
    except (ValueError, OSError) as error:
        tell(error)
        return 1
    for split, ratio in ratios.items():
        print(f"{os.path.join(args.data, split)}.spm: {ratio:.2f} units to a word")
    return 0


if __name__ == "__main__":
    sys.exit(main())
