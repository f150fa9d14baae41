"""How fast something grows that was sampled over time: a robust slope, with an interval that knows samples depend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slobench.stats.intervals import student_quantile

PARTS = 10
"""Stretches of equal length, each of which says one value: samples next to each other are not independent."""


@dataclass(frozen=True)
class Growth:
    """Growth over a span, with its 95 % interval, in the unit of the samples."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def growth(samples: np.ndarray, span: float) -> Growth:
    """Fit a line through the medians of ten stretches of (time, value) rows; say how much it climbs in `span`.

    A median is not moved by a few high samples, and what is left after the line gives the interval, Student's t with 8
    degrees of freedom.
    """
    parts = [part for part in np.array_split(samples, PARTS) if len(part)]
    at, level = (np.array([np.median(part[:, column]) for part in parts]) for column in (0, 1))
    if len(parts) < 3:
        raise ValueError(f"{len(samples)} samples say nothing of growth\n  expected  a longer run")
    centred = at - at.mean()
    slope = float(centred @ level / (centred @ centred))
    rest = level - level.mean() - slope * centred
    error = float(np.sqrt(rest @ rest / (len(parts) - 2) / (centred @ centred)))
    half = student_quantile(len(parts) - 2, 0.975) * error
    return Growth(slope * span, (slope - half) * span, (slope + half) * span)
