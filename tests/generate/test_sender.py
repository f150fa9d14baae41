"""Sender and Bodies: what is recorded of a request, what is kept in memory, what must never be shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from slobench.generate import bodies as making
from slobench.generate.bodies import Bodies
from slobench.generate.exchange import Exchange
from slobench.names import Outcome
from slobench.records.counters import Hist, Slot
from slobench.wire.endpoint import Endpoint
from tests.generate.rig import MS, S, Simulation, job_of, plan_of, takes


def on_a_loop(bodies: Bodies, rows_to_take: Callable[[], None]) -> None:
    """Let bodies be made ahead on an event loop until nothing is left to do, then act, then again."""

    async def settled() -> None:
        while bodies._working:  # noqa: ASYNC110 (the code under test tells nobody)
            await asyncio.sleep(0)

    async def main() -> None:
        bodies.work_ahead()
        await settled()
        rows_to_take()
        await settled()

    asyncio.run(main())


def test_bodies_made_ahead_are_the_ones_made_on_the_spot(tmp_path: Path) -> None:
    """A body does not depend on when it was made, nor on the order."""
    plan = plan_of(range(50))
    job = job_of(tmp_path, endpoint=Endpoint(url="http://127.0.0.1:1", model="tiny", token_ids=(100, 4000)))
    ahead, late = (Bodies(plan, job, Simulation(tmp_path, plan, takes(1)).clock) for _ in range(2))
    taken: dict[int, bytes] = {}
    on_a_loop(ahead, lambda: taken.update({row: ahead.take(row) for row in reversed(range(50))}))
    assert taken == {row: late.take(row) for row in range(50)}
    assert len({tuple(json.loads(body)["prompt"]) for body in taken.values()}) == 50


@pytest.mark.parametrize("order", ["in order", "backwards", "every third"])
def test_bodies_ahead_stay_within_their_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str) -> None:
    """Never more bytes than the bound and one body, however they are taken; in the end nothing is kept."""
    monkeypatch.setattr(making, "_READY_BYTES", 20_000)
    plan = plan_of(range(300), input_tokens=100)
    bodies = Bodies(plan, job_of(tmp_path), Simulation(tmp_path, plan, takes(1)).clock)
    rows = {"in order": range(300), "backwards": range(299, -1, -1), "every third": [*range(0, 300, 3)]}[order]
    largest = max(len(bodies._make(row)) for row in range(300))
    most = 0

    def take() -> None:
        nonlocal most
        for row in rows:
            most = max(most, bodies._ready_bytes)
            bodies.take(row)
            assert bodies._ready_bytes == sum(map(len, bodies._ready.values()))

    on_a_loop(bodies, take)
    assert 0 < most <= 20_000 + largest
    if order != "every third":
        assert bodies._ready == {}


def test_bodies_go_on_being_made_ahead_after_many_drops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dropped request gives its prepared body up; else the store fills with bodies that nobody will take."""
    monkeypatch.setattr(making, "_READY_ROWS", 20)
    run = Simulation(tmp_path, plan_of([MS] * 100 + [S] * 5), takes(10 * MS), max_in_flight=1)
    bodies = run.sender.bodies
    on_a_loop(bodies, lambda: run.run(500 * MS))
    assert len(run.outcomes()[Outcome.DROPPED]) == 99
    assert set(bodies._ready) == set(range(100, 105))


