"""Whether requests pile up over a probe."""

from __future__ import annotations

import numpy as np

from slobench.experiment.stream import Probed
from slobench.stats.stationarity import Trend, slope_test

_PILING = 0.05  # of the requests offered: more in flight at the end than at the start


def drifts(probed: Probed) -> bool:
    """Whether in-flight drifts upwards (docs/metrics.md, V07: p < .01 and last third over first > 1.25)."""
    trend = _trend(probed)
    return trend is not None and trend.slope > 0 and trend.p < 0.01 and trend.last_over_first > 1.25


def piles_up(probed: Probed) -> bool:
    """Whether the server ends visibly fewer requests than it is offered: a queue keeps a share of all arrivals.

    V07 alone does not tell. Near the knee in-flight wanders slowly, and over a probe of some mean E2E a slope test
    takes that for growth in one of five; and where a long queue is there from the start, it need not grow by a quarter.
    """
    trend = _trend(probed)
    growth = probed.in_flight[-1] - probed.in_flight[0] if trend is not None else 0.0
    return trend is not None and trend.p < 0.01 and growth > _PILING * probed.n()


def _trend(probed: Probed) -> Trend | None:
    return slope_test(np.array(probed.in_flight)) if len(probed.in_flight) >= 3 else None
