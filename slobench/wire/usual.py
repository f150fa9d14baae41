"""Events in a form that was seen before, read without a JSON parser: those that end a reply."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from slobench.names import NULL
from slobench.wire.openai import DONE, IDS, PLAIN, USUAL, Event, Usage, channel_of, parse_event

_MOST = 8
"""Forms of one server's events that are kept: where there are more, looking for them costs more than a parser."""
_DONE_EVENT = Event(choices=False, ends=True)
_ID = rb'([^"\\\x00-\x1f\x7f-\xff]*)'  # ASCII, as the JSON parser refuses what is no UTF-8
_COUNT = rb"(0|[1-9][0-9]{0,14})"
_NULLS = rb'(?:, ?"[a-z_]+": ?null){0,20}'
_beginning = re.compile(
    rb'\{"id": ?"' + _ID + rb'", ?"object": ?"[a-z._]+", ?"created": ?' + _COUNT + rb', ?"model": ?"[ -!#-\[\]-~]*"'
).match
_NUMBER = rb'"(?:prompt|total|completion)_tokens": ?[0-9]+'
_totals = re.compile(
    rb', ?"choices": ?\[\], ?"usage": ?\{'
    + _NUMBER
    + rb"(?:, ?"
    + _NUMBER
    + rb"){2}"
    + _NULLS
    + rb"\}"
    + _NULLS
    + rb"\}"
).fullmatch
_totals_of = re.compile(rb'"(prompt|total|completion)_tokens": ?([0-9]+)').finditer


@dataclass(frozen=True, slots=True)
class _Form:
    """One form: its events differ in id, time, text, ids and counts only."""

    match: Callable[[bytes], re.Match[bytes] | None]
    event: Event
    ids: int = 0  # the group of the token ids; 0: it has none
    prompt: int = 0  # the groups of the counts; 0: it has none
    completion: int = 0

    def read(self, match: re.Match[bytes]) -> Event:
        """The event that matched."""
        event = self.event
        if self.completion:
            usage = Usage(int(match[self.prompt]), int(match[self.completion]))
            return Event(event.channel, event.tokens, usage, event.finish_reason, choices=False)
        if self.ids:
            return Event(event.channel, match[self.ids].count(b",") + 1, None, event.finish_reason)
        return event


class Forms:
    """The forms of one server's last events. What they read is what `openai.parse_event` reads."""

    __slots__ = ("_forms", "_tried")

    def __init__(self) -> None:
        self._forms: list[_Form] = []
        self._tried = 0

    def read(self, data: bytes) -> Event | None:
        """Read one event; None where its form is not known."""
        if data == DONE:
            return _DONE_EVENT
        for form in self._forms:
            match = form.match(data)
            if match is not None:
                return form.read(match)
        return None

    def learn(self, data: bytes) -> None:
        """Keep the form of an event, where it is one of these: no token, or the last one, or the totals."""
        self._tried += 1
        if len(self._forms) < _MOST and self._tried <= 4 * _MOST:
            form = _totals_form(data) or _choice_form(data)
            match = None if form is None else form.match(data)
            if form is not None and match is not None and form.read(match) == parse_event(data):
                self._forms.append(form)


def _varied(data: bytes, spans: list[tuple[int, int, bytes]]) -> Callable[[bytes], re.Match[bytes] | None]:
    """Match what is like `data` but for these spans, each with the pattern of what may stand there."""
    at, pattern = 0, b""
    for start, stop, varying in sorted(spans):
        pattern += re.escape(data[at:start]) + varying
        at = stop
    return re.compile(pattern + re.escape(data[at:])).fullmatch


def _begun(data: bytes) -> tuple[list[tuple[int, int, bytes]], int] | None:
    """What varies at the beginning of each event, id and time, and where that beginning ends."""
    match = _beginning(data)
    if match is None:
        return None
    return [(*match.span(1), _ID), (*match.span(2), _COUNT)], match.end()


def _totals_form(data: bytes) -> _Form | None:
    begun = _begun(data)
    if begun is None or not _totals(data[begun[1] :]):
        return None
    spans, end = begun
    groups: dict[bytes, int] = {}
    for count in _totals_of(data, end):
        spans.append((*count.span(2), _COUNT))
        groups[count[1]] = len(spans)
    if len(groups) != 3:
        return None
    event = Event(usage=Usage(), choices=False)
    return _Form(_varied(data, spans), event, prompt=groups[b"prompt"], completion=groups[b"completion"])


def _choice_form(data: bytes) -> _Form | None:
    begun, match = _begun(data), USUAL(data)
    if begun is None or match is None or match["prompt"] is not None or b"\n" in data:
        return None
    spans, _ = begun
    channel = channel_of(match)
    finish = b"" if match["finish"] is None else match["finish"]
    event = Event(channel, NULL, None, finish.decode())
    named = "delta" if match["text"] is None else "text"
    if not match[named]:
        return None if match["ids"] is not None else _Form(_varied(data, spans), event)
    if not finish:
        return None  # a plain event, which is read by its shape
    spans.append((*match.span(named), PLAIN))
    if match["ids"] is None:
        return _Form(_varied(data, spans), event)
    spans.append((*match.span("ids"), b"(" + IDS + b")"))
    return _Form(_varied(data, spans), event, ids=3)
