"""What validity checks look at, and how a value past a limit becomes a finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from slobench.config.slo import Slo, tightest_gap_s, tightest_ttft_s
from slobench.metrics.ask import Ask, Step
from slobench.metrics.columns import BoolArray, seconds
from slobench.metrics.slo import Judged
from slobench.metrics.summary import Finding, Level, Side
from slobench.metrics.window import Window
from slobench.names import Outcome
from slobench.records.schema import Columns, Records
from slobench.stats.quantiles import FloatArray
from slobench.units import format_s


@dataclass(frozen=True, slots=True)
class Case:
    """One run under examination.

    main: requests scheduled in the window that were due. ttft_s, gap_s: S and G of docs/metrics.md, Validity:
    the tightest TTFT limit and the tightest TPOT or gap limit; *_given: the SLO holds such a limit.
    """

    records: Records
    derived: Columns
    judged: Judged
    window: Window
    slo: Slo
    ask: Ask
    main: BoolArray
    ttft_s: float
    ttft_given: bool
    gap_s: float
    gap_given: bool

    @classmethod
    def of(cls, records: Records, slo: Slo, ask: Ask, *, derived: Columns, judged: Judged, window: Window) -> Case:
        """Fill in what follows from the rest."""
        due = records.requests["outcome"] != Outcome.UNSENT.value
        ttft_s, gap_s = tightest_ttft_s(slo), tightest_gap_s(slo)
        return cls(
            records=records,
            derived=derived,
            judged=judged,
            window=window,
            slo=slo,
            ask=ask,
            main=due & window.holds(seconds(records.requests, "scheduled_ns")),
            ttft_s=ttft_s or ask.thresholds.default_ttft_s,
            ttft_given=ttft_s is not None,
            gap_s=gap_s or ask.thresholds.default_gap_s,
            gap_given=gap_s is not None,
        )

    @property
    def requests(self) -> Columns:
        """The request records."""
        return self.records.requests

    def of_ttft(self, part: float) -> str:
        """`25 ms (5 % of the 500 ms TTFT limit)`."""
        return _part(part, self.ttft_s, "TTFT limit" if self.ttft_given else "TTFT assumed without a limit")

    def of_gap(self, part: float) -> str:
        """`2.5 ms (5 % of the 50 ms TPOT limit)`."""
        return _part(part, self.gap_s, "tightest token limit" if self.gap_given else "gap assumed without a limit")

    def samples(self, name: str, *, whole_run: bool = False) -> Iterator[tuple[str, FloatArray, FloatArray]]:
        """(source, times in s, values) of one telemetry quantity, worker by worker, in the window."""
        telemetry = self.records.telemetry
        if not len(telemetry["name"]):
            return
        named = telemetry["name"] == name
        at = np.asarray(telemetry["t_ns"], dtype=np.float64) / 1e9
        if not whole_run:
            named = named & self.window.holds(at)
        for source in np.unique(telemetry["source"][named]):
            mine = named & (telemetry["source"] == source)
            order = np.argsort(at[mine], kind="stable")
            yield str(source), at[mine][order], np.asarray(telemetry["value"][mine], dtype=np.float64)[order]


def _part(part: float, whole_s: float, what: str) -> str:
    return f"{format_s(part * whole_s)} ({part * 100:g} % of the {format_s(whole_s)} {what})"


def percent(share: float) -> str:
    """`0.12 %`."""
    return f"{share * 100:.3g} %"


def more_workers(ask: Ask) -> str:
    """What to do where the client is too slow: another process where a core is free for it, else another host."""
    more = ask.workers * 2
    if ask.clocks:
        return f"use --workers ray/{more}, with more nodes where these have no CPU free"
    if ask.cores is not None:
        more = min(more, int(ask.cores))
        if more <= ask.workers:
            return "stop what else runs on this machine, or use another host: no core is free for more --workers"
    return f"use --workers {more} or another host"


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a run: which code and side its findings have.

    text: what it does to the numbers; advice: what to do about it.
    """

    code: str
    side: Side

    def warning(self, seen: str, limit: str, text: str, advice: str) -> Finding:
        """Past the first limit."""
        return Finding(self.code, "warning", self.side, seen, limit, text, advice)

    def past(self, seen: str, limit: str, text: str, advice: str) -> Finding:
        """Past the second limit: invalid, or a result of the server's."""
        level: Level = "server" if self.side == "server" else "invalid"
        return Finding(self.code, level, self.side, seen, limit, text, advice)

    def graded(
        self, value: float, step: Step, *, seen: str, limit: Callable[[float], str], text: str, advice: str
    ) -> Iterator[Finding]:
        """Yield a finding where `value` is above a limit of `step`; `limit` words the limit that was passed."""
        if value > step.past:
            yield self.past(seen, limit(step.past), text, advice)
        elif value > step.warning:
            yield self.warning(seen, limit(step.warning), text, advice)


def worst(findings: Iterator[Finding]) -> Iterator[Finding]:
    """Keep the first of the gravest findings: one for each code and quantity is enough to act on."""
    held = list(findings)
    grave = [finding for finding in held if finding.level != "warning"]
    yield from (grave or held)[:1]
