"""Numbers and foreign text as a reader sees them: three significant digits, null as –, nothing executable."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from slobench.metrics.summary import Estimate

ABSENT = "–"

METRICS = {
    "ttft": "TTFT",
    "ttfo": "TTFO",
    "tpot": "TPOT",
    "tpot_adjusted": "TPOT adjusted",
    "itl": "ITL",
    "icl": "ICL",
    "max_gap": "max gap",
    "e2e": "E2E",
    "ttft_sent": "TTFT from send",
    "e2e_sent": "E2E from send",
    "send_lag": "send lag",
}
"""Metric name in a summary -> the field's name for it, in the order of a table."""

MEANINGS = {
    "TTFT": "time to first token, from the scheduled send time",
    "TTFO": "time to the first output token (content or tool call), from the scheduled send time",
    "TPOT": "time per output token after the first, one value per request",
    "ITL": "inter-token latency: single gaps between tokens",
    "ICL": "inter-chunk latency: gaps between events that may carry several tokens",
    "max gap": "longest pause between two token events of a request",
    "E2E": "last token, from the scheduled send time",
}

# C0, C1 and DEL could drive a terminal; the rest reorder, hide or split what is read (bidi, zero width, U+2028).
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def clean(text: object, limit: int = 500) -> str:
    """Text from a server or a file on one line: control and bidi characters become visible escapes."""
    shown = str(text)[: limit + 1]
    shown = re.sub(r"[\r\n\t]+", " ", shown)
    shown = _UNSAFE.sub(_visible, shown)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _visible(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def three(value: float, significant: int = 3) -> str:
    """Three significant digits, never an exponent: 1,234 · 123 · 12.3 · 1.23 · 0.0123."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else ABSENT if math.isnan(value) else "∞" if value > 0 else "-∞"
    digits = significant - 1 - math.floor(math.log10(abs(value)))
    digits = significant - 1 - math.floor(math.log10(abs(round(value, digits))))  # 99.96 rounds to 100, not 100.0
    return f"{value:,.{max(0, digits)}f}"


def count(value: float | None) -> str:
    """Return a whole number with thousands separators; – where null."""
    return ABSENT if value is None or math.isnan(value) else f"{value:,.0f}"


def percent(share: float | None, bound: float | None = None) -> str:
    """Return a share as a percentage that never rounds up to 100 % or down to 0 %, nor onto or across `bound`."""
    if share is None or math.isnan(share):
        return ABSENT
    if share in {0.0, 1.0}:
        return f"{share * 100:.0f} %"
    for digits in range(1, 4 if bound is None else 9):
        shown = f"{share * 100:.{digits}f}"
        if 0 < float(shown) < 100 and _same_side(float(shown), share * 100, bound and bound * 100):
            return f"{shown} %"
    return "> 99.999 %" if share > 0.5 else "< 0.001 %"


def _same_side(shown: float, value: float, bound: float | None) -> bool:
    """Whether the rounded number stands to the bound as the exact one does: what is printed is what was judged."""
    if bound is None:
        return True
    near = 1e-9 * max(1.0, abs(bound))
    return _side(shown - bound, near) == _side(value - bound, near)


def _side(difference: float, near: float) -> int:
    return 0 if abs(difference) <= near else 1 if difference > 0 else -1


def multiple(value: float | None) -> str:
    """Return how many times: `4.17×`."""
    return ABSENT if value is None else f"{three(value)}×"


def rate(value: float | None, unit: str = "req/s") -> str:
    """Return a rate with its unit."""
    return ABSENT if value is None else f"{three(value)} {unit}"


def seconds(value: float | None, bound: float | None = None) -> str:
    """Return a time in the unit that suits it, never rounded onto or across `bound`."""
    if value is None or math.isnan(value):
        return ABSENT
    if math.isinf(value):
        return "∞"
    scale, unit = _unit(value)
    shown = three(value * scale)
    for significant in range(4, 12):
        if _same_side(float(shown.replace(",", "")), value * scale, bound and bound * scale):
            break
        shown = three(value * scale, significant)
    return f"{shown} {unit}"


def _unit(value: float) -> tuple[float, str]:
    magnitude = abs(value)
    if magnitude >= 0.9995:
        return 1.0, "s"
    return (1e3, "ms") if magnitude >= 0.9995e-3 or value == 0 else (1e6, "µs")


def latency(estimate: Estimate, bound: float | None = None) -> str:
    """Return the value of a latency estimate; a censored one reads `> 120 s`."""
    return next((note for note in notes_of(estimate) if note.startswith(">")), seconds(estimate.value, bound))


def notes_of(estimate: Estimate) -> tuple[str, ...]:
    """Return the words beside an estimate, one by one."""
    return tuple(note for note in estimate.note.split(", ") if note)


def latency_interval(estimate: Estimate) -> str:
    """Return the 95 % interval of a latency, in the unit of its value: `[40.2, 44.0] ms`."""
    if estimate.value is None or math.isinf(estimate.value):
        return _interval(estimate, seconds, "")
    scale, unit = _unit(estimate.value)
    return _interval(estimate, lambda value: three(value * scale), f" {unit}")


def percent_interval(estimate: Estimate) -> str:
    """Return the 95 % interval of a share, in percent: `[97.9, 99.6]`."""
    return _interval(estimate, lambda share: percent(share).removesuffix(" %"), "")


def rate_interval(estimate: Estimate) -> str:
    """Return the 95 % interval of a rate, without its unit: `[11.1, 11.9]`."""
    return _interval(estimate, three, "")


def multiple_interval(estimate: Estimate) -> str:
    """Return the 95 % interval of a multiple: `[2.1, 7.9]×`."""
    return _interval(estimate, three, "×")


def _interval(estimate: Estimate, show: Callable[[float], str], unit: str) -> str:
    if estimate.low is None or estimate.high is None:
        return ABSENT
    close = ")" if math.isinf(estimate.high) else "]"
    return f"[{show(estimate.low)}, {show(estimate.high)}{close}{unit}"


def weight(estimate: Estimate) -> tuple[str, str, str]:
    """n, n_eff and the design effect D of an estimate."""
    return (
        count(estimate.n) if estimate.n else ABSENT,
        ABSENT if estimate.n_eff is None else three(estimate.n_eff) if estimate.n_eff < 10 else count(estimate.n_eff),
        ABSENT if estimate.design_effect is None else three(estimate.design_effect),
    )


def metric_name(metric: str) -> str:
    """Return the field's name for a metric key; an unknown key reads as it is."""
    return METRICS.get(metric, clean(metric, 40))
