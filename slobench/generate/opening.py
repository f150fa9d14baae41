"""How usual replies begin and end on the wire, so that the next one can be held against the last."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from slobench.wire.openai import CLOSING, CONTENT, OPENING, Event, Shape
from slobench.wire.usual import Forms

_event_chunk = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n" + OPENING + rb"([^\r\n]*+)" + CLOSING + rb"\r\n").match
_AROUND_BYTES = len(OPENING + CLOSING)
_LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Opening:
    """How replies of a class begin: a head, byte by byte, and a first event that has text.

    The event's prefix, as it comes on the wire, is before_id, an id, before_created, digits, before_text.
    """

    head: bytes
    before_id: bytes
    before_created: bytes
    before_text: bytes
    raw_suffix: bytes
    between: bytes | None
    channel: int
    varying: Callable[[bytes | bytearray, int, int], re.Match[bytes] | None]
    raw_prefix: Callable[[bytes, int], re.Match[bytes] | None]  # matches one at a position
    content_type: str
    keep_alive: bool
    forms: Forms  # of the events that end these replies

    @classmethod
    def of(cls, read: bytes, shape: Shape, content_type: str, *, keep_alive: bool) -> Opening | None:
        """The opening of a reply in chunks, by its first read and its first event; None where it is not usual.

        content_type, keep_alive: what the HTTP parser says of the head.
        """
        head_size = read.find(b"\r\n\r\n") + 4
        parts = shape.raw_prefix_parts
        if parts is None or shape.channel != CONTENT or head_size < 4 or not read.startswith(b"HTTP/1.1 200 "):
            return None
        before_id, before_created, before_text = parts
        return cls(
            head=read[:head_size],
            before_id=before_id,
            before_created=before_created,
            before_text=before_text,
            raw_suffix=shape.raw_suffix,
            between=shape.between,
            channel=shape.channel,
            varying=shape.varying,
            raw_prefix=_prefix_of(parts),
            content_type=content_type,
            keep_alive=keep_alive,
            forms=Forms(),
        )

    def after(self, last: Opening | None) -> Opening:
        """The same with the forms that were seen under the last one: heads differ by the time of day, events do not."""
        return self if last is None else replace(self, forms=last.forms)

    def read_end(self, data: bytes) -> tuple[list[tuple[Event, bytes]], bool] | None:
        """(each event and its data, whether the message ends) of a read; None where the parsers must see it.

        That is where it holds anything but whole chunks of one event each, or an event in a form that is not known.
        """
        found: list[tuple[Event, bytes]] = []
        at = 0
        while at < len(data):
            match = _event_chunk(data, at)
            if match is None:
                return (found, True) if data[at:] == _LAST_CHUNK else None  # trailers are left to the parsers
            size, text = match.groups()
            if int(size, 16) != len(text) + _AROUND_BYTES:
                return None
            event = self.forms.read(text)
            if event is None:
                self.forms.learn(text)
                return None
            found.append((event, text))
            at = match.end()
        return found, False

    def shape(self, raw_prefix: bytes) -> Shape:
        """The form of the events of a reply whose first one has this prefix."""
        suffix = self.raw_suffix.removesuffix(CLOSING)
        return Shape(raw_prefix.removeprefix(OPENING), suffix, self.varying, self.between, self.channel)


@lru_cache(maxsize=64)
def _prefix_of(parts: tuple[bytes, bytes, bytes]) -> Callable[[bytes, int], re.Match[bytes] | None]:
    before_id, before_created, before_text = map(re.escape, parts)
    return re.compile(before_id + rb'[^"\\\x00-\x1f]*+' + before_created + rb"[0-9]++" + before_text).match
