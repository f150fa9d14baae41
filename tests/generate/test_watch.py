"""When sockets are looked at: at once, or in a busy moment a little later and many at once; nothing is forgotten."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvloop

from slobench.generate.watch import Watch

MS = 10**6


class Pipes:
    """Sockets to look at: pipes, each look reads one byte of each that is ready. The clock is told."""

    def __init__(self, n: int, *, patient: bool) -> None:
        self.now_ns = 0
        self.looks: list[int] = []  # how many were ready, each time
        self.joined = 0  # what each look says of events that shared a read
        self.pipes = [os.pipe() for _ in range(n)]
        self.watch = Watch(self._serve, lambda: self.now_ns, patient=patient)
        for read, _ in self.pipes:
            os.set_blocking(read, False)
            self.watch.epoll.register(read, select.EPOLLIN)

    def _serve(self) -> tuple[int, int]:
        ready = self.watch.epoll.poll(0, 64)
        for fd, _ in ready:
            os.read(fd, 1)
        self.looks.append(len(ready))
        return len(ready), self.joined

    def write(self, *which: int) -> None:
        for each in which or range(len(self.pipes)):
            os.write(self.pipes[each][1], b"x")

    async def seen(self, n: int) -> None:
        """Wait until so many bytes were read in all."""
        while sum(self.looks) < n:  # noqa: ASYNC110 (looks are plain callbacks)
            await asyncio.sleep(0.001)

    async def make_busy(self) -> None:
        """Let more be read than a quiet moment has, within one window."""
        before = sum(self.looks)
        for k in range(30):
            self.now_ns += 2 * MS
            self.write()
            await self.seen(before + (k + 1) * len(self.pipes))

    async def paused(self) -> None:
        """Wait until something is kept waiting."""
        while not self.waits:  # noqa: ASYNC110
            await asyncio.sleep(0)

    @property
    def waits(self) -> bool:
        return self.watch._pause is not None


@asynccontextmanager
async def pipes(n: int, *, patient: bool = True) -> AsyncIterator[Pipes]:
    made = Pipes(n, patient=patient)
    try:
        yield made
    finally:
        made.watch.close()
        for each in made.pipes:
            for fd in each:
                os.close(fd)


def run(test: object) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(test, 30))  # type: ignore[arg-type]


def test_what_is_ready_is_looked_at_in_a_quiet_moment_and_for_those_who_wait() -> None:
    """Few reads, or an impatient owner: the callback that hears of it looks."""

    async def main(*, patient: bool) -> None:
        async with pipes(8, patient=patient) as p:
            if not patient:
                await p.make_busy()
            for k in range(20):
                p.now_ns += 10 * MS
                p.write(k % 8)
                await p.seen(sum(p.looks) + 1)
                assert not p.waits

    run(main(patient=True))
    run(main(patient=False))


def test_in_a_busy_moment_the_first_waits_for_others() -> None:
    """One is ready: nobody looks yet. Others come: one look finds them all."""

    async def main() -> None:
        async with pipes(16) as p:
            await p.make_busy()
            p.now_ns += MS
            p.write(0)
            before = len(p.looks)
            await p.paused()
            assert len(p.looks) == before
            p.write(*range(1, 16))
            total = sum(p.looks)
            await p.seen(total + 16)
            assert p.looks[before] == 16

    run(main())


def test_what_connects_or_writes_ends_a_pause() -> None:
    """From `hurry` on everything is looked at when it is ready, until `calm`."""

    async def main() -> None:
        async with pipes(16) as p:
            await p.make_busy()
            p.write(0)
            await p.paused()
            p.watch.hurry(p.pipes[3][0])
            assert not p.waits
            await p.seen(sum(p.looks) + 1)
            p.write(1)
            await p.seen(sum(p.looks) + 1)
            assert not p.waits
            p.watch.calm(p.pipes[3][0])
            p.write(2)
            await p.paused()
            await p.seen(sum(p.looks) + 1)

    run(main())


def test_flush_looks_at_what_waits() -> None:
    """A timeout is judged after what came before it was seen; without a pause there is nothing to look at."""

    async def main() -> None:
        async with pipes(16) as p:
            await p.make_busy()
            p.write(0)
            await p.paused()
            before = sum(p.looks)
            p.watch.flush()
            assert sum(p.looks) == before + 1
            assert not p.waits
            looks = len(p.looks)
            p.watch.flush()
            assert len(p.looks) == looks

    run(main())


def test_the_pause_is_short_where_events_of_one_stream_share_a_read() -> None:
    """4 ms while none do, and for good less, down to 1 ms, since some did."""

    async def main() -> None:
        async with pipes(16) as p:
            await p.make_busy()
            assert p.watch._pause_ns == 4 * MS
            p.joined = 1
            await p.make_busy()
            p.joined = 0
            await p.make_busy()
            assert p.watch._pause_ns == MS

    run(main())
