"""Durations and rates as people write them, and back."""

from __future__ import annotations

import re
from decimal import Decimal, DecimalException

from slobench.errors import ConfigError

_NS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,  # U+00B5, the micro sign
    "μs": 10**3,  # U+03BC, the Greek letter
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "min": 60 * 10**9,
    "h": 3600 * 10**9,
}
_PRINTED = ("h", "m", "s", "ms", "us", "ns")
_DURATION = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([a-zµμ]*)\s*", re.IGNORECASE)


def parse_duration_ns(text: str | float) -> int:
    """Return the nanoseconds of "500ms", "1.5s", "2m", "1h"; a bare number is seconds.

    Raises ConfigError for anything else, and for a negative or non-finite number.
    """
    match = _DURATION.fullmatch(str(text))
    unit = (match[2] or "s").lower() if match else ""
    if match is None or unit not in _NS:
        raise ConfigError(
            f"cannot read duration {str(text)!r}\n"
            "  expected  a number and a unit, e.g. 500ms, 30s, 2m, 1h (no unit: seconds)"
        )
    try:
        value = Decimal(match[1]) * _NS[unit]
    except DecimalException:  # an exponent beyond what a Decimal holds
        value = Decimal("Infinity")
    if value >= 2**63:
        raise ConfigError(f"duration {str(text)!r} is too long\n  expected  less than 292 years")
    return round(value)


def format_duration_ns(duration_ns: int) -> str:
    """Word a duration as exactly what `parse_duration_ns` reads back, in the largest unit that needs no fraction."""
    unit = next(unit for unit in _PRINTED if duration_ns % _NS[unit] == 0) if duration_ns else "s"
    return f"{duration_ns // _NS[unit]}{unit}"


def format_s(seconds: float) -> str:
    """Word a time for people: "31 ms", "2.62 s", "3 min 05 s"."""
    magnitude = abs(seconds)
    if magnitude >= 120:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02d} s"
    if magnitude >= 1:
        return f"{seconds:.3g} s" if magnitude < 100 else f"{seconds:.0f} s"
    if magnitude >= 1e-3 or seconds == 0:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds * 1e6:.3g} µs"
