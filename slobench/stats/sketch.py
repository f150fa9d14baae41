"""A distribution in a few hundred numbers: counts in bins of equal ratio, so that every quantile is known to 1 %."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slobench.stats.quantiles import FloatArray, rank

ERROR = 0.01
"""Relative error of a quantile."""


@dataclass(frozen=True, slots=True)
class Sketch:
    """Counts of positive values by bin; bin k holds (g^(k-1), g^k], g = (1 + error)/(1 - error).

    DDSketch (Masson, Rim and Lee, VLDB 12, 2019) without its collapsing of bins: latencies need a few hundred.
    zeros: values that are not positive.
    """

    counts: Mapping[int, int]
    zeros: int = 0
    error: float = ERROR

    @property
    def n(self) -> int:
        """How many values it holds."""
        return self.zeros + sum(self.counts.values())

    def quantile(self, q: float) -> float | None:
        """Return the q-quantile (inverse ECDF) to within the relative error; None where it is empty."""
        if not self.n:
            return None
        left = rank(self.n, q) + 1 - self.zeros
        if left <= 0:
            return 0.0
        ratio = (1 + self.error) / (1 - self.error)
        for bin_number in sorted(self.counts):
            left -= self.counts[bin_number]
            if left <= 0:
                break
        return float(2 * ratio**bin_number / (ratio + 1))  # within the error of either end

    def to_json(self) -> dict[str, object]:
        """Return the sketch as plain data: the first bin, and the counts from there on, gaps as 0."""
        first, last = (min(self.counts), max(self.counts)) if self.counts else (0, -1)
        return {
            "error": self.error,
            "zeros": self.zeros,
            "first": first,
            "counts": [self.counts.get(k, 0) for k in range(first, last + 1)],
        }


def sketch(values: FloatArray, error: float = ERROR) -> Sketch:
    """Count the values that are finite; NaN and infinities are left out. Time: O(n log n)."""
    known = values[np.isfinite(values)]
    positive = known[known > 0]
    width = math.log((1 + error) / (1 - error))
    numbers, counts = np.unique(np.ceil(np.log(positive) / width).astype(np.int64), return_counts=True)
    pairs = zip(numbers.tolist(), counts.tolist(), strict=True)
    return Sketch(dict(pairs), int(len(known) - len(positive)), error)


def merged(parts: Sequence[Sketch]) -> Sketch:
    """Return the sketch of all values together. Raises ValueError where their bins differ."""
    errors = {part.error for part in parts}
    if len(errors) > 1:
        raise ValueError(f"sketches of different errors: {sorted(errors)}")
    counts: dict[int, int] = {}
    for part in parts:
        for number, count in part.counts.items():
            counts[number] = counts.get(number, 0) + count
    return Sketch(counts, sum(part.zeros for part in parts), errors.pop() if errors else ERROR)


def from_json(data: Mapping[str, object]) -> Sketch:
    """Read what `to_json` made. Raises ValueError where it is something else."""
    first, counts, zeros, error = (data.get(key) for key in ("first", "counts", "zeros", "error"))
    if not isinstance(first, int) or not isinstance(counts, list) or not isinstance(zeros, int):
        raise ValueError("no sketch: expected first, counts and zeros")  # noqa: TRY004 (of a file, not of a caller)
    if not isinstance(error, float) or not 0 < error < 1 or not all(isinstance(n, int) and n >= 0 for n in counts):
        raise ValueError("no sketch: expected an error in (0, 1) and counts from 0")
    return Sketch({first + k: n for k, n in enumerate(counts) if n}, zeros, error)
