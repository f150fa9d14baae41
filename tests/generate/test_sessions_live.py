"""Sessions and impatient users with real workers and sockets: what follows what, and what the server sees of an end."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from slobench.config.workload import Workload
from slobench.names import NULL, Outcome
from slobench.plan import Plan
from slobench.records.schema import Columns
from slobench.wire.endpoint import Endpoint
from tests.engine.test_server import gauge, started, until
from tests.generate.generating import generate
from tests.generate.mock_server import MockServer, Seen, after, never

MS, S = 10**6, 10**9
TRANSPORTS = ("fast", "aiohttp")
Transport = Literal["fast", "aiohttp"]
AGENT = [
    {"name": "plan"},
    {"name": "search", "after": ["plan"], "delay": "30ms"},
    {"name": "read", "after": ["plan"]},
    {"name": "answer", "after": ["search", "read"]},
]


def workload(requests: int, *, rate: float = 40, output_tokens: int = 4, **changes: Any) -> Workload:
    """Sessions, or what `changes` makes of the class."""
    lengths = {"dist": "uniform", "low": 4, "high": 32}
    output = {"dist": "constant", "value": output_tokens}
    chat = {"arrivals": {"process": "poisson", "rate": rate}, "input_tokens": lengths, "output_tokens": output}
    return Workload.model_validate({"name": "test", "requests": requests, "classes": {"chat": chat | changes}})


def endpoint(server: MockServer, transport: Transport, **changes: Any) -> Endpoint:
    """Where the mock server is."""
    return Endpoint(url=server.url, model="tiny", token_ids=(100, 4000), transport=transport, **changes)


def due_by_the_definition(plan: Plan, requests: Columns) -> list[int]:
    """Scheduled times from the recorded ends: the last of what a row waits for, plus its delay."""
    assert plan.scheduled_ns is not None
    assert plan.after is not None
    assert plan.delay_ns is not None
    due = []
    for row in range(len(plan)):
        waits = [row - 1 - bit for bit in range(62) if int(plan.after[row]) >> bit & 1]
        ends = [int(requests["end_ns"][each]) for each in waits]
        due.append(max(ends) + int(plan.delay_ns[row]) if waits else int(plan.scheduled_ns[row]))
    return due


@pytest.mark.parametrize(("transport", "workers"), [("fast", 2), ("aiohttp", 1)])
def test_followers_leave_after_the_replies_they_wait_for(tmp_path: Path, transport: Transport, workers: int) -> None:
    """Chats and agents alike: every row once, at the recorded ends plus the planned delays, by its session's worker."""
    session = {"steps": AGENT, "turns": {"dist": "uniform", "low": 1, "high": 2}, "think_time": "20ms"}
    with MockServer(after(0.01)) as server:
        spec = workload(80, rate=80, session=session)
        run = generate(tmp_path, spec, server.url, workers=workers, endpoint=endpoint(server, transport))
    rows = run.requests
    assert set(rows["outcome"].tolist()) == {Outcome.OK}
    assert rows["scheduled_ns"].astype(np.int64).tolist() == due_by_the_definition(run.plan, rows)
    assert (rows["started_ns"] >= rows["scheduled_ns"]).all()
    assert rows["follows"].astype(bool).tolist() == (run.plan.scheduled_ns == NULL).tolist()
    assert rows["worker"].tolist() == (rows["session"] % workers).tolist()
    lengths = {seen.index: seen.prompt_tokens for seen in server.seen}
    assert [lengths[index] for index in range(len(run.plan))] == run.plan.input_tokens.tolist()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_session_may_keep_its_connection_and_gives_it_back(tmp_path: Path, transport: Transport) -> None:
    """One connection for all turns of a session and none for two; it is closed when its session is over."""
    closed_after: list[int] = []

    class Closing(MockServer):
        async def _connected(self, reader: Any, writer: Any) -> None:
            await super()._connected(reader, writer)
            closed_after.append(len(self.seen))

    with Closing(after(0.01)) as server:
        spec = workload(90, rate=30, session={"turns": {"dist": "constant", "value": 3}, "think_time": "5ms"})
        where = endpoint(server, transport, connection="per-session")
        run = generate(tmp_path, spec, server.url, workers=1, endpoint=where)
    sessions = run.plan.session.tolist()
    of_session: dict[int, set[int]] = {}
    for seen in server.seen:
        of_session.setdefault(sessions[seen.index], set()).add(seen.connection)
    assert [len(connections) for connections in of_session.values()] == [1] * 30
    assert len(set.union(*of_session.values())) == 30
    assert sum(requests < 90 for requests in closed_after) >= 5  # while others were still to come


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("until_what", ["reply", "first-token"])
def test_an_impatient_user_really_disconnects(tmp_path: Path, transport: Transport, until_what: str) -> None:
    """The server sees the connection close; the record says cancelled, from the scheduled time on, with no token."""
    with MockServer(never) as server:
        spec = workload(20, patience={"wait": "150ms", "until": until_what})
        first_only = ("chat",) if until_what == "first-token" else ()
        where = endpoint(server, transport)
        run = generate(tmp_path, spec, server.url, workers=1, endpoint=where, until_first_token=first_only)
    rows = run.requests
    assert set(rows["outcome"].tolist()) == {Outcome.CANCELLED}
    assert [seen.closed for seen in server.seen] == [True] * 20
    waited = rows["end_ns"] - rows["scheduled_ns"]
    assert waited.min() >= 150 * MS
    assert np.isnan(rows["first_token_ns"]).all()
    assert not any(rows["error"])


