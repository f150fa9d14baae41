"""One generator process: reads its job from standard input, offers its share of the plan, appends to its spool.

Protocol, one JSON object a line. In: the job, then {"do": "start", "epoch_ns": N}, {"do": "stop", "at_ns": N},
{"do": "cut"}; to a plan that grows also {"do": "extend", "plan": PATH, "counts": PATH, "counted_from": I, "n": N} and
{"do": "curtail"}. Out: {"event": "ready"}, {"event": "offered"}, {"event": "done", …} or {"event": "failed", …},
and {"event": "extended"}, {"event": "curtailed"} when that is done.
End of standard input means that the parent died: flush and leave.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import orjson

from slobench import open_files
from slobench.clock import RunClock
from slobench.errors import SlobenchError
from slobench.generate.closed_loop import ClosedLoop
from slobench.generate.exchange import ReadCounters, Transport
from slobench.generate.health import BEAT_NS, Health
from slobench.generate.job import Job
from slobench.generate.native import find_set_timer
from slobench.generate.open_loop import OpenLoop
from slobench.generate.open_sessions import OpenSessions
from slobench.generate.sender import Sender
from slobench.generate.tally import Tally
from slobench.pacer import make_pacer
from slobench.plan import Plan
from slobench.records import probe_counts
from slobench.records.counters import Counters, Slot
from slobench.records.spool import SpoolWriter
from slobench.wire.endpoint import Endpoint

_LAST_WORDS_S = 2.0
_SWITCH_S = 0.0002  # what a due send may wait for the thread that writes the spool; 5 ms by default


def say(event: str, **values: object) -> None:
    """Write one event to the parent."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.buffer.write(orjson.dumps({"event": event, **values}) + b"\n")
        sys.stdout.buffer.flush()


def make_transport(
    endpoints: tuple[Endpoint, ...], clock: RunClock, sender: Sender, job: Job, reads: ReadCounters
) -> Transport:
    """The transport that the job asks for; without epoll (no Linux) always aiohttp, with user-space stamps."""
    import select

    if job.endpoint.transport == "fast" and hasattr(select, "epoll"):
        from slobench.generate.transport_fast import FastTransport

        gather = not job.closed and sender.plan.after is None
        return FastTransport(endpoints, clock, sender.ended, job.nonce, reads, gather=gather)
    from slobench.generate.transport_aiohttp import AiohttpTransport

    return AiohttpTransport(endpoints, clock, sender.ended, job.nonce, reads)


