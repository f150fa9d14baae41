"""Synthetic records with known latencies, for the metrics tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from slobench.config.slo import parse_slo
from slobench.metrics.ask import Ask
from slobench.metrics.evaluate import Evaluation, evaluate
from slobench.records.schema import Records

S = 10**9


@dataclass
class Run:
    """Records under construction: plain arrays that a test may change before it builds them.

    Times in seconds. By default every request is a clean success: begun when scheduled, first token after
    `ttft`, then one token each `gap`, over a connection that was open.
    """

    scheduled: np.ndarray[Any, np.dtype[np.float64]]
    tokens: int = 8
    ttft: float = 0.05
    gap: float = 0.01
    ask: Ask = field(default_factory=Ask)
    slo: tuple[str, ...] = ("ttft<500ms", "tpot<50ms")
    columns: dict[str, Any] = field(default_factory=dict)
    chunks: dict[str, Any] | None = None
    telemetry: list[tuple[float, str, str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        n = len(self.scheduled)
        ns = np.rint(np.asarray(self.scheduled, dtype=np.float64) * S)
        first = ns + self.ttft * S
        last = first + (self.tokens - 1) * self.gap * S
        null = np.full(n, np.nan)
        self.columns = {
            "index": np.arange(n, dtype=np.int64),
            "class": np.full(n, "chat", dtype="<U9"),
            "session": np.arange(n, dtype=np.int64),
            "turn": np.zeros(n, dtype=np.int32),
            "worker": np.zeros(n, dtype=np.int32),
            "backend": np.full(n, ""),
            "scheduled_ns": ns,
            "started_ns": ns + 50_000.0,
            "connected_ns": ns + 60_000.0,
            "sent_ns": ns + 100_000.0,
            "headers_ns": first.copy(),
            "first_token_ns": first,
            "first_output_ns": first.copy(),
            "last_token_ns": last,
            "end_ns": last + 100_000.0,
            "input_tokens_planned": np.full(n, 100, dtype=np.int64),
            "output_tokens_planned": np.full(n, self.tokens, dtype=np.int64),
            "input_tokens": np.full(n, 100.0),
            "output_tokens": np.full(n, float(self.tokens)),
            "reasoning_tokens": null.copy(),
            "cached_tokens": null.copy(),
            "first_chunk_tokens": np.ones(n),
            "chunks": np.full(n, float(self.tokens)),
            "reads": np.full(n, float(self.tokens)),
            "tokens_source": np.full(n, "usage", dtype="<U9"),
            "priority": null.copy(),
            "outcome": np.full(n, "ok", dtype="<U24"),
            "http_status": np.full(n, 200.0),
            "error": np.full(n, "", dtype=object),
            "finish_reason": np.full(n, "length", dtype=object),
            "connection_new": np.zeros(n),
            "reconnects": np.zeros(n),
            "receive_lag_max_ns": np.full(n, 20_000.0),
            "first_token_error_ns": null.copy(),
        }

    def __getitem__(self, name: str) -> Any:
        return self.columns[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.columns[name] = value

    def fail(self, rows: Any, outcome: str, error: str = "", status: float = np.nan) -> None:
        """Turn requests into failures that never saw a token."""
        for name in ("headers_ns", "first_token_ns", "first_output_ns", "last_token_ns"):
            self.columns[name][rows] = np.nan
        for name in ("output_tokens", "input_tokens", "chunks", "first_chunk_tokens"):
            self.columns[name][rows] = np.nan
        self.columns["outcome"][rows] = outcome
        self.columns["error"][rows] = error
        self.columns["http_status"][rows] = status

    def built_chunks(self) -> dict[str, Any]:
        """Evenly spaced token events from first to last token, one for each in `chunks`."""
        if self.chunks is not None:
            return self.chunks
        first, last = self["first_token_ns"], self["last_token_ns"]
        events = np.where(np.isnan(first), 0, np.nan_to_num(self["chunks"])).astype(int)
        index = np.repeat(self["index"], events)
        k = np.concatenate([np.arange(e) for e in events]) if events.sum() else np.empty(0)
        steps = np.repeat(np.maximum(events - 1, 1), events)
        start = np.repeat(np.nan_to_num(first), events)
        span = np.repeat(np.nan_to_num(last - first), events)
        total = len(index)
        return {
            "index": index,
            "t_ns": np.rint(start + span * k / steps).astype(np.int64),
            "tokens": np.full(total, np.nan),
            "bytes": np.full(total, 200, dtype=np.int64),
            "channel": np.zeros(total, dtype=np.int8),
            "lag_ns": np.full(total, 20_000, dtype=np.int64),
            "coalesced": np.zeros(total, dtype=np.bool_),
        }

    def records(self) -> Records:
        """Return the records as evaluation takes them."""
        rows = self.telemetry
        telemetry: Mapping[str, Any] = {
            "t_ns": np.array([round(at * S) for at, *_ in rows], dtype=np.int64),
            "source": np.array([source for _, source, *_ in rows], dtype=np.str_),
            "name": np.array([name for *_, name, _ in rows], dtype=np.str_),
            "labels": np.full(len(rows), "", dtype=np.str_),
            "value": np.array([value for *_, value in rows], dtype=np.float64),
        }
        return Records(self.columns, self.built_chunks(), telemetry)

    def evaluate(self) -> Evaluation:
        """Evaluate the records against the SLO."""
        return evaluate(self.records(), parse_slo(self.slo), self.ask)

    def sample(self, name: str, values: Any, source: str = "worker-0", start: float = 0.0, step: float = 1.0) -> None:
        """Add telemetry of one worker, evenly spaced."""
        self.telemetry += [(start + step * i, source, name, float(value)) for i, value in enumerate(values)]


def poisson(rate: float, duration: float, seed: int = 1) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Arrivals in [0, duration)."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(1 / rate, size=int(rate * duration * 2 + 50))
    times = np.cumsum(gaps)
    return times[times < duration]


@pytest.fixture(scope="session")
def clean() -> Callable[..., Run]:
    """Build a clean run: Poisson 20/s for 60 s, replies of 0.12 s, and the telemetry of a calm worker."""

    def build(rate: float = 20.0, duration: float = 60.0, seed: int = 1, **ask: Any) -> Run:
        asked: dict[str, Any] = {"duration_s": duration, "forces_length": True, "ids_sent": True, "timeout_s": 120.0}
        run = Run(poisson(rate, duration + 0.3, seed), ask=Ask(**(asked | ask)))
        run.sample("heartbeat_overshoot_ns", [80_000] * int(duration * 20), step=0.05)
        run.sample("cpu_s", np.arange(int(duration) + 1) * 0.2)
        run.sample("throttled_s", [0.0] * int(duration))
        run.sample("steal_share", [0.0] * int(duration))
        run.sample("gc_pause_ns", [50_000] * 10)
        run.sample("open_fds", [40] * int(duration))
        run.sample("fd_limit", [1024] * int(duration))
        return run

    return build


@pytest.fixture(scope="session")
def make() -> type[Run]:
    """Return the builder of synthetic runs."""
    return Run


@pytest.fixture(scope="session")
def one() -> Callable[..., Run]:
    """Build a single request scheduled at 1 s: first token after 50 ms, 8 tokens 10 ms apart."""

    def build(**changes: float) -> Run:
        run = Run(np.array([1.0]))
        for name, value in changes.items():
            run[name] = np.array([value])
        return run

    return build
