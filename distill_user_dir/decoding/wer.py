"""Word and character error rates, how far a test set of this size lets one trust them, and what a decode reports.

Pure functions: infer.py reads and writes the files.
"""

import os
from collections import Counter
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import editdistance
import numpy as np

from distill_user_dir.decoding.word_times import WordTime

BLOCK = 1 << 21  # drawn indices held at once, 16 MiB


class Errors(NamedTuple):
    """One utterance: edits (substitutions, insertions, deletions) and the reference's length, in words and characters.

    Characters are those of the words joined by single spaces, the spaces included.
    """

    word_errors: int
    words: int
    char_errors: int
    chars: int


class Scored(NamedTuple):
    """One decoded utterance: its errors, its words, and its length in samples; the n best with their scores, and the
    words' times, where the decoder gives them."""

    id: str
    errors: Errors
    reference: str
    hypothesis: str
    samples: int
    nbest: Tuple[Tuple[float, str], ...] = ()
    times: Tuple[WordTime, ...] = ()


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


def utterance_ids(names: Sequence[str]) -> List[str]:
    """Manifest paths -> ids: file stems; if two are the same, paths without extension; if two are the same, paths.

    ValueError where the manifest lists a path twice: its utterance would count twice.
    """
    bare = [os.path.splitext(name)[0] for name in names]
    for ids in ([os.path.basename(name) for name in bare], bare, list(names)):
        if len(set(ids)) == len(ids):
            return ids
    twice = next(name for name, count in Counter(names).items() if count > 1)
    raise ValueError(f"the manifest lists {twice} more than once; take the copies out")


def check_complete(manifest: str, expected: Sequence[str], scored: Sequence[str], verb: str = "scored") -> None:
    """ValueError with counts and first ids unless each expected id was scored once, and no other."""
    counts = Counter(scored)
    missing = [name for name in expected if not counts[name]]
    twice = [name for name in expected if counts[name] > 1]
    parts = [f"{len(expected) - len(missing)} of {len(expected)} utterances {verb}"]
    for kind, names in (("missing", missing), ("more than once", twice)):
        if names:
            more = ", ..." if len(names) > 5 else ""
            parts.append(f"{kind}: {len(names)} ({', '.join(names[:5])}{more})")
    if len(parts) > 1:
        way_out = "task.min_sample_size, task.max_keep_size and dataset.max_tokens must let every one through"
        raise ValueError(f"{manifest}: {'; '.join(parts)}; {way_out}")


def summary(scored: Sequence[Scored], decode_seconds: float, sample_rate: int) -> Dict[str, Any]:
    """What wer.json holds, of a complete decode: rates in percent, times in seconds; audio at `sample_rate` Hz."""
    word_errors, words, char_errors, chars = zip(*(one.errors for one in scored))
    audio_seconds = sum(one.samples for one in scored) / sample_rate
    result: Dict[str, Any] = {}
    for key, errors, totals in (("wer", word_errors, words), ("cer", char_errors, chars)):
        result[key] = 100 * corpus_rate(errors, totals)
        result[f"{key}_interval"] = [100 * bound for bound in bootstrap_interval(errors, totals)]
    result.update(utterances_scored=len(scored), utterances=len(scored))
    result.update(decode_seconds=decode_seconds, audio_seconds=audio_seconds, rtf=decode_seconds / audio_seconds)
    return result


def table(scored: Sequence[Scored]) -> List[str]:
    """The lines of utterances.tsv, the first of them its header."""
    rows = [("id", *Errors._fields, "ref", "hyp")]
    rows += [(one.id, *map(str, one.errors), one.reference, one.hypothesis) for one in scored]
    return ["\t".join(row) for row in rows]


def nbest_table(scored: Sequence[Scored]) -> List[str]:
    """The lines of nbest.tsv, the first of them its header; rank 1 is the best."""
    rows = [("id", "rank", "score", "hyp")]
    for one in scored:
        rows += [(one.id, str(rank), f"{score:.4f}", words) for rank, (score, words) in enumerate(one.nbest, start=1)]
    return ["\t".join(row) for row in rows]


def ctm(scored: Sequence[Scored], seconds: float) -> List[str]:
    """The lines of words.ctm (NIST): id, channel, start and duration in seconds, word; `seconds` to a frame."""
    return [
        f"{one.id} 1 {time.start * seconds:.2f} {(time.end - time.start) * seconds:.2f} {time.word}"
        for one in scored
        for time in one.times
    ]


def report(result: Dict[str, Any]) -> str:
    """The last line of a decode."""
    rates = "  ".join(
        "{} {:.2f}% [{:.2f}, {:.2f}]".format(key.upper(), result[key], *result[f"{key}_interval"])
        for key in ("wer", "cer")
    )
    return f"{rates}  {result['utterances_scored']} of {result['utterances']} utterances"
