"""What of several seeds can be believed: means, differences paired by seed, and their intervals."""

import statistics
from typing import Dict, NamedTuple, Optional, Sequence

from scipy import stats

LEVEL = 0.95


class Mean(NamedTuple):
    """Of values of several seeds: mean, sample standard deviation, half the width of the 95% interval of the mean by
    Student's t (None of one seed), and their number."""

    mean: float
    deviation: Optional[float]
    half: Optional[float]
    seeds: int

    @property
    def low(self) -> Optional[float]:
        return None if self.half is None else self.mean - self.half

    @property
    def high(self) -> Optional[float]:
        return None if self.half is None else self.mean + self.half

    def text(self, sign: str = "") -> str:
        """Mean and interval; `sign="+"` for a difference."""
        if self.half is None:
            return f"{self.mean:{sign}.1f}"
        return f"{self.mean:{sign}.1f} ({self.low:{sign}.1f} to {self.high:{sign}.1f})"

    @property
    def verdict(self) -> str:
        """Of a difference of word error rates: the interval has no 0 in it, or nothing is decided."""
        if self.half is None or self.low <= 0 <= self.high:
            return "undecided"
        return "better" if self.mean < 0 else "worse"


def mean_of(values: Sequence[float]) -> Optional[Mean]:
    """None of no values."""
    if not values:
        return None
    if len(values) == 1:
        return Mean(values[0], None, None, 1)
    deviation = statistics.stdev(values)
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * deviation / len(values) ** 0.5
    return Mean(statistics.mean(values), deviation, half, len(values))


def differences(own: Dict[int, float], reference: Dict[int, float]) -> Optional[Mean]:
    """{seed: WER} of both -> own minus reference, over the seeds that both have: what all rows of a seed share (the
    utterances with labels, their batches) is in both, and falls out."""
    return mean_of([own[seed] - reference[seed] for seed in sorted(own.keys() & reference.keys())])
