"""Whether a request met its limits, said when it ends: the twin, for one request, of metrics/slo.py."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from slobench.generate.exchange import Exchange
from slobench.names import NULL, Outcome
from slobench.wire.reply import Reply
from slobench.wire.sink import ChunkSink

NS = 1e9
_EARLY = frozenset({Outcome.CANCELLED, Outcome.CUT})
_CAN_BE_VACUOUS = frozenset({"tpot", "max_gap"})


@dataclass(frozen=True, slots=True)
class Rule:
    """What is asked of each request of a class.

    limits: (metric, limit_s, per_token_s); deadline: (first_s, each_s, share), config.slo.Deadline.
    """

    limits: tuple[tuple[str, float, float], ...] = ()
    deadline: tuple[float, float, float] | None = None

    @property
    def needs_events(self) -> bool:
        """Whether it can be judged only where the time of each token event is known."""
        return self.deadline is not None or any(metric == "max_gap" for metric, _, _ in self.limits)


class Events:
    """A chunk sink that keeps the times and tokens of one reply's events, and passes them on."""

    __slots__ = ("_add", "times_ns", "tokens")

    packed = None  # each event must come by

    def __init__(self, sink: ChunkSink) -> None:
        self._add = sink.add
        self.times_ns: list[int] = []
        self.tokens: list[int] = []

    def add(
        self,
        index: int,
        t_ns: int,
        tokens: int,
        nbytes: int,
        channel: int,
        lag_ns: int,
        coalesced: bool,  # noqa: FBT001 (as in ChunkSink)
        /,
    ) -> None:
        """Keep one token event and pass it on."""
        self.times_ns.append(t_ns)
        self.tokens.append(tokens)
        self._add(index, t_ns, tokens, nbytes, channel, lag_ns, coalesced)


class Seen(NamedTuple):
    """A request that has ended, as far as limits are about it. input_tokens, output_tokens: as planned."""

    exchange: Exchange
    outcome: Outcome
    input_tokens: int
    output_tokens: int
    events: Events | None = None

    @property
    def reply(self) -> Reply:
        """Its reply."""
        return self.exchange.reply

    def since_scheduled_s(self, t_ns: int) -> float:
        """Seconds from its scheduled time, NaN where `t_ns` is NULL."""
        return math.nan if t_ns == NULL else (t_ns - self.exchange.scheduled_ns) / NS


def judge(rule: Rule, seen: Seen) -> bool | None:
    """Whether the request is good; None where that cannot be said, and it is left out of both sides.

    Failures are not good. One that ended early by us is judged on the limits already due.
    """
    if seen.outcome is Outcome.OK:
        held = list(_each(rule, seen))
        return None if None in held else all(held)
    if seen.outcome in _EARLY:
        known = [met for met in _each(rule, seen) if met is not None]
        return all(known) if known else None
    return None if seen.outcome is Outcome.UNSENT else False


def counted(outcome: Outcome, cancelled: str, *, good: bool | None) -> bool | None:
    """A verdict, by what the SLO says of requests whose users disconnected (config.slo.CancelledAs)."""
    if outcome is not Outcome.CANCELLED or cancelled == "judged":
        return good
    return False if cancelled == "missed" else None


def _each(rule: Rule, seen: Seen) -> Iterator[bool | None]:
    ok = seen.outcome is Outcome.OK
    for metric, limit_s, per_token_s in rule.limits:
        allowed_s = limit_s
        if per_token_s:
            counted = seen.reply.input_tokens
            allowed_s += per_token_s * (seen.input_tokens if counted == NULL else counted)
        yield _met(metric, allowed_s, seen) if ok else _met_early(metric, allowed_s, seen)
    if rule.deadline is not None:
        yield _on_time(*rule.deadline, seen)


def _met(metric: str, allowed_s: float, seen: Seen) -> bool | None:
    """Judge one limit on a reply that is whole."""
    seconds = value_s(metric, seen)
    if not math.isnan(seconds):
        return seconds <= allowed_s
    # A reply that streamed, or that had one token at most, has no gap to judge; another's is unknown.
    one_token = NULL < seen.reply.output_tokens <= 1
    return True if metric in _CAN_BE_VACUOUS and (seen.reply.first_token_ns != NULL or one_token) else None


