"""Server-sent events from bytes; knows nothing of sockets, clocks or JSON."""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"


class SseDecoder:
    """Events of one stream, whatever the reads were cut into.

    Lines end in LF, CR or CRLF and in nothing else: not `bytes.splitlines`, which also cuts at
    VT and FF, nor `str.splitlines`, which cuts at U+2028 [WHATWG HTML, "Parsing an event stream"].
    Fields other than `data` and comments are skipped. Time is linear in the bytes fed.
    """

    __slots__ = ("_after_cr", "_data", "_opening", "_parts")

    def __init__(self) -> None:
        self._parts: list[bytes] = []  # of the line that is not complete; joined once, when it is
        self._data: list[bytes] = []  # data lines of the event that is not complete
        self._after_cr = False  # a LF that comes next belongs to that CR
        self._opening: bytes | None = b""  # what may become a byte order mark; None once decided

    def feed(self, read: bytes) -> list[bytes]:
        """Return the data of each event that this read completes."""
        if self._opening is not None:
            read = self._without_bom(self._opening + read)
        if self._after_cr and read:
            self._after_cr = False
            if read[0] == 10:
                read = read[1:]
        if b"\r" in read:
            self._after_cr = read.endswith(b"\r")
            read = read.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        first, *lines = read.split(b"\n")
        if not lines:
            if first:
                self._parts.append(first)
            return []
        return self._complete(first, lines)

    def _complete(self, first: bytes, lines: list[bytes]) -> list[bytes]:
        """Close the line that `first` ends, and take the others; the last of `lines` stays open."""
        if self._parts:
            self._parts.append(first)
            first = b"".join(self._parts)
        last = lines.pop()
        self._parts = [last] if last else []
        data, events = self._data, []
        for line in (first, *lines):
            if line.startswith(b"data:"):
                data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif not line:
                if data:
                    events.append(data[0] if len(data) == 1 else b"\n".join(data))
                    data.clear()
            elif line == b"data":
                data.append(b"")
        return events

    def begin_after_event(self) -> None:
        """Go on where an event that others took has ended; nothing was fed before."""
        self._opening = None

    def _without_bom(self, start: bytes) -> bytes:
        if len(start) < 3 and _BOM.startswith(start):
            self._opening = start
            return b""
        self._opening = None
        return start.removeprefix(_BOM)

    @property
    def idle(self) -> bool:
        """Whether the last read ended exactly at the end of an event, with nothing held back."""
        return not (self._parts or self._data or self._after_cr or self._opening is not None)

    @property
    def tail(self) -> bytes:
        """What an event that never ended has given so far: its data lines, then the open line."""
        return b"\n".join((*(b"data: " + line for line in self._data), b"".join(self._parts)))
