"""Word and character error rates, and how far a test set of this size lets one trust them. Pure functions."""

from typing import NamedTuple, Sequence, Tuple

import editdistance
import numpy as np

BLOCK = 1 << 21  # drawn indices held at once, 16 MiB


class Errors(NamedTuple):
    """One utterance: edits (substitutions, insertions, deletions) and the reference's length, in words and characters.

    Characters are those of the words joined by single spaces, the spaces included.
    """

    word_errors: int
    words: int
    char_errors: int
    chars: int


def count_errors(reference: str, hypothesis: str) -> Errors:
    """Words are what white space separates: how much of it makes no difference, to characters neither."""
    ref_words, hyp_words = reference.split(), hypothesis.split()
    ref_chars, hyp_chars = " ".join(ref_words), " ".join(hyp_words)
    return Errors(
        editdistance.eval(ref_words, hyp_words),
        len(ref_words),
        editdistance.eval(ref_chars, hyp_chars),
        len(ref_chars),
    )


def corpus_rate(errors: Sequence[int], totals: Sequence[int]) -> float:
    """Errors per reference unit over all utterances: a fraction, which insertions can carry above 1.

    errors, totals: one number an utterance. ValueError where the references are all empty.
    """
    total = int(np.sum(totals))
    if total == 0:
        raise ValueError(f"{len(totals)} references and not one word in them: there is no error rate")
    return int(np.sum(errors)) / total


def bootstrap_interval(
    errors: Sequence[int], totals: Sequence[int], samples: int = 1000, seed: int = 1, level: float = 0.95
) -> Tuple[float, float]:
    """The percentile interval of `corpus_rate` over test sets drawn with replacement from these utterances.

    Utterances are drawn, not words, because the errors within one depend on each other (Bisani and Ney, ICASSP 2004).
    errors, totals: one number an utterance; returns (low, high) as fractions. ValueError as `corpus_rate`.
    """
    corpus_rate(errors, totals)
    pairs = np.stack([np.asarray(errors, dtype=np.int64), np.asarray(totals, dtype=np.int64)])
    count = pairs.shape[1]
    generator = np.random.default_rng(seed)
    rows = max(1, BLOCK // count)
    sums = []
    for start in range(0, samples, rows):
        drawn = generator.integers(0, count, size=(min(rows, samples - start), count))
        sums.append(pairs[:, drawn].sum(axis=2))
    drawn_errors, drawn_totals = np.concatenate(sums, axis=1)
    # a draw of nothing but empty references has no rate
    rates = drawn_errors[drawn_totals > 0] / drawn_totals[drawn_totals > 0]
    low, high = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
