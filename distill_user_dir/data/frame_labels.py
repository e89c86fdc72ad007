"""k-means labels in their files: checked against manifest and dictionary before a training starts."""

from typing import List, Sequence

from fairseq.data.dictionary import Dictionary

from distill_user_dir.data.manifest import Manifest
from distill_user_dir.files import utf8_lines
from distill_user_dir.messages import quoted


def expected_labels(samples: int, sample_rate: int, label_rate: float) -> int:
    """Windows of 25 ms every 1 / label_rate seconds, as Kaldi's features and HuBERT's CNN have them."""
    window, hop = 0.025 * sample_rate, sample_rate / label_rate
    return int((samples - window) // hop) + 1 if samples >= window else 0


def check_frame_labels(
    manifest: Manifest, path: str, dictionary: Dictionary, sample_rate: int, label_rate: float
) -> None:
    """Every label is in the dictionary, and every utterance has as many as it has frames at `label_rate`, give or take
    one. ValueError with the utterance, both numbers and the way out; the file has a line for each utterance."""
    if label_rate <= 0:
        raise ValueError(f"task.label_rate={label_rate:g}: {path} holds frame labels; say how many a second, 50 or 100")
    counts = _counts(manifest, path, dictionary)
    expected = [expected_labels(size, sample_rate, label_rate) for size in manifest.sizes]
    off = [i for i, (found, due) in enumerate(zip(counts, expected)) if abs(found - due) > 1]
    if not off:
        return
    rate = label_rate * sum(counts) / max(1, sum(expected))
    if abs(rate / label_rate - 1) > 0.1 and len(off) > len(counts) // 2:
        raise ValueError(
            f"task.label_rate={label_rate:g}, but {path} has {sum(counts)} labels where that gives {sum(expected)}: "
            f"about {rate:.1f} a second; correct the rate, or make the labels again"
        )
    i = off[0]
    raise ValueError(
        f"{path}:{i + 1}: {manifest.names[i]} has {counts[i]} labels, and its {manifest.sizes[i]} samples are "
        f"{expected[i]} frames at task.label_rate={label_rate:g} ({len(off)} such utterances); "
        "make manifest and labels from the same audio"
    )


def _counts(manifest: Manifest, path: str, dictionary: Dictionary) -> List[int]:
    """Labels of each line; ValueError for the first one that the dictionary does not have."""
    known = set(dictionary.symbols[dictionary.nspecial :])
    counts = []
    with utf8_lines(path) as lines:
        for number, (name, line) in enumerate(zip(manifest.names, lines), 1):
            labels = line.split()
            unknown = set(labels) - known
            if unknown:
                told = f"{name} has label {quoted(min(unknown), 40)}, which is none of the {len(known)}"
                raise ValueError(
                    f"{path}:{number}: {told} in the dictionary beside it; make both with the same clusters"
                )
            counts.append(len(labels))
    return counts


def check_dictionaries(own: Sequence[Dictionary], teachers: Sequence[Sequence[str]], label_dir: str, path: str) -> None:
    """ValueError unless the dictionaries list the teacher's clusters in the teacher's order, set by set."""
    if len(own) != len(teachers):
        raise ValueError(f"task.labels names {len(own)} label sets, and {path} was trained on {len(teachers)}")
    for number, (dictionary, symbols) in enumerate(zip(own, teachers), 1):
        mine, theirs = list(dictionary.symbols), list(symbols)
        if mine == theirs:
            continue
        special = dictionary.nspecial
        first = next((i for i, (a, b) in enumerate(zip(mine, theirs)) if a != b), min(len(mine), len(theirs)))
        raise ValueError(
            f"{label_dir}: dictionary {number} is not that of {path}: {len(mine) - special} labels and "
            f"{len(theirs) - special}, the first difference in line {first - special + 1}; with "
            "criterion.discriminative_head=codebook it has to be the teacher's own: copy that, or use the linear head"
        )