class Worker:
    """Wires clock, spool, transport, loop and heartbeat together, and ends when nothing is left."""

    def __init__(self, job: Job, plan: Plan) -> None:
        self._job = job
        self._plan = plan
        self._reads = ReadCounters()
        self._spool = SpoolWriter(Path(job.spool), job.worker)
        self._counters = Counters.attach(Path(job.counters), job.worker)
        self._counters.set(Slot.PLANNED, len(plan))
        self._offered = False
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def prepare(self) -> None:
        """Set up all that takes time: name resolution, TLS, the first bodies. Raises UsageError where it cannot."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_fault)
        job = self._job
        self._clock = clock = RunClock(time.monotonic_ns())
        self._sender = sender = Sender(self._plan, job, clock, self._spool, self._counters)
        endpoints = job.endpoints_of(len(self._plan.class_names))
        sender.transport = make_transport(endpoints, clock, sender, job, self._reads)
        await sender.transport.open()
        sender.bodies.next_send_ns = lambda: sender.transport.next_send_ns
        self._health = Health(
            clock,
            self._spool,
            self._counters,
            self._reads,
            lambda: len(sender.in_flight),
            freezes=self._reads.receiver is not None,  # the fast transport, which makes no cycles
        )
        self._set_timer = find_set_timer(job.endpoint.receiver)
        self._beats = make_pacer(loop, self._on_beat, self._set_timer)
        sender.bodies.work_ahead()
        open_files.make_room()
        # What exists now lives to the end: out of the collector's way, so that its pauses stay short.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)

    def start(self, epoch_ns: int) -> None:
        """Begin a run that starts at `epoch_ns` on CLOCK_MONOTONIC."""
        job, clock, sender = self._job, self._clock, self._sender
        clock.epoch_ns = epoch_ns
        self._load: ClosedLoop | OpenLoop | OpenSessions
        if job.closed:
            self._load = ClosedLoop(sender, clock, epoch_ns, job.think_ns, goes_on=job.goes_on)
        elif self._plan.after is not None or job.endpoint.connection == "per-session":
            self._load = OpenSessions(sender, clock, epoch_ns, goes_on=job.goes_on)
        else:
            self._load = OpenLoop(sender, clock, epoch_ns, grows=job.grows)
        sender.after_end = self._load.after_end
        sender.transport.send_due = self._load.on_due
        self._load.pacer = make_pacer(asyncio.get_running_loop(), self._load.on_due, self._set_timer)
        self._beat_ns = epoch_ns
        self._beats.arm(epoch_ns)
        self._load.start()

    def stop(self, at_ns: int) -> None:
        """Offer nothing scheduled at or after `at_ns`."""
        self._load.stop(at_ns)

    async def extend(self, plan: Path, counts: Path, *, counted_from: int, n: int) -> None:
        """Go on with a segment of the plan: read in a thread while the loop sends, swapped in on the loop."""
        job = self._job

        def load() -> tuple[Plan, probe_counts.ProbeBlock]:
            return Plan.load(plan).shard(job.worker, job.workers), probe_counts.attach(counts, job.worker)

        segment, block = await asyncio.to_thread(load)
        assert isinstance(self._load, OpenLoop)
        self._load.extend(segment, Tally(block, self._sender.shares, counted_from=counted_from, n=n))
        say("extended")

    def curtail(self) -> None:
        """Give up the rows of the plan so far that have not been sent."""
        assert isinstance(self._load, OpenLoop)
        self._load.curtail()
        say("curtailed")

    def cut(self) -> None:
        """End what is in flight now."""
        self._load.stop(0)
        self._sender.cut()

    async def run(self) -> None:
        """Wait for the end, then close the books. Raises what went wrong on the sending or the receiving path."""
        try:
            await self._done
        except Exception:
            await asyncio.to_thread(self._spool.close, ended_well=False)  # what was recorded until then is good
            raise
        self._beats.close()
        self._load.pacer.close()
        await self._sender.transport.close()
        self._health.close()
        await asyncio.to_thread(self._spool.close)
        self._counters.set(Slot.IN_FLIGHT, 0)
        self._counters.set(Slot.SPOOL_LOST, self._spool.lost_rows)
        say(
            "done",
            stamps=self._reads.stamps,
            receiver=self._reads.receiver,
            reads=self._reads.reads,
            unstamped=self._reads.unstamped,
            clock_steps=self._reads.clock_steps,
            spool_error=self._spool.error,
            spool_lost=self._spool.lost_rows,
            cpu_s=time.process_time(),
            end_ns=self._clock.now_ns(),
        )

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do: the books are being closed, and orders come too late."""
        return self._done.done()

    def fail(self, error: Exception) -> None:
        """End the work with this error."""
        self._end(error)

    def last_words(self) -> None:
        """The parent died: keep what there is, then leave at once."""
        with contextlib.suppress(Exception):
            self._spool.close(_LAST_WORDS_S, ended_well=False)
        os._exit(1)

    def _on_fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback or a task raised: nothing would go on in its place, and the run would wait for ever."""
        error = context.get("exception")
        ours = "Exception in callback" in context["message"] or "never retrieved" in context["message"]
        if isinstance(error, Exception) and ours:
            self._end(error)
        else:
            loop.default_exception_handler(context)

    def _end(self, error: Exception | None) -> None:
        if self._done.done():
            return
        if error is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(error)

    def _on_beat(self) -> None:
        due_ns = self._beat_ns
        self._health.beat(due_ns - self._clock.epoch_ns)
        # Beats that a stall swallowed are skipped: each beat measures one wake-up.
        now_ns = time.monotonic_ns()
        self._beat_ns = due_ns + BEAT_NS * max(1, -(-(now_ns - due_ns) // BEAT_NS))
        self._beats.arm(self._beat_ns)
        if self._load.finished:
            if not self._offered:
                self._offered = True
                say("offered")
            if not self._sender.in_flight:
                self._end(None)


async def serve() -> None:
    """Read the job, say ready, then do what the parent says until the work is done."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    line = await reader.readline()
    if not line:
        return
    job = Job.from_json(line)
    plan = await asyncio.to_thread(Plan.load, Path(job.plan))
    worker = Worker(job, plan.shard(job.worker, job.workers))
    await worker.prepare()
    say("ready")
    run: asyncio.Task[None] | None = None
    commands: asyncio.Task[Any] | None = None
    while run is None or not run.done():
        commands = asyncio.ensure_future(reader.readline())
        await asyncio.wait({task for task in (run, commands) if task}, return_when=asyncio.FIRST_COMPLETED)
        if not commands.done():
            break
        command = commands.result()
        if not command:
            worker.last_words()
        run = await obey(worker, orjson.loads(command)) or run
    if commands is not None:
        commands.cancel()
    if run is not None:
        await run


async def obey(worker: Worker, command: dict[str, Any]) -> asyncio.Task[None] | None:
    """Do one command; the task that ends with the work is returned by "start"."""
    if worker.ended:
        return None
    match command["do"]:
        case "start":
            worker.start(command["epoch_ns"])
            return asyncio.ensure_future(worker.run())
        case "extend":
            paths = (Path(command["plan"]), Path(command["counts"]))
            try:
                await worker.extend(*paths, counted_from=command["counted_from"], n=command["n"])
            except Exception as error:  # noqa: BLE001 (whatever it is: what was recorded is kept, then the worker ends)
                worker.fail(error)
        case "curtail":
            worker.curtail()
        case "stop":
            worker.stop(command["at_ns"])
        case "cut":
            worker.cut()
    return None


def main() -> None:
    """Entry point of `python -m slobench.generate.worker`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    sys.setswitchinterval(_SWITCH_S)
    try:
        import uvloop

        uvloop.run(serve())
    except SlobenchError as error:
        say("failed", text=str(error), exit=int(error.exit))
    except Exception as error:  # noqa: BLE001 (the parent must hear of anything that ends a worker)
        import traceback

        say("failed", text=f"{type(error).__name__}: {error}", trace=traceback.format_exc(), exit=1)


if __name__ == "__main__":
    main()
