"""Whether requests pile up over a probe."""

from __future__ import annotations

import numpy as np

from slobench.experiment.stream import Probed
from slobench.stats.stationarity import slope_test

_PILING = 0.05  # of the requests offered: more in flight at the end than at the start


def drifts(probed: Probed) -> bool:
    """Whether in-flight drifts upwards (docs/metrics.md, V07: p < .01 and last third over first > 1.25)."""
    if len(probed.in_flight) < 3:
        return False
    trend = slope_test(np.array(probed.in_flight))
    return trend.slope > 0 and trend.p < 0.01 and trend.last_over_first > 1.25


def piles_up(probed: Probed) -> bool:
    """Whether the server ends visibly fewer requests than it is offered.

    A drift alone does not say so: near the knee in-flight wanders slowly, and over a probe of some mean E2E a slope
    test takes that for growth in one probe of five. A queue that cannot be carried keeps a share of all arrivals.
    """
    growth = probed.in_flight[-1] - probed.in_flight[0] if probed.in_flight else 0.0
    return growth > _PILING * probed.n() and drifts(probed)
