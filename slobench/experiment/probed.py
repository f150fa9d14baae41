"""What the records of a probe say of it, for a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slobench.config.slo import ClassSlo, Deadline, Limit, Slo
from slobench.experiment.stream import BATCHES, Counted, Tally
from slobench.metrics.slo import judge
from slobench.records.schema import Columns, Records


@dataclass(frozen=True, slots=True)
class Counts:
    """The rows of a probe that count, as positions in order of arrival, and what they are counted by."""

    records: Records
    derived: Columns
    rows: NDArray[np.int64]
    slo: Slo

    def tallies(self, counted: Sequence[Counted]) -> Mapping[str, Tally]:
        """(good, judged) of each batch, for each share."""
        n = len(self.rows)
        batch = np.arange(n) * BATCHES // max(n, 1)
        found = {}
        for share in counted:
            met = self._met(share)[self.rows]
            mine = np.isin(self.records.requests["class"][self.rows], sorted(share.classes)) & ~np.isnan(met)
            good = np.bincount(batch[mine & (met == 1)], minlength=BATCHES)
            judged = np.bincount(batch[mine], minlength=BATCHES)
            found[share.name] = tuple(zip(good.tolist(), judged.tolist(), strict=True))
        return found

    def _met(self, share: Counted) -> NDArray[np.float64]:
        match share.what:
            case "all":
                slo = self.slo
            case "ok":
                slo = Slo((), ClassSlo())
            case Limit() as limit:
                slo = Slo((), ClassSlo((limit,)))
            case Deadline() as deadline:
                slo = Slo((), ClassSlo((), deadline))
        return judge(self.records.requests, self.derived, self.records.chunks, slo).met

    def mean_s(self, name: str) -> float | None:
        """Mean of a derived column over the rows that have it."""
        known = self._known(name)
        return float(known.mean()) if len(known) else None

    def quantile_s(self, name: str, q: float) -> float | None:
        """Quantile of a derived column, by the inverse ECDF."""
        known = self._known(name)
        return float(np.quantile(known, q, method="inverted_cdf")) if len(known) else None

    def share_above(self, name: str, limit_s: float) -> float:
        """Share of the rows above a limit."""
        known = self._known(name)
        return float(np.mean(known > limit_s)) if len(known) else 0.0

    def _known(self, name: str) -> NDArray[np.float64]:
        values = np.asarray(self.derived[name], dtype=np.float64)[self.rows]
        return values[~np.isnan(values)]
