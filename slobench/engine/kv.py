"""The engine's KV cache, counted in blocks; full blocks may be shared by their hash."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import overload


class BlockNames(Sequence[int]):
    """Names of the n full blocks of one prompt and its reply: those that others may have too, then its own ones.

    own: the first of its own, which count up from there; no other prompt may have any of them.
    """

    __slots__ = ("_n", "_own", "_shared")

    def __init__(self, shared: Sequence[int], own: int, n: int) -> None:
        self._shared, self._own, self._n = shared, own, n

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[int]:
        yield from self._shared
        yield from range(self._own, self._own + self._n - len(self._shared))

    @overload
    def __getitem__(self, at: int) -> int: ...
    @overload
    def __getitem__(self, at: slice) -> list[int]: ...
    def __getitem__(self, at: int | slice) -> int | list[int]:
        if not isinstance(at, slice):
            return self[at : at + 1][0]
        start, stop, _ = at.indices(self._n)
        behind = self._own - len(self._shared)
        own = range(behind + max(start, len(self._shared)), behind + max(stop, len(self._shared)))
        return [*self._shared[start:stop], *own]


class KvCache:
    """A pool of blocks with an optional prefix cache.

    As in vLLM, a block can be found again only when full, by the hash of all tokens up to its end; blocks in use by
    nobody stay findable until their room is needed, the longest unused first. Unlike vLLM, empty blocks are always
    taken before findable ones.
    """

    def __init__(self, blocks: int, *, prefix_cache: bool) -> None:
        self.blocks = blocks
        self.prefix_cache = prefix_cache
        self.free = blocks  # empty, or findable and unused
        self._uses: dict[int, int] = {}  # block hash -> requests that hold it
        # Findable and held by nobody, the longest unused first. A dict would look for its first key through all those
        # that were deleted before it.
        self._unused: OrderedDict[int, None] = OrderedDict()

    def usage(self) -> float:
        """Return the share of blocks that requests hold."""
        return 1 - self.free / self.blocks

    def find(self, hashes: Sequence[int], limit: int) -> tuple[int, int]:
        """Return how many of the first `limit` blocks are found from the start, and how many of those nobody holds."""
        found = unused = 0
        for block in islice(hashes, limit):
            uses = self._uses.get(block)
            if uses is None:
                break
            found += 1
            unused += uses == 0
        return found, unused

    def forget(self) -> None:
        """Lose what can be found and nobody holds."""
        for block in self._unused:
            del self._uses[block]
        self._unused.clear()

    def hold(self, hashes: Sequence[int]) -> None:
        """Take findable blocks into use."""
        for block in hashes:
            if self._uses[block] == 0:
                del self._unused[block]
                self.free -= 1
            self._uses[block] += 1

    def take(self, blocks: int) -> None:
        """Take `blocks` empty ones, evicting unused ones where needed; the caller has checked `free`."""
        self.free -= blocks
        while len(self._unused) > self.free:
            oldest, _ = self._unused.popitem(last=False)
            del self._uses[oldest]

    def name(self, hashes: Sequence[int]) -> list[int]:
        """Make just filled blocks findable; return those that were not yet (the others stay private copies)."""
        new = [block for block in hashes if block not in self._uses]
        for block in new:
            self._uses[block] = 1
        return new

    def release(self, held: Sequence[int], private_blocks: int) -> None:
        """Give back named blocks and private ones. The end of a prompt is evicted before its start."""
        self.free += private_blocks
        for block in reversed(held):
            self._uses[block] -= 1
            if self._uses[block] == 0:
                self._unused[block] = None
                self.free += 1
