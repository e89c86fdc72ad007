"""What of several seeds can be believed: means, relative differences between rows, and their intervals."""

import math
import statistics
from typing import Collection, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from scipy import stats

LEVEL = 0.95
LEAST = 0.1  # of a WER in per cent, whose logarithm is taken

Rates = Dict[Tuple[str, int], float]  # (row, seed): WER in per cent, all of the same number of labels


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

    def text(self) -> str:
        """Mean and interval."""
        return f"{self.mean:.1f}" + ("" if self.half is None else f" ({self.low:.1f} to {self.high:.1f})")


class Scatter(NamedTuple):
    """Standard deviation of log WER that neither row nor seed explains, and its degrees of freedom (0: unknown)."""

    deviation: float
    freedom: int


class Difference(NamedTuple):
    """Of a row's WER to another row's, in per cent of that: geometric mean over the seeds that both have, the 95%
    interval (None where nothing tells of the spread), and the number of seeds."""

    mean: float
    low: Optional[float]
    high: Optional[float]
    seeds: int

    def text(self) -> str:
        """Mean and interval."""
        return f"{self.mean:+.0f}%" + ("" if self.low is None else f" ({self.low:+.0f} to {self.high:+.0f})")

    @property
    def verdict(self) -> str:
        """The interval has no 0 in it, or nothing is decided."""
        if self.low is None or self.low <= 0 <= self.high:
            return "undecided"
        return "better" if self.mean < 0 else "worse"


def interval(deviation: float, freedom: int) -> float:
    """Half the width of the 95% interval by Student's t, of a standard deviation with its degrees of freedom."""
    return float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * deviation


def mean_of(values: Sequence[float]) -> Optional[Mean]:
    """None of no values."""
    if not values:
        return None
    if len(values) == 1:
        return Mean(values[0], None, None, 1)
    number, deviation = len(values), statistics.stdev(values)
    return Mean(statistics.mean(values), deviation, interval(deviation / number**0.5, number - 1), number)


def log(rate: float) -> float:
    return math.log(max(rate, LEAST))


def of_rows(wer: Rates, rows: Collection[str]) -> Rates:
    return {key: rate for key, rate in wer.items() if key[0] in rows}


def residual(wer: Rates) -> Scatter:
    """Rows and seeds as randomised blocks, by least squares, since not all rows have all seeds. Of two rows it is that
    of the paired t-test."""
    if not wer:
        return Scatter(0.0, 0)
    effects: List[object] = sorted({row for row, _ in wer}) + sorted({seed for _, seed in wer})
    design = np.array([[effect in key for effect in effects] for key in wer], dtype=float)
    logs = np.array([log(rate) for rate in wer.values()])
    solution, _, rank, _ = np.linalg.lstsq(design, logs, rcond=None)
    freedom = len(wer) - int(rank)
    return Scatter(float(np.linalg.norm(logs - design @ solution)) / freedom**0.5 if freedom else 0.0, freedom)


def difference(wer: Rates, row: str, reference: str, scatter: Scatter) -> Optional[Difference]:
    """Of `row` to `reference`, paired by seed: what all rows of a seed share (the utterances with labels, their
    batches) is in both, and falls out. None: no seed has both."""
    seeds = [seed for name, seed in wer if name == row and (reference, seed) in wer]
    if not seeds:
        return None
    mean = statistics.mean(log(wer[row, seed]) - log(wer[reference, seed]) for seed in seeds)
    if not scatter.freedom:
        return Difference(percent(mean), None, None, len(seeds))
    half = interval(scatter.deviation * (2 / len(seeds)) ** 0.5, scatter.freedom)
    return Difference(percent(mean), percent(mean - half), percent(mean + half), len(seeds))


def paired(wer: Rates, row: str, reference: str) -> Optional[Difference]:
    """A difference whose scatter these two rows alone tell: the paired t-test."""
    return difference(wer, row, reference, residual(of_rows(wer, (row, reference))))


def percent(ratio: float) -> float:
    """A logarithm of a ratio, as a change."""
    return 100 * math.expm1(ratio)
