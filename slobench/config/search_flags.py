"""What the flags of `capacity` say of the search, as numbers."""

from __future__ import annotations

import math
import re

from slobench.config.problems import clip
from slobench.errors import UsageError
from slobench.units import parse_duration_ns

_SHARE = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*(%?)\s*")
_COUNT = re.compile(r"[0-9][0-9_,]*")


def parse_share(text: str, flag: str, *, most: float) -> float:
    """Read `3%` or `0.03`, above 0 and below `most`. Raises UsageError."""
    match = _SHARE.fullmatch(text)
    share = float(match[1]) / (100 if match[2] else 1) if match else math.nan
    if not 0 < share < most:
        raise UsageError(f"{flag}: cannot be {clip(text)}\n  expected  a share such as 3%, below {most:.0%}")
    return share


def parse_budget(text: str) -> tuple[int | None, float | None]:
    """Read `20000` (requests) or `12m` (time): requests, seconds. Raises UsageError."""
    if _COUNT.fullmatch(text.strip()):
        requests = int(text.strip().replace("_", "").replace(",", ""))
        if requests < 1:
            raise UsageError("--budget: cannot be 0\n  expected  a number of requests, e.g. 20000, or a time, e.g. 12m")
        return requests, None
    return None, parse_duration_ns(text) / 1e9
