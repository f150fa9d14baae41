"""The quantities that comparisons are about, by name: `ttft:p90`, `tpot:mean`, `attainment`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from slobench.errors import ConfigError
from slobench.metrics.arm import Requests
from slobench.metrics.tables import METRICS
from slobench.stats.quantiles import FloatArray, inverted_cdf

_NAME = re.compile(r"([a-z_0-9]+):(mean|p(\d{1,2}(?:\.\d{1,3})?))")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A mean or a quantile of a latency over successful requests; less is better. q: None is the mean."""

    metric: str
    q: float | None

    @property
    def key(self) -> str:
        """`ttft:p90`."""
        return f"{self.metric}:{self.statistic}"

    @property
    def statistic(self) -> str:
        """`p90` or `mean`."""
        return "mean" if self.q is None else f"p{self.q * 100:.6g}"

    def of(self, values: FloatArray) -> float | None:
        """Return it for some values, NaN aside; None where there is none, or where it is not above 0."""
        known = values[~np.isnan(values)]
        if not len(known):
            return None
        value = float(known.mean()) if self.q is None else inverted_cdf(known, self.q)
        return value if value > 0 else None

    def log(self, requests: Requests) -> float:
        """Logarithm of its value over the successful ones; NaN where there is none."""
        if self.metric not in requests.seconds:
            return math.nan
        value = self.of(requests.seconds[self.metric][requests.ok])
        return math.nan if value is None else math.log(value)


def quantity(text: str) -> Quantity:
    """Read `ttft:p90`; ConfigError for anything else."""
    match = _NAME.fullmatch(text.strip().lower())
    if match is None or match[1] not in METRICS or (match[3] is not None and not 0 < float(match[3]) < 100):
        raise ConfigError(
            f"cannot read metric {text!r}\n  expected  METRIC:pPERCENTILE or METRIC:mean, e.g. ttft:p90\n"
            f"  metrics   {', '.join(METRICS)}"
        )
    return Quantity(match[1], None if match[3] is None else float(match[3]) / 100)


def named(*texts: str) -> tuple[Quantity, ...]:
    """Read several."""
    return tuple(quantity(text) for text in texts)


FAMILY = named("tpot:p50", "tpot:p99", "ttft:p90")
"""What a gate decides by (docs/metrics.md, Comparison and gate)."""
ADVISORY = named("ttft:p50", "ttft:p99", "e2e:p50", "e2e:p99")
"""What a gate shows beside them."""
UNSTREAMED = named("e2e:p50", "e2e:p90")
"""What a gate decides by where replies are not streamed."""
COMPARED = named("ttft:p50", "ttft:p90", "ttft:p99", "tpot:p50", "tpot:p99", "e2e:p50", "e2e:p99")
"""What `compare` shows."""


def from_send(quantities: Iterable[Quantity]) -> tuple[Quantity, ...]:
    """Return the same counted from the send: where one of the runs has no schedule (another tool's)."""
    sent = {"ttft": "ttft_sent", "e2e": "e2e_sent"}
    return tuple(Quantity(sent.get(each.metric, each.metric), each.q) for each in quantities)
