"""Client pools as ServeGen publishes them: for each client and window a rate and a law of gaps.

Files chunk-N-trace.csv, one a client, no head: window start in s, requests/s, cv, `Gamma`, `Weibull` or nothing for
an idle window, shape, scale [github.com/alibaba/ServeGen, data/; Xiang and others, arXiv:2505.09999].
"""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from slobench.errors import ConfigError

Law = Literal["Gamma", "Weibull", ""]

_FILE = re.compile(r"chunk-([0-9]+)-trace\.csv")
_LEAST_WINDOW_S = 1.0
_EXPECTED = "  expected  window_start_s,rate,cv,pattern,shape,scale, starts in order"


@dataclass(frozen=True, slots=True)
class Window:
    """From `start_s` to the next window's: requests/s, and the law of gaps with its shape ("" where idle)."""

    start_s: float
    rate: float
    law: Law
    shape: float


@dataclass(frozen=True, slots=True)
class Client:
    """One client of a pool by its number; its last window ends at `end_s`."""

    number: int
    windows: tuple[Window, ...]
    end_s: float


@lru_cache(maxsize=4)
def read_pool(folder: str) -> tuple[Client, ...]:
    """Read every client's windows, by number. Raises ConfigError for a folder without them, or a line that is wrong."""
    found = {}
    try:
        for path in Path(folder).iterdir():
            if match := _FILE.fullmatch(path.name):
                found[int(match[1])] = path
    except OSError as error:
        raise ConfigError(f"cannot read {folder}: {error.strerror}\n  expected  a folder of a ServeGen pool") from None
    if not found:
        raise ConfigError(f"{folder} holds no client pool\n  expected  files chunk-0-trace.csv, chunk-1-trace.csv, …")
    return tuple(_client(number, path) for number, path in sorted(found.items()))


def recorded_rate(folder: str, from_s: float = 0.0, to_s: float | None = None) -> float:
    """Requests/s of the whole pool on average between two times of the record; None: to its end.

    Raises ConfigError where nothing was recorded then.
    """
    clients = read_pool(folder)
    end_s = max(client.end_s for client in clients)
    upto_s = end_s if to_s is None else to_s
    if not 0 <= from_s < upto_s <= end_s:
        raise ConfigError(
            f"{folder}: recorded from 0s to {end_s:g}s; asked for {from_s:g}s to {upto_s:g}s\n"
            "  expected  `from` before `to`, both within the record"
        )
    total = sum(_requests(client, from_s, upto_s) for client in clients)
    if total <= 0:
        raise ConfigError(f"{folder}: no client is active from {from_s:g}s to {upto_s:g}s\n  expected  other times")
    return total / (upto_s - from_s)


def _requests(client: Client, from_s: float, to_s: float) -> float:
    total = 0.0
    for window, end_s in zip(client.windows, ends_s(client), strict=True):
        total += window.rate * max(min(end_s, to_s) - max(window.start_s, from_s), 0.0)
    return total


def ends_s(client: Client) -> tuple[float, ...]:
    """When each window ends."""
    return (*(window.start_s for window in client.windows[1:]), client.end_s)


def _client(number: int, path: Path) -> Client:
    windows: list[Window] = []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for line, row in enumerate(csv.reader(file), 1):
                if row:
                    windows.append(_window(row, f"{path}:{line}", windows[-1].start_s if windows else -math.inf))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read {path}: {reason}\n{_EXPECTED}") from None
    if not windows:
        raise ConfigError(f"{path} is empty\n{_EXPECTED}")
    last = windows[-1].start_s
    length_s = last - windows[-2].start_s if len(windows) > 1 else 600.0
    return Client(number, tuple(windows), last + length_s)


def _window(row: list[str], place: str, before_s: float) -> Window:
    law = row[3].strip() if len(row) == 6 else "?"
    try:
        start_s, rate = float(row[0]), float(row[1] or 0)
        shape = float(row[4] or 0) if law else 0.0
    except (ValueError, IndexError):
        start_s = math.nan
    if law not in {"Gamma", "Weibull", ""} or not (
        start_s >= max(before_s + _LEAST_WINDOW_S, 0) and start_s < math.inf
    ):
        raise ConfigError(f"{place}: cannot read {','.join(row)[:60]!r}\n{_EXPECTED}")
    active = law != "" and rate > 0
    if not (0 <= rate < math.inf) or (active and not 0 < shape < math.inf):
        raise ConfigError(f"{place}: rate {row[1]}, shape {row[4]}\n{_EXPECTED}")
    return Window(start_s, rate if active else 0.0, law if active else "", shape)  # type: ignore[arg-type]
