"""Can the numbers be believed: every check of docs/metrics.md, Validity; silent where it has nothing to look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from slobench.metrics import checks_hosts as hosts
from slobench.metrics import checks_instrument as instrument
from slobench.metrics import checks_records as records
from slobench.metrics import checks_server as server
from slobench.metrics import checks_telemetry as telemetry
from slobench.metrics import checks_workload as workload
from slobench.metrics.case import Case
from slobench.metrics.summary import Finding, LatencyTable

ORDER = {"invalid": 0, "server": 1, "warning": 2}


def findings(case: Case, latency: Mapping[str, LatencyTable]) -> tuple[Finding, ...]:
    """All findings of a run, the gravest first, then by code.

    latency: the error-adjusted tables by class, whose judged quantiles V09 looks at.
    """
    found = [*_all(case), *workload.precision(case, latency)]
    return tuple(sorted(found, key=lambda finding: (ORDER[finding.level], finding.code)))


def _all(case: Case) -> Iterator[Finding]:
    for check in (
        instrument.send_lag,
        instrument.delivery,
        instrument.heartbeat,
        instrument.processor,
        instrument.coalescing,
        instrument.connections,
        server.stationarity,
        workload.length,
        workload.settled,
        server.errors,
        workload.tokens,
        workload.stream_shape,
        records.accounting,
        telemetry.foreign_load,
        telemetry.first_tokens,
        instrument.headroom,
        telemetry.prefix_hits,
        workload.arrivals,
        workload.judgeable,
        telemetry.sharing_kept,
        hosts.clocks,
    ):
        yield from check(case)


def verdict(found: tuple[Finding, ...]) -> tuple[bool, str]:
    """Return (valid, the verdict line): `VALID`, `VALID (warnings: V08, V12)`, or INVALID with the first reason."""
    invalid = [finding for finding in found if finding.level == "invalid"]
    if invalid:
        first, *others = invalid
        why = f"{first.text}; {first.advice}" if first.advice else first.text
        more = sorted({finding.code for finding in others} - {first.code})
        also = f" (also {', '.join(more)})" if more else ""
        return False, f"INVALID: {first.code} {first.seen} > {first.limit}: {why}{also}"
    results = [f"{finding.code} {finding.seen.partition(':')[0]}" for finding in found if finding.level == "server"]
    warnings = sorted({finding.code for finding in found if finding.level == "warning"})
    parts = [f"server: {', '.join(results)}"] if results else []
    parts += [f"warnings: {', '.join(warnings)}"] if warnings else []
    return True, f"VALID ({'; '.join(parts)})" if parts else "VALID"
