"""The self-test: what this client can be believed for on this machine, measured against the null server."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import slobench
from slobench.config.target import NullTarget
from slobench.experiment.events import Step
from slobench.experiment.selftest_step import Bench, Kind, Offered, Ran, Seen, run_step, seen
from slobench.generate import native
from slobench.generate.pool import raise_fd_limit, usable_cores
from slobench.records import ceiling
from slobench.records.ceiling import Ceiling
from slobench.stats.quantiles import FloatArray
from slobench.targets.launch import start
from slobench.workload.variates import IntArray

_MS, _NS = 10**6, 10**9
_SEED = 20_240_501
_SHORT = NullTarget.model_validate({"kind": "null-server", "first_token": "5ms", "gap": "10ms", "step": "5ms"})
_LONG = NullTarget.model_validate({"kind": "null-server", "first_token": "5ms", "gap": "10ms", "step": "10ms"})
_SLOW = NullTarget.model_validate({"kind": "null-server", "first_token": "5ms", "gap": "1s", "step": "5ms"})
_OTHER_FDS = 256
_PORTS = 24_000  # of the local ephemeral ports, 28,232 by default on Linux
_SHORT_TOKENS = 2
_RIDERS_PER_S = 50.0  # short requests beside long ones: TTFT under that load
_OPEN_SHARE = 0.3  # of the request rate that was held: how fast long replies are begun
_FIRST_RATE = 400.0  # requests/s a worker, to begin with: any core of the last ten years holds it
_FIRST_TOKENS = 8000.0  # tokens/s a worker, the same
_STEP_S = 1.0  # around what is offered: processes start, the spool is read


@dataclass(frozen=True, slots=True)
class Settings:
    """How long it may take. budget_s: by kind of load, in their order; span_s: what one step offers.

    ratio: the search ends when the lowest level that failed is no more than this above the highest that held.
    """

    budget_s: Mapping[Kind, float] = field(default_factory=lambda: {"requests": 18.0, "tokens": 18.0, "streams": 14.0})
    span_s: float = 2.0
    ratio: float = 1.15
    tries: int = 2  # a level has failed when it failed so often: others use the machine too

    @property
    def total_s(self) -> float:
        """All of it."""
        return sum(self.budget_s.values())


QUICK = Settings({"requests": 7.0, "tokens": 7.0, "streams": 6.0}, span_s=1.0, ratio=1.5, tries=1)


@dataclass(frozen=True, slots=True)
class Envelope:
    """The result. held: by kind the highest level that was usable, exact: that was good; None: not even the lowest.

    busy: others had more to do here at the start than there are cores, so it is too small.
    open_ended: kinds of which no level failed in the time there was, so more may be possible.
    path: where the ceiling was saved; None where it was not.
    """

    workers: int
    cores: int
    receiver: str
    levels: tuple[Seen, ...]
    held: Mapping[Kind, float | None]
    exact: Mapping[Kind, float | None]
    open_ended: frozenset[Kind]
    took_s: float
    load_average: float
    busy: bool
    path: Path | None

    @property
    def complete(self) -> bool:
        """Whether some level of each kind held: only then there is a ceiling."""
        return all(level is not None for level in self.held.values())


@dataclass(slots=True)
class Ladder:
    """Levels to try: doubled until one fails (or halved until one holds), then halfway between on a log scale."""

    start: float
    ratio: float
    most: float = float("inf")
    low: float | None = None  # the highest that held
    high: float | None = None  # the lowest that failed

    def next(self) -> float | None:
        """The next level; None where there is nothing left to try."""
        if self.low is None:
            if self.high is None:
                return min(self.start, self.most)
            return self.high / 2 if self.high > self.start / 8 else None
        if self.high is None:
            return min(2 * self.low, self.most) if self.low < self.most else None
        return float(np.sqrt(self.low * self.high)) if self.high / self.low > self.ratio else None

    def note(self, level: float, *, held: bool) -> None:
        """Take in how a level went."""
        if held:
            self.low = max(level, self.low or 0.0)
        else:
            self.high = min(level, self.high or float("inf"))


@dataclass(frozen=True, slots=True)
class Load:
    """What one step offers, and the part of it (from, to, in s) that is judged."""

    offered: Offered
    span_s: tuple[float, float]


def short(rate: float, span_s: float) -> Load:
    """Poisson arrivals of short replies, requests/s."""
    due_s = _poisson(rate, span_s)
    return Load(Offered(_ns(due_s), np.full(len(due_s), _SHORT_TOKENS)), (0.0, span_s))


def long(tokens_per_s: float, open_rate: float, span_s: float) -> Load:
    """As many long replies as make the tokens, begun at `open_rate`, all to the end, and a few short ones beside."""
    gap_s = _LONG.gap / _NS
    streams = max(1, round(tokens_per_s * gap_s))
    begun_s = streams / open_rate
    due_s, end_s = np.arange(streams) / open_rate, begun_s + span_s
    tokens = np.ceil((end_s - due_s) / gap_s).astype(np.int64)
    riders_s = _poisson(_RIDERS_PER_S, end_s)
    due_ns = np.concatenate([_ns(due_s), _ns(riders_s)])
    order = np.argsort(due_ns, kind="stable")
    tokens = np.concatenate([tokens, np.full(len(riders_s), _SHORT_TOKENS)])
    return Load(Offered(due_ns[order], tokens[order]), (begun_s, end_s))


def opened(rate: float, span_s: float) -> Offered:
    """Replies of one token a second, begun evenly, all open at `span_s`, and ended as slowly as they were begun.

    Were they to end together, their ends would be the load: some 20,000 in one second.
    """
    due_s = np.arange(max(1, int(rate * span_s))) / rate
    return Offered(_ns(due_s), np.full(len(due_s), math.ceil(span_s / (_SLOW.gap / _NS)) + 1))


def _poisson(rate: float, span_s: float) -> FloatArray:
    random = np.random.default_rng(_SEED)
    due_s = np.cumsum(random.exponential(1 / rate, size=max(16, round(2 * rate * span_s))))
    return due_s[due_s < span_s]


def _ns(seconds: FloatArray) -> IntArray:
    return np.round(seconds * _NS).astype(np.int64)


def run_selftest(workers: int, settings: Settings, *, save: bool = True) -> Iterator[Step | Seen | Envelope]:
    """Measure; the last event is the Envelope. Raises TargetStartError, WorkerError, RecordsError."""
    began = time.monotonic()
    load_average = os.getloadavg()[0]
    fds = raise_fd_limit(0)
    levels: list[Seen] = []
    with tempfile.TemporaryDirectory(prefix="slobench-selftest-") as text:
        tried = _Tried(Path(text), workers, settings, fds)
        for events in (tried.requests(), tried.tokens(), tried.streams()):
            for event in events:
                if isinstance(event, Seen):
                    levels.append(event)
                yield event
    held, exact = ({kind: _highest(levels, kind, grades) for kind in settings.budget_s} for grades in _GRADES)
    busy = load_average > (os.cpu_count() or 1)
    found = None if busy else _ceiling(workers, held, levels)
    yield Envelope(
        workers=workers,
        cores=usable_cores(),
        receiver=native.kind(),
        levels=tuple(levels),
        held=held,
        exact=exact,
        open_ended=frozenset(tried.open_ended),
        took_s=time.monotonic() - began,
        load_average=load_average,
        busy=busy,
        path=ceiling.save(found) if found and save else None,
    )


_GRADES = (("good", "usable"), ("good",))


def _highest(levels: list[Seen], kind: Kind, grades: tuple[str, ...]) -> float | None:
    return max((each.level for each in levels if each.kind == kind and each.grade in grades), default=None)


def _ceiling(workers: int, held: Mapping[Kind, float | None], levels: list[Seen]) -> Ceiling | None:
    requests, tokens, streams = (held[kind] for kind in ("requests", "tokens", "streams"))
    if requests is None or tokens is None or streams is None:
        return None
    errors = [
        each.ttft_error_p99_s
        for each in levels
        if each.grade != "past" and each.level == held[each.kind] and each.ttft_error_p99_s is not None
    ]
    return Ceiling(
        machine=ceiling.machine_id(),
        workers=workers,
        requests_per_s=requests,
        tokens_per_s=tokens,
        streams=streams,
        version=slobench.__version__,
        measured=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        ttft_error_p99_s=max(errors, default=None),
        receiver=native.kind(),
    )


class _Tried:
    """The three searches, one after another; each uses what the one before has found."""

    def __init__(self, folder: Path, workers: int, settings: Settings, fds: int) -> None:
        self._folder, self._workers, self._settings = folder, workers, settings
        self._streams_most = min(fds - _OTHER_FDS, _PORTS) if fds > 0 else _PORTS
        self._request_rate = _FIRST_RATE / 2 * workers
        self._steps = 0
        self.open_ended: set[Kind] = set()
        """Kinds of which no level failed in the time there was."""

    def requests(self) -> Iterator[Step | Seen]:
        """Short replies, Poisson: how many a second can be sent on time and dated rightly."""
        ladder = Ladder(_FIRST_RATE * self._workers, self._settings.ratio)
        yield from self._search("requests", _SHORT, ladder, lambda level: short(level, self._settings.span_s))
        self._request_rate = ladder.low or self._request_rate

    def tokens(self) -> Iterator[Step | Seen]:
        """Long replies of 100 tokens/s each, in step as from a batch: how many tokens a second can be read."""
        ladder = Ladder(_FIRST_TOKENS * self._workers, self._settings.ratio)
        rate = _OPEN_SHARE * self._request_rate
        yield from self._search("tokens", _LONG, ladder, lambda level: long(level, rate, self._settings.span_s))

    def streams(self) -> Iterator[Step | Seen]:
        """Replies of one token a second, begun one after another and left open: how many at once."""
        settings = self._settings
        rate = _OPEN_SHARE * self._request_rate
        span_s = min(max((settings.budget_s["streams"] - _STEP_S) / 2, settings.span_s), self._streams_most / rate)
        with self._bench(_SLOW) as bench:
            yield Step(f"self-test: streams, opening {rate * span_s:,.0f} in {span_s:.0f} s")
            ran = self._run(bench, opened(rate, span_s))
        parts, failed = max(3, round(span_s / settings.span_s)), 0
        for part in range(parts):
            span = (part * span_s / parts, (part + 1) * span_s / parts)
            found = seen(bench, ran, "streams", float(np.sum(ran.offered.due_ns / _NS < span[1])), span)
            failed = 0 if found.grade != "past" else failed + 1
            yield found
            if failed == settings.tries:
                return
        if not failed:
            self.open_ended.add("streams")

    def _search(
        self, kind: Kind, target: NullTarget, ladder: Ladder, load: Callable[[float], Load]
    ) -> Iterator[Step | Seen]:
        settings = self._settings
        # Of each kind the first level is tried, however little time there is.
        ends = time.monotonic() + settings.budget_s[kind] - settings.span_s - _STEP_S
        with self._bench(target) as bench:
            while (level := ladder.next()) is not None and (level == ladder.start or time.monotonic() < ends):
                yield Step(f"self-test: {level:,.0f} {kind}/s")
                for _ in range(settings.tries):
                    what = load(level)
                    found = seen(bench, self._run(bench, what.offered), kind, level, what.span_s)
                    yield found
                    if found.grade != "past":
                        break
                ladder.note(level, held=found.grade != "past")
        if ladder.high is None:
            self.open_ended.add(kind)

    def _run(self, bench: Bench, offered: Offered) -> Ran:
        self._steps += 1
        return run_step(bench, offered, self._steps)

    @contextmanager
    def _bench(self, target: NullTarget) -> Iterator[Bench]:
        running = start(target, log=self._folder / f"null-{self._steps}" / "server.log")
        try:
            yield Bench(target, running, self._workers, self._folder)
        finally:
            running.stop()
