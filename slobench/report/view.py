"""One run as every renderer takes it: its folder, run.json, summary and records, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slobench.config.slo import ClassSlo, Slo
from slobench.metrics.summary import Summary
from slobench.records.schema import Columns, Records

ALL = "all"
FILES = {
    "report.html": "charts and tables, one page that needs no network",
    "report.md": "the tables, for a pull request",
    "run.json": "settings, versions, findings, summary",
    "requests.parquet": "one row per planned request",
    "chunks.parquet": "one row per token event",
    "telemetry.parquet": "samples of client, server, GPUs and host",
    "plan.parquet": "what was to be offered",
    "server.log": "what the server wrote",
    "server-requests.csv": "what the simulated engine saw of each request",
}


@dataclass(frozen=True, slots=True)
class RunView:
    """Everything a report is made from.

    run: the parsed run.json (schema, spec, plan, settings, host, …), without secrets.
    derived: a column per derived quantity of `records.requests`, in its order (seconds, NaN = null).
    slo: the parsed clauses behind summary.slo; None where no limit was given.
    """

    folder: Path
    run: Mapping[str, Any]
    summary: Summary
    records: Records
    derived: Columns
    slo: Slo | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names without the total, in the order of the summary."""
        return tuple(name for name in self.summary.load if name != ALL)

    @property
    def shown(self) -> tuple[str, ...]:
        """Rows of a per-class table: each class, then the total where there is more than one."""
        many = len(self.classes) > 1 and ALL in self.summary.load
        return (*self.classes, ALL) if many or not self.classes else self.classes

    @property
    def total(self) -> str:
        """The key of the whole run's numbers: "all", or the only class where no total was made."""
        return ALL if ALL in self.summary.load or not self.classes else self.classes[0]

    @property
    def name(self) -> str:
        """The folder's own name: what runs are told apart by."""
        return self.folder.resolve().name

    def at(self, *keys: str) -> Any:
        """Return the value at a path of run.json; None where any part is absent."""
        value: Any = self.run
        for key in keys:
            if not isinstance(value, Mapping):
                return None
            value = value.get(key)
        return value

    def limits_s(self, metric: str) -> dict[str, float]:
        """Class name ("" = every class) -> its flat limit on this metric, in seconds."""
        if self.slo is None:
            return {}
        resolved: list[tuple[str, ClassSlo]] = [("", self.slo.common), *self.slo.by_class]
        found = {
            name: limit.limit_s
            for name, clauses in resolved
            for limit in clauses.limits
            if limit.metric == metric and limit.per_token_s == 0
        }
        for name, clauses in resolved:
            for objective in clauses.objectives:
                if objective.metric == metric and objective.quantile is not None:
                    found.setdefault(name, objective.bound)
        return found

    def files(self) -> dict[str, str]:
        """Return the result files that exist in the folder -> what each is."""
        return {name: about for name, about in FILES.items() if (self.folder / name).exists()}
