"""The second transport, on aiohttp: HTTP proxies, and a check on the first. Stamps are user-space times."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from slobench.clock import Clock
from slobench.errors import UsageError
from slobench.generate.deadlines import Timeouts
from slobench.generate.exchange import Exchange, OnEnd, ReadCounters
from slobench.generate.tls import tls_context
from slobench.names import NULL, Outcome
from slobench.pacer import NEVER
from slobench.wire.endpoint import Endpoint, request_headers, request_path
from slobench.wire.openai import clip
from slobench.wire.outcome import Ended

_OUR_LIMITS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
_LARGE_BODY_BYTES = 1 << 20  # aiohttp warns where more is given in one piece
_IDLE_S = 3600.0  # the server decides how long an idle connection lives, not we

_Failure = tuple[Ended | Outcome, str]


@dataclass(slots=True)
class _Running:
    """An exchange that has not ended, its task, and what its timeouts need."""

    exchange: Exchange
    task: asyncio.Task[None]
    timer: asyncio.TimerHandle | None = None
    last_read_ns: int = NULL


class AiohttpTransport:
    """One task for each exchange on an unlimited pool. Times are `clock`'s, taken when a task gets its bytes."""

    def __init__(
        self, endpoints: Sequence[Endpoint], clock: Clock, on_end: OnEnd, request_id: str, counters: ReadCounters
    ) -> None:
        """endpoints: by class code; one server, reached in one way, with paths and headers of each class."""
        self.next_send_ns = NEVER
        self.send_due: Callable[[], None] = lambda: None
        self._endpoint = endpoint = endpoints[0]
        self._now_ns = clock.now_ns
        self._on_end = on_end
        self._request_id = request_id
        self._counters = counters
        counters.stamps = "user"
        parts = urlsplit(endpoint.url)
        host = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        closing = {"connection": "close"} if endpoint.connection == "per-request" else {}
        self._heads = tuple((host + request_path(each), request_headers(each) | closing) for each in endpoints)
        self._tls = tls_context(endpoint)
        self._timeouts = Timeouts(endpoint)
        self._running: dict[int, _Running] = {}
        self._by_session: dict[int, aiohttp.ClientSession] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Resolve the host (the proxy's, where there is one) once. Raises UsageError where the name is unknown."""
        self._loop = asyncio.get_running_loop()
        parts = urlsplit(self._endpoint.proxy or self._endpoint.url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        try:
            found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise UsageError(f"cannot resolve {host!r}: {error.strerror or error}") from None
        self._resolver = _Resolved(
            [
                ResolveResult(hostname=host, host=str(address[0]), port=port, family=family, proto=proto, flags=0)
                for family, _, proto, _, address in found
            ]
        )
        self._pooled = self._client(force_close=self._endpoint.connection == "per-request")
        self._fresh = self._client(force_close=True)

    def start(self, exchange: Exchange) -> None:
        """Begin to send; the exchange's end is reported from the event loop."""
        running = _Running(exchange, self._loop.create_task(self._run(exchange)))
        self._running[exchange.index] = running
        self._watch(running)

    def abort(self, exchange: Exchange, outcome: Outcome) -> None:
        """End the exchange now and close its connection."""
        running = self._running.get(exchange.index)
        if running is None or running.exchange is not exchange:
            return
        exchange.reply.finish(Ended.ABORTED)
        self._end(exchange, outcome, "")
        running.task.cancel()

    def end_session(self, session: int) -> None:
        """Close the idle connections of a session, of which nothing more comes."""
        client = self._by_session.pop(session, None)
        if client is not None:
            closing = self._loop.create_task(client.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Cut what is open and close every connection."""
        open_yet = list(self._running.values())
        for running in open_yet:
            self.abort(running.exchange, Outcome.CUT)
        await asyncio.gather(*(running.task for running in open_yet), return_exceptions=True)
        for client in (self._pooled, self._fresh, *self._by_session.values()):
            await client.close()
        await asyncio.gather(*self._closing)

    # Clients

    def _client(self, *, force_close: bool) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=0,
            ssl=self._tls or True,
            resolver=self._resolver,
            use_dns_cache=False,  # the resolver holds what it found
            force_close=force_close,
            keepalive_timeout=None if force_close else _IDLE_S,
        )
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(self._on_connected)
        trace.on_connection_reuseconn.append(self._on_reused)
        trace.on_request_headers_sent.append(self._on_sent)
        return aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None),
            trace_configs=[trace],
            proxy=self._endpoint.proxy,
        )

    def _client_of(self, exchange: Exchange) -> aiohttp.ClientSession:
        if self._endpoint.connection != "per-session":
            return self._pooled
        client = self._by_session.get(exchange.session)
        if client is None:
            client = self._by_session[exchange.session] = self._client(force_close=False)
        return client

    async def _on_connected(self, _: object, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.connection_new = True
        context.trace_request_ctx.connected_ns = self._now_ns()

    async def _on_reused(self, _: object, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.connection_new = False
        context.trace_request_ctx.connected_ns = self._now_ns()

    async def _on_sent(self, _: object, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.sent_ns = self._now_ns()

    # One exchange

    async def _run(self, exchange: Exchange) -> None:
        ended, detail = await self._attempt(self._client_of(exchange), exchange)
        if ended in {Ended.CLOSED, Ended.RESET} and not exchange.reads and exchange.connection_new is False:
            # A pooled connection that the server had closed: once more, on a new one; latency counts on.
            exchange.reconnects = 1
            exchange.sent_ns = exchange.connected_ns = NULL
            ended, detail = await self._attempt(self._fresh, exchange)
        if isinstance(ended, Outcome):
            exchange.reply.finish(Ended.ABORTED)
            self._end(exchange, ended, detail)
        else:
            outcome, error = exchange.reply.finish(ended)
            detail = "" if outcome is Outcome.OK else detail
            self._end(exchange, outcome, f"{error}: {detail}" if error and detail else error or detail)

    async def _attempt(self, client: aiohttp.ClientSession, exchange: Exchange) -> _Failure:
        """Send once and read to the end; return how that ended."""
        body = exchange.body
        url, headers = self._heads[exchange.class_code]
        try:
            async with client.post(
                url,
                data=body if len(body) <= _LARGE_BODY_BYTES else io.BytesIO(body),
                headers=headers | {"x-request-id": f"{self._request_id}-{exchange.index}"},
                allow_redirects=False,
                trace_request_ctx=exchange,
            ) as response:
                exchange.headers_ns = self._now_ns()
                self._count_read(exchange)
                exchange.reply.on_headers(response.status, response.headers.get("content-type", ""))
                try:
                    await self._read(response, exchange)
                except BaseException:
                    response.close()
                    raise
        except aiohttp.ClientHttpProxyError as error:
            return Outcome.CONNECTION, f"proxy: HTTP {error.status} {error.message}"
        except aiohttp.ServerDisconnectedError as error:
            if not isinstance(error.message, str):  # aiohttp keeps the part of the head that came
                self._count_read(exchange)
            return Ended.CLOSED, ""
        except aiohttp.ClientError as error:
            return _failure(error)
        except OSError as error:
            return Ended.RESET, error.strerror or str(error)
        except ValueError as error:  # URL or header that aiohttp refuses
            return Outcome.CLIENT, str(error)
        return Ended.COMPLETE, ""

    async def _read(self, response: aiohttp.ClientResponse, exchange: Exchange) -> None:
        reply, now_ns = exchange.reply, self._now_ns
        running, previous_ns = self._running[exchange.index], exchange.sent_ns
        async for data in response.content.iter_any():
            t_ns = now_ns()
            self._count_read(exchange)
            reply.feed(data)
            reply.stamp(t_ns, 0, previous_ns)
            running.last_read_ns = previous_ns = t_ns

    def _count_read(self, exchange: Exchange) -> None:
        exchange.reads += 1
        self._counters.reads += 1
        self._counters.unstamped += 1

    def _end(self, exchange: Exchange, outcome: Outcome, error: str) -> None:
        timer = self._running.pop(exchange.index).timer
        if timer is not None:
            timer.cancel()
        exchange.outcome, exchange.error, exchange.end_ns = outcome, clip(error), self._now_ns()
        self._on_end(exchange)

    # Timeouts

    def _watch(self, running: _Running) -> None:
        """End the exchange if it is over time; else look again at the earliest time when it can be."""
        now_ns = self._now_ns()
        due_ns, outcome = self._timeouts.first(running.exchange, running.last_read_ns)
        if due_ns <= now_ns:
            self.abort(running.exchange, outcome)
        else:
            # uvloop's timers fire up to 1.2 ms early: then this comes by once more.
            wait_ns = self._timeouts.next_look(running.exchange, running.last_read_ns, now_ns) - now_ns
            delay_s = max(wait_ns, 1_000_000) / 1e9
            running.timer = self._loop.call_later(delay_s, self._watch, running)


class _Resolved(AbstractResolver):
    """The addresses found when the transport was opened: no look-up within a latency."""

    def __init__(self, found: list[ResolveResult]) -> None:
        self._found = found

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return what was found, whatever is asked."""
        del host, port, family
        return self._found

    async def close(self) -> None:
        """Nothing is held."""


def _failure(error: aiohttp.ClientError) -> _Failure:
    """How an aiohttp error reads as the end of a reply, or as an outcome of the client's side."""
    cause = error.__cause__ or error.__context__
    text = str(error)
    if isinstance(error, aiohttp.ClientSSLError):
        return Outcome.CONNECTION, f"tls: {error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        code = error.os_error.errno
        return (
            Outcome.CLIENT if code in _OUR_LIMITS else Outcome.CONNECTION,
            f"connect: {os.strerror(code) if code else error}",
        )
    if isinstance(error, aiohttp.ClientOSError) or isinstance(cause, OSError) or "ConnectionResetError" in text:
        return Ended.RESET, text
    if isinstance(error, aiohttp.ClientPayloadError) and "not completed" in text:
        return Ended.CLOSED, ""
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ClientResponseError):
        return Ended.MALFORMED, text
    return Outcome.CLIENT, f"{type(error).__name__}: {text}"
