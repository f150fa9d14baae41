"""The engine in real time: steps end when the machine's clock says so, and their tokens are written then."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TextIO

from slobench.engine.exposition import ServerMetrics, Times
from slobench.engine.model import EngineCore, Request, State, Step
from slobench.engine.reply import Reply
from slobench.pacer import make_pacer


@dataclass(slots=True, eq=False)
class Live:
    """A request whose client waits. Times: ns on CLOCK_MONOTONIC, 0 = not yet."""

    request: Request
    reply: Reply
    label: str  # the client's x-request-id, or the number of arrival
    received_ns: int
    admitted_ns: int = 0  # start of the step that let it in
    first_ns: int = 0  # end of the step that gave its first token
    first_write_ns: int = 0  # just before the first token was given to the kernel


class Serving:
    """Runs the steps of one engine on CLOCK_MONOTONIC.

    A step begins where the last one ended, however late the process was then: lateness does not add up.
    """

    def __init__(
        self, core: EngineCore, metrics: ServerMetrics, loop: asyncio.AbstractEventLoop, log: TextIO | None
    ) -> None:
        self._core = core
        self._metrics = metrics
        self._timer = make_pacer(loop, self._step_ends)
        self._log = log
        self._step: Step | None = None
        self._end_ns = 0
        self._start_ns = time.monotonic_ns()
        if log:
            log.write("id,recv_ns,first_ns,last_ns,tokens,status\n")

    def submit(self, live: Live) -> None:
        """Queue a request; an idle engine begins its step at once."""
        self._core.add(live.request)
        if self._step is None:
            self._begin(max(live.received_ns, self._end_ns))

    def abort(self, live: Live) -> None:
        """Forget a request whose client is gone."""
        self._core.abort(live.request)
        self._metrics.ended["abort"] += 1
        self._write_log(live, time.monotonic_ns(), "closed")

    def close(self) -> None:
        """Stop the clock-work."""
        self._timer.close()

    def _begin(self, now_ns: int) -> None:
        self._step = step = self._core.step(now_ns - self._start_ns)
        if step is None:
            if self._log:
                self._log.flush()
            return
        self._end_ns = now_ns + step.duration_ns
        self._timer.arm(self._end_ns)
        for request in step.admitted:
            request.client.admitted_ns = request.client.admitted_ns or now_ns

    def _step_ends(self) -> None:
        step, end_ns = self._step, self._end_ns
        assert step is not None
        self._metrics.step_late_s.add((time.monotonic_ns() - end_ns) / 1e9)
        for request in step.prefilled:
            if not request.client.first_ns:
                request.client.first_ns = end_ns
                if request.client.reply.ask.api == "embeddings":  # there is no first token to wait for
                    continue
                self._metrics.ttft_s.add((end_ns - request.client.received_ns) / 1e9)
        # The core's state is that of the step's end, less what clients gave up since.
        for request in self._core.running:
            if request.state is State.DECODE:
                live = request.client
                if not live.first_write_ns:
                    live.first_write_ns = time.monotonic_ns()
                live.reply.token()
        for request in step.finished:
            if not request.client.reply.connection.gone:
                self._finish(request.client, end_ns)
        self._metrics.count_step(step)
        self._begin(end_ns)

    def _finish(self, live: Live, end_ns: int) -> None:
        write_ns = time.monotonic_ns()
        live.first_write_ns = live.first_write_ns or write_ns
        request, reply = live.request, live.reply
        reply.last(request.cached_tokens)
        times = Times(live.received_ns, live.admitted_ns, live.first_ns, end_ns)
        self._metrics.count_reply(times, request.prompt_tokens, request.output_tokens, reply.ask.finish_reason)
        self._write_log(live, write_ns, "done")

    def _write_log(self, live: Live, last_ns: int, status: str) -> None:
        if self._log:
            first_ns, sent = live.first_write_ns, live.reply.sent
            self._log.write(f"{live.label},{live.received_ns},{first_ns},{last_ns},{sent},{status}\n")
