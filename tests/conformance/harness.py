"""Runs exchanges through a transport on a real event loop, against a scripted server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import uvloop

from slobench.clock import MonotonicClock
from slobench.generate.exchange import Exchange, ReadCounters, Transport
from slobench.generate.transport_aiohttp import AiohttpTransport
from slobench.generate.transport_fast import FastTransport
from slobench.names import NULL, Api, Outcome
from slobench.wire.endpoint import Endpoint
from slobench.wire.reply import Reply
from tests.conformance.dialect import Dialect
from tests.conformance.server import Request, Script, ScriptedServer
from tests.generate.plain_rig import opening_of

TRANSPORTS = {
    "native": FastTransport,
    "python": FastTransport,
    "opened": FastTransport,
    "aiohttp": AiohttpTransport,
}
TransportName = Literal["native", "python", "opened", "aiohttp"]
"""The fast transport with either of its receivers, the same as after usual replies, and the other one."""


class Chunk(NamedTuple):
    """One row of chunk records."""

    index: int
    t_ns: int
    tokens: int
    nbytes: int
    channel: int
    lag_ns: int
    coalesced: bool


@dataclass
class Rows:
    """A ChunkSink that keeps its rows."""

    rows: list[Chunk] = field(default_factory=list)
    packed = None

    def add(self, *row: Any) -> None:
        self.rows.append(Chunk(*row))


@dataclass
class Ask:
    """How exchanges are made; the defaults are the usual streamed completion."""

    transport: TransportName = "python"
    api: Api = "completions"
    stream: bool = True
    due_tokens: int | None = None
    reply_type: type[Reply] = Reply
    requests: int = 1  # one after the other
    sessions: Sequence[int] = ()
    abort_after_s: float | None = None  # then the first exchange is aborted as `cut`
    close_after_s: float | None = None  # then the transport is closed
    pause_s: float = 0.0  # between two requests
    scheme: str = "http"
    port: int | None = None  # where nobody listens
    through_proxy: bool = False  # the scripted server is the proxy, the URL's host exists nowhere
    endpoint: dict[str, Any] = field(default_factory=dict)


@dataclass
class Seen:
    """What came of it, on both sides."""

    exchanges: list[Exchange]
    chunks: list[Chunk]
    requests: list[Request]
    ends: list[int]  # index of each on_end, in order
    counters: ReadCounters
    connections: int

    @property
    def exchange(self) -> Exchange:
        return self.exchanges[0]

    @property
    def reply(self) -> Reply:
        return self.exchanges[0].reply

    @property
    def outcome(self) -> Outcome | None:
        return self.exchanges[0].outcome


def converse(scripts: Sequence[Script], ask: Ask, *, tls: ssl.SSLContext | None = None, silent: bool = False) -> Seen:
    """Play the scripts to the exchanges asked for, and return when all have ended."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(_converse(scripts, ask, tls, silent=silent), 30))


async def _converse(scripts: Sequence[Script], ask: Ask, tls: ssl.SSLContext | None, *, silent: bool) -> Seen:
    loop, clock, counters, rows = asyncio.get_running_loop(), MonotonicClock(), ReadCounters(), Rows()
    ends: list[int] = []
    waiters: dict[int, asyncio.Future[None]] = {}

    def on_end(exchange: Exchange) -> None:
        ends.append(exchange.index)
        if not waiters[exchange.index].done():
            waiters[exchange.index].set_result(None)

    async with ScriptedServer(scripts, tls, silent=silent) as server:
        url = f"{ask.scheme}://127.0.0.1:{ask.port or server.port}"
        proxy = url if ask.through_proxy else None
        endpoint = Endpoint(
            url="http://upstream.invalid" if proxy else url,
            proxy=proxy,
            model="tiny",
            api=ask.api,
            stream=ask.stream,
            transport="aiohttp" if ask.transport == "aiohttp" else "fast",
            receiver=ask.transport if ask.transport in {"native", "python"} else "auto",
            **ask.endpoint,
        )
        transport: Transport = TRANSPORTS[ask.transport]((endpoint,), clock, on_end, "test", counters)
        await transport.open()
        if ask.transport == "opened" and ask.api in {"completions", "chat"}:
            transport._openings[0] = opening_of(Dialect(ask.api))  # type: ignore[attr-defined]
        exchanges = []
        try:
            for index in range(ask.requests):
                reply = ask.reply_type(
                    index=index, api=ask.api, stream=ask.stream, due_tokens=ask.due_tokens, chunks=rows
                )
                now_ns = clock.now_ns()
                session = ask.sessions[index] if ask.sessions else index
                exchange = Exchange(index, session, now_ns, now_ns, b'{"prompt":[1]}', reply)
                waiters[index] = loop.create_future()
                exchanges.append(exchange)
                transport.start(exchange)
                if ask.abort_after_s is not None:
                    loop.call_later(ask.abort_after_s, transport.abort, exchange, Outcome.CUT)
                if ask.close_after_s is not None:
                    await asyncio.sleep(ask.close_after_s)
                    await transport.close()
                await waiters[index]
                await asyncio.sleep(ask.pause_s)
            await asyncio.sleep(0)
        finally:
            if ask.close_after_s is None:
                await transport.close()
        return Seen(exchanges, rows.rows, server.requests, ends, counters, server.connections)


def unseen(seen: Seen) -> bool:
    """Whether not one token time or count stands in the record."""
    reply = seen.reply
    times = (reply.first_token_ns, reply.first_output_ns, reply.last_token_ns)
    return all(t == NULL for t in (*times, reply.output_tokens, reply.first_chunk_tokens)) and not seen.chunks
