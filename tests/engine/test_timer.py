"""Step deadlines: never early, once each."""

import asyncio
import sys
import time

import pytest

from slobench.engine.timer import StepTimer


@pytest.mark.parametrize("platform", [sys.platform, "other"])
def test_a_deadline_is_called_once_and_never_early(platform, monkeypatch):
    """Twenty deadlines, one of them past already, each wake once and not before their time, with and without timerfd."""
    monkeypatch.setattr("slobench.engine.timer.sys.platform", platform)
    early: list[int] = []

    async def run() -> int:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        due = [time.monotonic_ns() - 1]
        calls = 0

        def on_due() -> None:
            nonlocal calls
            calls += 1
            early.append(time.monotonic_ns() - due[0])
            if calls == 20:
                done.set()
                return
            due[0] += 1_234_567
            timer.arm(due[0])

        timer = StepTimer(loop, on_due)
        timer.arm(due[0])
        await asyncio.wait_for(done.wait(), 20)
        await asyncio.sleep(0.01)
        timer.close()
        return calls

    assert asyncio.run(run()) == 20
    assert min(early) >= 0