def slowly(_seen: Seen, k: int) -> float:
    """The first token at once, the others 60 ms apart."""
    return 0.06 if k else 0.0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_first_token_is_enough_for_some(tmp_path: Path, transport: Transport) -> None:
    """With a token in time they stay to the end; who waits for the whole reply leaves in the middle of it."""
    ended = {}
    for until_what in ("first-token", "reply"):
        with MockServer(after(0.0), gap_s=slowly) as server:
            spec = workload(10, output_tokens=8, patience={"wait": "200ms", "until": until_what})
            first_only = ("chat",) if until_what == "first-token" else ()
            where = endpoint(server, transport)
            folder = tmp_path / until_what
            ended[until_what] = generate(
                folder, spec, server.url, workers=1, endpoint=where, until_first_token=first_only
            ).requests
    assert set(ended["first-token"]["outcome"].tolist()) == {Outcome.OK}
    assert set(ended["reply"]["outcome"].tolist()) == {Outcome.CANCELLED}
    assert not np.isnan(ended["reply"]["first_token_ns"]).any()
    assert (ended["reply"]["chunks"] >= 1).all()
    assert (ended["reply"]["chunks"] < 8).all()


def test_a_user_who_gives_up_ends_the_session(tmp_path: Path) -> None:
    """Nothing follows a cancelled request, and what never came has no time."""

    async def second_turns_hang(_server: MockServer, seen: Seen) -> int:
        if seen.index % 3 == 1:
            await never(_server, seen)
        return 200

    with MockServer(second_turns_hang) as server:
        session = {"turns": {"dist": "constant", "value": 3}}
        spec = workload(30, session=session, patience={"wait": "100ms"})
        run = generate(tmp_path, spec, server.url, workers=2)
    rows = run.requests
    assert rows["outcome"].tolist() == [Outcome.OK, Outcome.CANCELLED, Outcome.UNSENT] * 10
    assert np.isnan(rows["scheduled_ns"][2::3]).all()


def test_the_engine_drops_what_its_client_gave_up(tmp_path: Path) -> None:
    """Long replies and short patience: each is aborted in the engine, and the KV cache is empty afterwards."""
    order = {"engine": {"kv_tokens": 200_000, "prefix_cache": False}, "model": "tiny"}
    with started(order) as (_, port):
        spec = workload(25, rate=100, output_tokens=2000, patience={"wait": "250ms"})
        held: list[float] = []
        run = generate(
            tmp_path,
            spec,
            f"http://127.0.0.1:{port}",
            workers=1,
            meanwhile=lambda *_: held.append(gauge(port, "vllm:kv_cache_usage_perc")),
        )
        rows = run.requests
        assert set(rows["outcome"].tolist()) == {Outcome.CANCELLED}
        assert max(held) > 0
        until(lambda: gauge(port, "vllm:num_requests_running") == gauge(port, "vllm:num_requests_waiting") == 0)
        assert gauge(port, "vllm:kv_cache_usage_perc") == 0
        aborted = gauge(port, 'vllm:request_success_total{engine="0",model_name="tiny",finished_reason="abort"}')
        assert aborted == 25
