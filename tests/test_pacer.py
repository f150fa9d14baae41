"""Pacers wake once for each armed time and never before it; how late is the machine's business."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from functools import partial

import pytest
import uvloop

from slobench.generate.native import find_set_timer
from slobench.pacer import NEVER, LoopPacer, Pacer, TimerfdPacer, make_pacer

MS = 10**6
LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
Make = Callable[[asyncio.AbstractEventLoop, Callable[[], None]], Pacer]
PACERS: dict[str, Make] = {"any": LoopPacer} | ({"timerfd": TimerfdPacer} if sys.platform == "linux" else {})
if (set_timer := find_set_timer("auto")) is not None:
    PACERS["timerfd, native"] = partial(TimerfdPacer, set_timer=set_timer)

both = pytest.mark.parametrize(
    ("kind", "loop"), [(kind, loop) for kind in PACERS for loop in LOOPS], ids=lambda value: value
)


class Wakes:
    """A pacer on an event loop, and when it woke (CLOCK_MONOTONIC)."""

    def __init__(self, kind: str) -> None:
        self.at_ns: list[int] = []
        self._new = asyncio.Event()
        self.pacer = PACERS[kind](asyncio.get_running_loop(), self._on_due)

    def _on_due(self) -> None:
        self.at_ns.append(time.monotonic_ns())
        self._new.set()

    async def next(self) -> int:
        await asyncio.wait_for(self._new.wait(), 30)
        self._new.clear()
        return self.at_ns[-1]


def run(loop: str, main: Callable[[], object]) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main())  # type: ignore[arg-type]  # a coroutine function


@both
def test_a_pacer_is_never_early(kind: str, loop: str) -> None:
    """120 wake-ups at times that hit every phase of a millisecond: each at its time or later, each once."""

    async def main() -> None:
        wakes = Wakes(kind)
        for step in range(120):
            due_ns = time.monotonic_ns() + 200_000 + step * 31_337
            wakes.pacer.arm(due_ns)
            assert wakes.pacer.due_ns == due_ns
            assert await wakes.next() >= due_ns
            assert wakes.pacer.due_ns == NEVER
        wakes.pacer.close()
        assert len(wakes.at_ns) == 120

    run(loop, main)


@both
def test_arming_again_replaces_the_earlier_time(kind: str, loop: str) -> None:
    """A later time takes the place of a sooner one, also of one that has come but was not yet heard."""

    async def main() -> None:
        wakes = Wakes(kind)
        now_ns = time.monotonic_ns()
        wakes.pacer.arm(now_ns + MS)
        time.sleep(0.003)  # noqa: ASYNC251 (it comes while the loop does not look)
        wakes.pacer.arm(now_ns + 20 * MS)
        assert await wakes.next() >= now_ns + 20 * MS
        await asyncio.sleep(0.005)
        assert len(wakes.at_ns) == 1
        wakes.pacer.close()

    run(loop, main)


@both
def test_a_time_that_has_passed_wakes_at_once_and_never_does_not_wake(kind: str, loop: str) -> None:
    """The past, 0 and negative times wake; NEVER and a closed pacer do not."""

    async def main() -> None:
        wakes = Wakes(kind)
        for past_ns in (time.monotonic_ns() - 1, 1, 0, -5):
            wakes.pacer.arm(past_ns)
            await wakes.next()
        assert len(wakes.at_ns) == 4
        wakes.pacer.arm(time.monotonic_ns() + MS)
        wakes.pacer.arm(NEVER)
        await asyncio.sleep(0.01)
        wakes.pacer.arm(time.monotonic_ns() + MS)
        wakes.pacer.close()
        await asyncio.sleep(0.01)
        assert len(wakes.at_ns) == 4

    run(loop, main)


def test_linux_gets_the_timerfd() -> None:
    """The best pacer of the platform is taken."""

    async def main() -> None:
        pacer = make_pacer(asyncio.get_running_loop(), lambda: None)
        assert isinstance(pacer, TimerfdPacer if sys.platform == "linux" else LoopPacer)
        pacer.close()

    asyncio.run(main())
