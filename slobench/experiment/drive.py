"""A search on a stream: offers what the search decides, never lets the load wait for a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from slobench.experiment.events import Event, Progress
from slobench.experiment.search import Drain, End, Offer, decide, refined_by
from slobench.experiment.search_state import History, Reason, Settings, cost
from slobench.experiment.stream import Probe, Probed, Stream


@dataclass(frozen=True, slots=True)
class Advanced:
    """The search knows more: a probe was begun (`now`), or some have ended."""

    history: History
    now: Probe | None


@dataclass(frozen=True, slots=True)
class Ended:
    """The search is over."""

    history: History
    reason: Reason


def drive(
    settings: Settings, stream: Stream, history: History, stopped: Callable[[], bool] = lambda: False
) -> Iterator[Event | Advanced | Ended]:
    """Search on a stream from a history on; the last event is Ended.

    `stopped`: whether the user wants it to end; what is in flight is then waited for.
    """
    before = history
    while True:
        if stopped():
            for event in stream.drain():
                history = _seen(history, event)
                yield event
            yield Ended(_note(settings, _spent(history, before, stream), stream.finished()), "interrupted")
            return
        move = decide(settings, history)
        if isinstance(move, End):
            yield Ended(history, move.reason)
            return
        if isinstance(move, Drain):
            for event in stream.drain():
                history = _seen(history, event)
                yield event
            history = _note(settings, _spent(history, before, stream), stream.finished())
            history = replace(history, drained=len(history.issued))
            yield Advanced(history, None)
        elif isinstance(move, Offer):
            found = (*history.found_in_flight, history.in_flight)
            history = replace(history, issued=(*history.issued, move.probe), found_in_flight=found)
            yield Advanced(history, move.probe)
            for step in _offer(settings, stream, history, stopped):
                if isinstance(step, History):
                    if step.done != history.done:
                        yield Advanced(step, move.probe)
                    history = step
                else:
                    yield step
            if history.sent is None:  # a stream that does not tell
                history = replace(history, requests=history.requests + cost(move.probe)[0])
            history = _spent(history, before, stream)


def _offer(
    settings: Settings, stream: Stream, history: History, stopped: Callable[[], bool]
) -> Iterator[Event | History]:
    """Offer the probe issued last; where what has ended meanwhile is enough, give up the rest of it."""
    probe = history.issued[-1]
    events = stream.step(probe)
    for event in events:
        yield event
        ended = stream.finished()
        if ended:
            history = _note(settings, history, ended)
        history = _seen(history, event)
        if stopped() or (probe.purpose == "refine" and history.refined is not None):
            events.close()  # type: ignore[attr-defined]  # a generator
            yield replace(history, given_up=(*history.given_up, probe.number))
            return
        if ended or isinstance(event, Progress):
            yield history
    yield _note(settings, history, stream.finished())


def _seen(history: History, event: Event) -> History:
    """Count what a stream says it has sent: since its beginning, or where each probe begins anew, since that."""
    if not isinstance(event, Progress):
        return history
    gained = event.sent - history.sent if history.sent is not None and event.sent >= history.sent else event.sent
    return replace(history, in_flight=event.in_flight, sent=event.sent, requests=history.requests + gained)


def _note(settings: Settings, history: History, ended: list[Probed]) -> History:
    """Take in probes that have ended."""
    history = replace(history, done=(*history.done, *ended))
    if history.refined is None and history.of("refine"):
        history = replace(history, refined=refined_by(settings, history))
    return history


def _spent(history: History, before: History, stream: Stream) -> History:
    return replace(history, seconds=before.seconds + stream.now_s())