def value_s(metric: str, seen: Seen) -> float:
    """A quantity of the request in seconds, NaN where it does not exist."""
    reply = seen.reply
    match metric:
        case "ttft":
            return seen.since_scheduled_s(reply.first_token_ns)
        case "ttfo":
            return seen.since_scheduled_s(reply.first_output_ns)
        case "e2e":
            return seen.since_scheduled_s(reply.last_token_ns)
        case "tpot":
            first_ns, last_ns = reply.first_token_ns, reply.last_token_ns
            at_once = first_ns == NULL or last_ns <= first_ns or reply.chunks in (0, 1)
            return (
                math.nan
                if at_once or reply.output_tokens <= 1
                else (last_ns - first_ns) / NS / (reply.output_tokens - 1)
            )
        case "max_gap":
            return _max_gap_s(seen.events)
    raise ValueError(f"no metric {metric!r}")


def _max_gap_s(events: Events | None) -> float:
    if events is None or len(events.times_ns) < 2:
        return math.nan
    return max(after - before for before, after in pairwise(sorted(events.times_ns))) / NS


def _met_early(metric: str, allowed_s: float, seen: Seen) -> bool | None:
    """Judge a limit on a request that we ended: True met, False missed before the end, None not due yet."""
    lived_s = seen.since_scheduled_s(seen.exchange.end_ns)
    if metric in {"ttft", "ttfo"}:
        seconds = value_s(metric, seen)
        if not math.isnan(seconds):
            return seconds <= allowed_s
        return False if lived_s > allowed_s else None
    if metric == "e2e":
        return False if lived_s > allowed_s else None
    if metric == "max_gap":
        last_ns = seen.reply.last_token_ns
        silent_s = math.nan if last_ns == NULL else (seen.exchange.end_ns - last_ns) / NS
        return False if _max_gap_s(seen.events) > allowed_s or silent_s > allowed_s else None
    return None  # TPOT is due when the last token is


def _on_time(first_s: float, each_s: float, share: float, seen: Seen) -> bool | None:
    """Token i is due at scheduled + first + (i-1)*each, without reset; good where enough were on time."""
    tokens = _event_tokens(seen)
    times_ns = seen.events.times_ns if seen.events else []
    on_time = through = 0.0
    for t_ns, n in sorted(zip(times_ns, tokens, strict=True), key=lambda event: event[0]):
        through += n
        first_in_time = math.ceil((seen.since_scheduled_s(t_ns) - first_s) / each_s - 1e-9) + 1
        on_time += min(max(through - max(first_in_time, through - n + 1) + 1, 0.0), n)
    due = through
    if seen.outcome is not Outcome.OK:
        lived_s = seen.since_scheduled_s(seen.exchange.end_ns)
        due = min(max(math.floor((lived_s - first_s) / each_s + 1e-9) + 1, 0), seen.output_tokens)
    elif seen.reply.first_token_ns == NULL:
        return None
    return min(on_time, due) / due >= share - 1e-9 if due > 0 else None


def _event_tokens(seen: Seen) -> list[float]:
    """Tokens of each event: as the server said, else its share of what the reply's total leaves over."""
    if seen.events is None:
        return []
    said, total = seen.events.tokens, seen.reply.output_tokens
    missing = said.count(NULL)
    if not missing:
        return [float(n) for n in said]
    known = sum(n for n in said if n != NULL)
    each = 1.0 if total == NULL else max(total - known, 0) / missing
    return [each if n == NULL else float(n) for n in said]


def rules_of(
    names: Iterable[str],
    limits: Mapping[str, list[tuple[str, float, float]]],
    deadlines: Mapping[str, tuple[float, float, float]],
) -> list[Rule | None]:
    """The rule of each class, by its code; None: not judged, as others have limits and it has none."""
    judged = limits.keys() | deadlines.keys()
    return [
        Rule(tuple(limits.get(name, ())), deadlines.get(name)) if name in judged or not judged else None
        for name in names
    ]
