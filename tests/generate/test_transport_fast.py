"""The default transport where its parts meet: an abort while a reply's end waits, what requests leave behind."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter

import pytest
import uvloop

from slobench.clock import MonotonicClock
from slobench.generate.exchange import Exchange, ReadCounters
from slobench.generate.plain import Ready
from slobench.generate.transport_fast import FastTransport
from slobench.names import Outcome
from slobench.pacer import NEVER
from slobench.wire.endpoint import Endpoint
from slobench.wire.reply import Reply
from tests.generate.mock_server import MockServer, Seen
from tests.generate.rig import Rows


async def once_then_close(_server: MockServer, seen: Seen) -> int:
    """Answer a connection's first request; close it on the second, as a server does whose keep-alive ran out."""
    return 0 if seen.index else 200


def test_a_cut_ends_a_request_that_is_about_to_be_sent_again() -> None:
    """The close of a pooled connection waits to be decoded when the cut comes: it ends as `cut`, once, right then."""
    ended: list[Exchange] = []
    clock = MonotonicClock()

    def exchange(index: int) -> Exchange:
        reply = Reply(index=index, api="completions", stream=True, due_tokens=None, chunks=Rows())  # type: ignore[arg-type]
        now_ns = clock.now_ns()
        return Exchange(index, index, now_ns, now_ns, b'{"prompt":[1],"max_tokens":2}', reply)

    async def main(url: str) -> None:
        endpoint = Endpoint(url=url, model="tiny")
        transport = FastTransport((endpoint,), clock, ended.append, "test", ReadCounters())
        await transport.open()
        transport.start(exchange(0))
        while not ended:  # noqa: ASYNC110 (on_end is a plain callback)
            await asyncio.sleep(0.001)
        transport.next_send_ns = clock.now_ns()  # a send is due: decoding is put off
        second = exchange(1)
        transport.start(second)
        (connection,) = transport._by_fd.values()
        while not connection.pending:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        transport.abort(second, Outcome.CUT)
        assert [(each.index, each.outcome) for each in ended] == [(0, Outcome.OK), (1, Outcome.CUT)]
        assert second.reconnects == 1
        transport.next_send_ns = NEVER
        await asyncio.sleep(0.05)
        assert len(ended) == 2
        assert not transport._by_index
        await transport.close()

    with MockServer(once_then_close) as server, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(main(server.url), 30))


async def of_all_kinds(_server: MockServer, seen: Seen) -> int:
    """Answer most requests, refuse some, and close the connection on others."""
    return {3: 429, 4: 0}.get(seen.index % 5, 200)


@pytest.mark.parametrize("gather", [False, True])
def test_requests_leave_no_cycles_behind(*, gather: bool) -> None:
    """Nothing of ours waits for the garbage collector: workers keep what is in flight out of its way.

    Replies that are whole, refused, cut off by the server and aborted by us.
    """
    clock = MonotonicClock()

    async def left_by(url: str, requests: int) -> Counter[str]:
        ended: list[int] = []
        endpoint = Endpoint(url=url, model="tiny")
        counters = ReadCounters()
        transport = FastTransport(
            (endpoint,), clock, lambda each: ended.append(each.index), "t", counters, gather=gather
        )
        await transport.open()
        for index in range(requests):
            reply = Reply(index=index, api="completions", stream=True, due_tokens=None, chunks=Rows())  # type: ignore[arg-type]
            now_ns = clock.now_ns()
            exchange = Exchange(index, index, now_ns, now_ns, b'{"prompt":[1],"max_tokens":2}', reply)
            transport.start(exchange)
            if index % 7 == 6:
                transport.abort(exchange, Outcome.CUT)
            while len(ended) <= index:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        del reply, exchange
        gc.collect()
        found = Counter(type(each).__name__ for each in gc.garbage if type(each).__module__.startswith("slobench."))
        gc.garbage.clear()
        await transport.close()
        return found

    with MockServer(of_all_kinds) as server, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)  # the server is in this process, and its garbage is its own
        try:
            left = runner.run(asyncio.wait_for(left_by(server.url, 140), 60))
        finally:
            gc.set_debug(0)
            gc.enable()
    assert not left


async def well(_server: MockServer, _seen: Seen) -> int:
    """Answer every request."""
    return 200


def sends_between(transport: FastTransport, done: list[Exchange]) -> list[int]:
    """Let a send fall due when the first reply has ended, 6 ms later; how many had ended when it went out."""
    sent_after: list[int] = []

    def send_due() -> None:
        sent_after.append(len(done))
        transport.next_send_ns = NEVER

    def on_end(exchange: Exchange) -> None:
        done.append(exchange)
        if len(done) == 1:
            time.sleep(0.006)  # the other ends have waited for so long now that they do not wait for a quiet moment
            transport.next_send_ns = transport._now_ns()

    transport.send_due, transport._on_end = send_due, on_end
    return sent_after


async def twelve_ends_wait(transport: FastTransport) -> None:
    """Send twelve requests, and return when all of their replies are there and none is decoded."""
    await transport.open()
    transport._decoding._planned = True  # as if it were: they gather
    for index in range(12):
        reply = Reply(index=index, api="completions", stream=True, due_tokens=None, chunks=Rows())  # type: ignore[arg-type]
        now_ns = transport._now_ns()
        transport.start(Exchange(index, index, now_ns, now_ns, b'{"prompt":[1],"max_tokens":2}', reply))
    while sum(b"[DONE]" in read[0] for each in transport._decoding._queue for read in each.pending) < 12:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def test_a_send_that_falls_due_goes_out_before_the_next_reply_is_decoded() -> None:
    """Of replies that end together, as those of one step of a server do, only one holds up a send."""
    done: list[Exchange] = []

    async def main(url: str) -> list[int]:
        endpoint = Endpoint(url=url, model="tiny")
        transport = FastTransport((endpoint,), MonotonicClock(), done.append, "test", ReadCounters(), gather=True)
        sent_after = sends_between(transport, done)
        await twelve_ends_wait(transport)
        transport._decoding._slice()
        while len(done) < 12:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await transport.close()
        return sent_after

    with MockServer(well) as server, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(asyncio.wait_for(main(server.url), 30)) == [1]
    assert {each.outcome for each in done} == {Outcome.OK}


class Looks:
    """A reader that always finds as many sockets as it may look at."""

    ready = 0

    def __init__(self) -> None:
        self.limits: list[int] = []

    def poll(self, limit: int) -> list[Ready]:
        self.limits.append(limit)
        self.ready = limit
        return []


@pytest.mark.parametrize("burst", [False, True])
def test_a_send_that_falls_due_goes_out_between_reads(*, burst: bool) -> None:
    """A burst of tokens is read in parts; where sends are a burst themselves, the event loop comes between."""

    async def main() -> tuple[list[int], list[int]]:
        endpoint = Endpoint(url="http://127.0.0.1:9", model="tiny")
        transport = FastTransport((endpoint,), MonotonicClock(), lambda _: None, "test", ReadCounters())
        await transport.open()
        looks, sent_after = Looks(), []
        transport._plain = looks  # type: ignore[assignment]

        def send_due() -> None:
            sent_after.append(len(looks.limits))
            transport.next_send_ns = 0 if burst else NEVER

        transport.send_due, transport.next_send_ns = send_due, 0
        transport._serve()
        await transport.close()
        return looks.limits, sent_after

    limits, sent_after = asyncio.run(main())
    assert sent_after == [1]
    assert sum(limits) == (16 if burst else 64)
