"""What the workers of a live stream count, and what their counts say of a probe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from slobench.config.slo import Deadline, Limit, Slo, tightest_ttft_s
from slobench.experiment.probes import Offered
from slobench.experiment.stream import Counted, Probed
from slobench.generate.tally import Share
from slobench.generate.verdict import Rule
from slobench.metrics.ask import Thresholds
from slobench.records.counters import bin_of, quantile_s
from slobench.records.probe_counts import ProbeCount
from slobench.units import format_s


def share_of(counted: Counted) -> Share:
    """A share in the form in which it goes to the workers."""
    classes = tuple(sorted(counted.classes))
    match counted.what:
        case Limit(metric, limit_s, per_token_s):
            return Share(counted.name, classes, "rule", Rule(((metric, limit_s, per_token_s),)))
        case Deadline(first_s, each_s, share):
            return Share(counted.name, classes, "rule", Rule((), (first_s, each_s, share)))
        case what:
            return Share(counted.name, classes, what)


@dataclass(frozen=True, slots=True)
class Limits:
    """Past these send lags the client has spoiled a probe (V01): p99, and a lag that only `late_share` may exceed."""

    lag_s: float
    late_s: float
    late_share: float

    @classmethod
    def of(cls, slo: Slo, thresholds: Thresholds) -> Limits:
        """Shares of the tightest TTFT limit."""
        ttft_s = tightest_ttft_s(slo) or thresholds.default_ttft_s
        return cls(thresholds.v01_lag_of_s.past * ttft_s, thresholds.v01_late_of_s * ttft_s, thresholds.v01_late_share)


def probed_of(
    offered: Offered, counts: ProbeCount, counted_ns: tuple[int, int], counted: Sequence[Counted], limits: Limits
) -> Probed:
    """What the counts of a probe that has ended say; counted_ns: first and last counted arrival."""
    tallies = counts.tallies.tolist()
    return Probed(
        probe=offered.probe,
        digest=offered.digest,
        tallies={
            each.name: tuple((good, judged) for good, judged in batches)
            for each, batches in zip(counted, tallies, strict=True)
        },
        in_flight=tuple(counts.in_flight.tolist()),
        errors=counts.failed,
        mean_e2e_s=counts.means_s["e2e"],
        p99_e2e_s=quantile_s(counts.e2e, 0.99),
        start_s=counted_ns[0] / 1e9,
        end_s=counted_ns[1] / 1e9,
        mean_ttft_s=counts.means_s["ttft"],
        mean_tpot_s=counts.means_s["tpot"],
        curtailed=offered.curtailed,
        instrument=tuple(_instrument(counts, limits)),
    )


def _instrument(counts: ProbeCount, limits: Limits) -> Iterator[str]:
    """Findings of the client's side: V01 send lag, V02 requests that were not sent."""
    if counts.dropped:
        yield f"V02 {counts.dropped} requests dropped: more in flight than the safety stop allows"
    if counts.started:
        late = int(counts.lag[bin_of(round(limits.late_s * 1e9)) + 1 :].sum()) / counts.started
        yield from lag_findings(quantile_s(counts.lag, 0.99), late, limits)


def lag_findings(p99_s: float | None, late: float, limits: Limits) -> Iterator[str]:
    """V01: send lag p99 in s, and the share of sends that were later than `limits.late_s`."""
    if p99_s is not None and p99_s > limits.lag_s:
        yield f"V01 send lag p99 {format_s(p99_s)} > {format_s(limits.lag_s)}: the client is saturated"
    elif late > limits.late_share:
        yield f"V01 {late * 100:.2g} % of sends later than {format_s(limits.late_s)}: the client is saturated"
