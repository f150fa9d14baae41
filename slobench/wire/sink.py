"""Where the token events of replies go."""

from __future__ import annotations

from typing import Protocol


class ChunkSink(Protocol):
    """Where token events go."""

    @property
    def packed(self) -> bytearray | None:
        """Where rows may be appended as they lie in memory (records.buffers.CHUNK_ROW); None: `add` must see each."""
        ...

    def add(
        self,
        index: int,
        t_ns: int,
        tokens: int,
        nbytes: int,
        channel: int,
        lag_ns: int,
        coalesced: bool,  # noqa: FBT001 (positional on the hot path)
        /,
    ) -> None:
        """Append one token event; `tokens` may be NULL, `channel` is a code in names.CHANNELS."""
        ...
