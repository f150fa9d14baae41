"""Durations and rates as people write them, and back."""

from __future__ import annotations

import re

from slobench.errors import ConfigError

_NS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 10**9, "m": 60 * 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}
_DURATION = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([a-zµ]*)\s*", re.IGNORECASE)


def parse_duration_ns(text: str | float) -> int:
    """Nanoseconds of "500ms", "1.5s", "2m", "1h"; a bare number is seconds.

    Raises ConfigError for anything else, and for a negative or non-finite number.
    """
    match = _DURATION.fullmatch(str(text))
    unit = (match[2] or "s").lower() if match else ""
    if match is None or unit not in _NS:
        raise ConfigError(
            f"cannot read duration {str(text)!r}\n"
            "  expected  a number and a unit, e.g. 500ms, 30s, 2m, 1h (no unit: seconds)"
        )
    value = float(match[1]) * _NS[unit]
    if value >= 2**63:
        raise ConfigError(f"duration {str(text)!r} is too long\n  expected  less than 292 years")
    return round(value)


def format_s(seconds: float) -> str:
    """A time for people: "31 ms", "2.62 s", "3 min 05 s"."""
    magnitude = abs(seconds)
    if magnitude >= 120:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02d} s"
    if magnitude >= 1:
        return f"{seconds:.3g} s" if magnitude < 100 else f"{seconds:.0f} s"
    if magnitude >= 1e-3 or seconds == 0:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds * 1e6:.3g} µs"