@pytest.mark.parametrize(("takes_ns", "near_ns", "far_ns"), [(0, MS // 20, MS // 5), (3 * MS, 5 * MS, 7 * MS)])
def test_no_body_is_made_when_a_send_is_near(tmp_path: Path, takes_ns: int, near_ns: int, far_ns: int) -> None:
    """Near is a tenth of a millisecond, or twice as long as a body takes: at 5,000 sends/s there is time between."""
    clock = Simulation(tmp_path, plan_of(range(10)), takes(1)).clock
    bodies = Bodies(plan_of(range(10)), job_of(tmp_path), clock)
    make = bodies._make

    def slowly(row: int) -> bytes:
        clock.time_ns += takes_ns
        return make(row)

    bodies._make = slowly  # type: ignore[method-assign]
    bodies._making_ns = takes_ns
    bodies.next_send_ns = lambda: clock.now_ns() + near_ns

    async def main() -> None:
        bodies.work_ahead()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not bodies._ready
        bodies.next_send_ns = lambda: clock.now_ns() + far_ns
        while bodies._working:  # noqa: ASYNC110 (the code under test tells nobody)
            await asyncio.sleep(0.001)
        assert len(bodies._ready) == 10
        assert bodies._making_ns == takes_ns

    asyncio.run(main())


def test_a_stop_while_a_body_is_made_does_not_end_the_making_ahead(tmp_path: Path) -> None:
    """It looked as if a body took ten seconds, and no gap is as long as that."""
    clock = Simulation(tmp_path, plan_of(range(10)), takes(1)).clock
    bodies = Bodies(plan_of(range(10)), job_of(tmp_path), clock)
    bodies._making_ns = 10 * S
    bodies.next_send_ns = lambda: clock.now_ns() + MS

    async def main() -> None:
        bodies.work_ahead()
        while bodies._working:  # noqa: ASYNC110 (the code under test tells nobody)
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(main(), 60))
    assert len(bodies._ready) == 10


def test_secrets_of_headers_never_reach_a_record(tmp_path: Path) -> None:
    """A server that echoes the key in its error gets it recorded as stars, whole or its word alone."""
    endpoint = Endpoint(
        url="http://127.0.0.1:1",
        model="tiny",
        headers={"Authorization": "Bearer sk-secret-12345678", "x-t": "tenant-1"},
    )
    run = Simulation(tmp_path, plan_of([0, 1, 2]), takes(S), endpoint=endpoint)
    texts = ["no Bearer sk-secret-12345678 here", "key sk-secret-12345678 of tenant-1", "Bearer of news"]

    def spoil(exchange: Exchange, text: str) -> None:
        exchange.error = exchange.reply.finish_reason = text

    run.run(3)
    for exchange, text in zip(run.transport.sent, texts, strict=True):
        spoil(exchange, text)
    run.run()
    shown = [(row["error"], row["finish_reason"]) for row in run.ended]
    assert shown == [(text, text) for text in ("no *** here", "key *** of ***", "Bearer of news")]


def test_live_counts_and_histograms_say_what_the_records_say(tmp_path: Path) -> None:
    """Started, ended, ok, tokens; one TTFT, E2E and lag observation for each request."""
    run = Simulation(tmp_path, plan_of(np.arange(40) * MS), takes(7 * MS))
    run.run()
    seen = run.counters.snapshot()
    wanted = {Slot.STARTED: 40, Slot.ENDED: 40, Slot.OK: 40, Slot.FAILED: 0, Slot.TOKENS_OUT: 80, Slot.JUDGED: 40}
    assert {slot: seen.total(slot) for slot in wanted} == wanted
    assert [int(seen.histogram(which).sum()) for which in (Hist.TTFT, Hist.E2E, Hist.SEND_LAG)] == [40, 40, 40]


@pytest.mark.parametrize(
    ("metric", "limit_s", "good"),
    [("ttft", 0.0051, 10), ("ttft", 0.0049, 0), ("e2e", 0.0051, 10), ("e2e", 0.0049, 0), ("tpot", 1.0, 10)],
)
def test_the_live_verdict_counts_from_the_schedule(tmp_path: Path, metric: str, limit_s: float, good: int) -> None:
    """Each limit on its own side of a reply of exactly 5 ms."""
    limits = {"only": [(metric, limit_s, 0.0)]}
    run = Simulation(tmp_path, plan_of(np.arange(10) * 10 * MS), takes(5 * MS), limits=limits)
    run.run()
    assert run.counters.snapshot().total(Slot.GOOD) == good


def test_the_body_is_let_go_when_the_reply_has_ended(tmp_path: Path) -> None:
    """An exchange that somebody still holds does not hold its prompt."""
    run = Simulation(tmp_path, plan_of([0, MS]), takes(MS))
    run.run()
    assert [each.body for each in run.transport.sent] == [b"", b""]
