"""Validity check of a load that comes from several hosts: are their clocks one (V21)."""

from __future__ import annotations

from collections.abc import Iterator

from slobench.metrics.case import Case, Check
from slobench.metrics.summary import Finding
from slobench.units import format_s

V21 = Check("V21", "instrument")


def clocks(case: Case) -> Iterator[Finding]:
    """V21: how far the clocks of several hosts are known: a send lag that none of them sees."""
    if not case.ask.clocks:
        return
    host, error_s = max(case.ask.clocks.items(), key=lambda each: each[1])
    yield from V21.graded(
        error_s / case.ttft_s, case.ask.thresholds.v21_clock_of_s, limit=case.of_ttft,
        seen=f"clock of {host} known to ±{format_s(error_s)}",
        text="its requests may have been sent that much before or after their time, which its own records cannot show; "
        "latencies are differences on one host and stay true",
        advice="have chrony or ntpd discipline the clocks of all hosts; keep other traffic off Ray's network",
    )  # fmt: skip
