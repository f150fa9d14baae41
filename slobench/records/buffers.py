"""Rows of a worker's spool in memory: adding one is the only cost on the path of a request."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Protocol

from slobench.records.schema import SPOOL_REQUESTS


@dataclass(slots=True)
class Rows:
    """Rows as they are added: numbers packed back to back, texts beside them.

    Packing takes a third of the time of an append to one array per column; the writer thread separates them.
    """

    packed: bytearray = field(default_factory=bytearray)
    texts: list[Sequence[str]] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """About how much memory they take."""
        return len(self.packed) + sum(len(text) + 80 for row in self.texts for text in row)


class Buffer(Protocol):
    """Rows of one stream."""

    def take(self) -> Rows:
        """Return the rows so far and begin anew."""
        ...


class Starts:
    """Requests that were begun."""

    __slots__ = ("_pack", "_packed")

    def __init__(self) -> None:
        self._pack = struct.Struct("=qqq").pack
        self._packed = bytearray()

    def add(self, index: int, scheduled_ns: int, started_ns: int) -> None:
        """Note that request `index` was begun."""
        self._packed += self._pack(index, scheduled_ns, started_ns)

    def take(self) -> Rows:
        """Return the rows so far and begin anew."""
        taken, self._packed = self._packed, bytearray()
        return Rows(taken)


CHUNK_ROW = struct.Struct("=qqqqbqb")
"""A row of SPOOL_CHUNKS as it lies in `Chunks.packed`."""


class Chunks:
    """Token-bearing events. packed: their rows, the same object for good, so that others may append to it too."""

    __slots__ = ("_pack", "packed")

    def __init__(self) -> None:
        self._pack = CHUNK_ROW.pack
        self.packed = bytearray()

    def add(self, index: int, t_ns: int, tokens: int, nbytes: int, channel: int, lag_ns: int, coalesced: int) -> None:
        """Note one event; `tokens` is NULL where unknown, `channel` a position in names.CHANNELS."""
        self.packed += self._pack(index, t_ns, tokens, nbytes, channel, lag_ns, coalesced)

    def take(self) -> Rows:
        """Return the rows so far and begin anew."""
        taken = self.packed[:]
        self.packed.clear()
        return Rows(taken)


class Requests:
    """Requests that ended."""

    __slots__ = ("_numbers", "_pack", "_packed", "_texts", "_words")

    def __init__(self) -> None:
        kinds = list(SPOOL_REQUESTS.values())
        self._numbers = itemgetter(*(i for i, kind in enumerate(kinds) if kind != "str"))
        self._words = itemgetter(*(i for i, kind in enumerate(kinds) if kind == "str"))
        self._pack = struct.Struct("=" + "".join(kind for kind in kinds if kind != "str")).pack
        self._packed = bytearray()
        self._texts: list[Sequence[str]] = []

    def add(self, row: Sequence[int | str]) -> None:
        """Note the end of a request: a row in the order of SPOOL_REQUESTS, NULL (or -1 in codes) where unknown."""
        self._packed += self._pack(*self._numbers(row))
        self._texts.append(self._words(row))

    def take(self) -> Rows:
        """Return the rows so far and begin anew."""
        taken = Rows(self._packed, self._texts)
        self._packed, self._texts = bytearray(), []
        return taken


class Telemetry:
    """Samples of the worker's own health."""

    __slots__ = ("_pack", "_packed")

    def __init__(self) -> None:
        self._pack = struct.Struct("=qbd").pack
        self._packed = bytearray()

    def add(self, t_ns: int, name: int, value: float) -> None:
        """Note one sample; `name` is a position in WORKER_METRICS."""
        self._packed += self._pack(t_ns, name, value)

    def take(self) -> Rows:
        """Return the rows so far and begin anew."""
        taken, self._packed = self._packed, bytearray()
        return Rows(taken)
