"""Generator processes on the hosts of a Ray cluster: one start on all their clocks, spools gathered as they grow."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from slobench import __version__
from slobench.config.workers import OnRay
from slobench.errors import UsageError, WorkerError
from slobench.generate import ray_cluster
from slobench.generate.clocks import Offset, drift_of, error_of, measure_offset
from slobench.generate.job import Job
from slobench.generate.pool import Pool, Seat, WorkerEvent
from slobench.generate.ray_cluster import Node
from slobench.generate.ray_host import Facts, Polled, RemoteWorker, network
from slobench.records import probe_counts
from slobench.records.counters import Counters
from slobench.wire.endpoint import Endpoint

_MARGIN_NS = 1_000_000_000  # from the start order to the first arrival: every host has it by then
_NEEDED_NS = 150_000_000  # of that, what a worker needs between order and start, as on one host
_BEGIN_S = 60.0
_POLL_S = 0.25
_ANSWER_S = 5.0
_LEAVE_S = 2.0
_SHIP_BYTES = 16 * 2**20
_LINE_BYTES = 32 * 2**10  # of a job at once: larger arguments go through Ray's object store, which may spill to disk
_HEAD_BYTES = 40  # of a block: the counts that say how far the others have come


@dataclass(slots=True)
class _Far:
    """One worker as we see it. have: bytes of each of its files that are here; blocks: where its counts go, by name.

    held: what it said before its files were here whole. before, after: its clock at the start and at the end.
    """

    actor: Any
    node: Node
    facts: Facts
    have: dict[str, int] = field(default_factory=dict)
    blocks: dict[str, tuple[Path, int, int]] = field(default_factory=dict)
    held: list[WorkerEvent] = field(default_factory=list)
    before: Offset | None = None
    after: Offset | None = None
    followed: bool = True

    def path(self, name: str) -> str:
        """Where a file of that name is on its host."""
        return f"{self.facts.folder}/{name}"


class RayPool(Pool):
    """W workers, each held by an actor of its own on a node of the cluster; one ends with its actor.

    A thread asks each a few times a second what is new: its spool, counts and words come into the same files and the
    same queue as those of workers on this host. Nothing passes per request.
    """

    def __init__(self, asked: OnRay, spool: Path, *, most: int, connections: int) -> None:
        """Start the actors and their processes. Raises UsageError, WorkerError.

        most: how many at most where their number was not asked for; connections: what all of them together may need.
        """
        self._ours = ray_cluster.join(asked)
        self._ray = ray_cluster.import_ray()
        self._actors: list[Any] = []
        try:
            placed = ray_cluster.place(ray_cluster.nodes(), asked.workers, most)
            super().__init__(len(placed), spool)
            spool.mkdir(parents=True, exist_ok=True)
            self._far = self._begin(placed, -(-connections // len(placed)))
        except BaseException:
            self._leave(_LEAVE_S)
            raise
        for worker in range(self.workers):
            (spool / f"w{worker}.open").touch()
        self._names: dict[str, str] = {}
        self._closing = threading.Event()
        self._follower = threading.Thread(target=self._follow, name="ray-follower", daemon=True)
        self._follower.start()

    def _begin(self, placed: Sequence[Node], connections: int) -> list[_Far]:
        self._actors = [ray_cluster.actor(RemoteWorker, node) for node in placed]
        begun = [actor.begin.remote(worker, connections) for worker, actor in enumerate(self._actors)]
        found = []
        for worker, (actor, node, ref) in enumerate(zip(self._actors, placed, begun, strict=True)):
            try:
                facts = self._ray.get(ref, timeout=_BEGIN_S)
            except self._ray.exceptions.GetTimeoutError as error:
                raise WorkerError(
                    f"Ray started no worker on {node.host} within {_BEGIN_S:.0f} s\n"
                    "  expected  a free CPU there: `ray status` shows what is taken"
                ) from error
            except self._ray.exceptions.RayError as error:
                raise WorkerError(f"worker {worker} on {node.host}: {ray_cluster.why_gone(error)}") from error
            if isinstance(facts, str):
                raise UsageError(f"worker {worker} on {node.host}: {facts}")
            if facts.version != __version__:
                raise UsageError(
                    f"slobench on {node.host} is {facts.version}, here it is {__version__}\n"
                    "  expected  one version on all hosts: plans and records of two may differ"
                )
            found.append(_Far(actor, node, facts))
        return found

    @property
    def fd_limit(self) -> int:
        """Files that each worker may have open: the least of all hosts."""
        return min(far.facts.fd_limit for far in self._far)

    def seats(self, *, ended: bool = False) -> list[Seat]:
        """See Pool; empty before the start. A worker that was lost has no second answer."""
        for worker, far in enumerate(self._far):
            if ended and worker not in self.lost:
                with suppress(self._ray.exceptions.RayError, ConnectionError):
                    far.after = self._offset(far)
        return [
            Seat(
                worker=worker,
                host=far.facts.host,
                node=far.node.id[:8],
                nice=far.facts.nice,
                offset_ns=far.before.offset_ns,
                round_trip_ns=far.before.round_trip_ns,
                error_ns=error_of(far.before, far.after),
                drift_ns=drift_of(far.before, far.after),
            )
            for worker, far in enumerate(self._far)
            if far.before is not None
        ]

    def _offset(self, far: _Far) -> Offset:
        return measure_offset(lambda: int(self._ray.get(far.actor.clock_ns.remote(), timeout=_ANSWER_S)))

    # Jobs and orders

    def start(self, jobs: Sequence[Job]) -> int:
        """See Pool."""
        self._refuse_unreachable(jobs)
        files = [path for job in jobs for path in (job.plan, job.counters, *job.texts.values(), *_bundles(job))]
        for at, path in enumerate(dict.fromkeys(files)):
            self._names[path] = f"{at}-{Path(path).name}"
            self._ship(Path(path), self._names[path])
        return super().start(jobs)

    def _refuse_unreachable(self, jobs: Sequence[Job]) -> None:
        urls = {each.url for job in jobs for each in (job.endpoint, *job.endpoints)}
        ours = sorted(url for url in urls if _is_loopback(urlsplit(url).hostname or ""))
        for far in self._far:
            if ours and far.facts.network != network():
                raise UsageError(
                    f"{ours[0]} is on this host only: the worker on {far.facts.host} cannot reach it\n"
                    "  expected  a target at an address that every node of the cluster reaches"
                )

    def _ship(self, path: Path, name: str) -> None:
        """Copy a file into the folder of every worker, in pieces; a piece comes to each node once."""
        with path.open("rb") as file:
            while piece := file.read(_SHIP_BYTES):
                ref = self._ray.put(piece)
                put = [far.actor.put.remote(name, ref) for far in self._far if far.followed]
                with suppress(self._ray.exceptions.RayError):  # what is lost is heard by the follower
                    self._ray.get(put, timeout=_BEGIN_S)

    def _hand(self, job: Job) -> None:
        far = self._far[job.worker]

        def there(path: str) -> str:
            return far.path(self._names[path])

        far.blocks = {self._names[job.counters]: (Path(job.counters), *Counters.span(job.worker))}
        moved = replace(
            job,
            plan=there(job.plan),
            spool=far.facts.folder,
            counters=there(job.counters),
            texts={name: there(path) for name, path in job.texts.items()},
            endpoint=_moved(job.endpoint, there),
            endpoints=tuple(_moved(each, there) for each in job.endpoints),
        )
        self._write(job.worker, moved.to_json())

    def _order_start(self) -> int:
        for far in self._far:
            far.before = self._offset(far)
        epoch_ns = time.monotonic_ns() + _MARGIN_NS
        starts = [epoch_ns + far.before.offset_ns for far in self._far if far.before is not None]
        told = [
            far.actor.write.remote(orjson.dumps({"do": "start", "epoch_ns": there_ns}) + b"\n")
            for far, there_ns in zip(self._far, starts, strict=True)
        ]
        try:
            heard = self._ray.get(told, timeout=_ANSWER_S)
        except self._ray.exceptions.RayError as error:
            raise WorkerError(f"a worker was lost before the start: {ray_cluster.why_gone(error)}") from error
        for far, there_ns, heard_ns in zip(self._far, starts, heard, strict=True):
            if heard_ns > there_ns - _NEEDED_NS:
                late = f"{(heard_ns - there_ns + _MARGIN_NS) / 1e9:.2f} s"
                raise WorkerError(
                    f"the order to start took {late} to {far.facts.host}, more than is planned for\n"
                    "  expected  hosts and a network with time to spare"
                )
        return epoch_ns

    def extend(self, plan: Path, counts: Path, *, counted_from: int, n: int) -> None:
        """See Pool."""
        for path in (plan, counts):
            self._ship(path, path.name)
        for worker, far in enumerate(self._far):
            if worker in self.ended or worker in self.lost:
                continue
            kept = {name: block for name, block in far.blocks.items() if block[0].exists()}
            far.blocks = {**kept, counts.name: (counts, *probe_counts.span(counts, worker))}  # the follower reads it
            paths = {"plan": far.path(plan.name), "counts": far.path(counts.name)}
            order = {"do": "extend", **paths, "counted_from": counted_from, "n": n}
            self._write(worker, orjson.dumps(order) + b"\n")

    def _write(self, worker: int, line: bytes) -> None:
        with suppress(ConnectionError):  # to a Ray Client server that is gone: the follower hears it
            for at in range(0, len(line), _LINE_BYTES):
                self._far[worker].actor.write.remote(line[at : at + _LINE_BYTES])

    def _kill(self, worker: int) -> None:
        self._far[worker].followed = False
        with suppress(ConnectionError):
            self._far[worker].actor.kill.remote()

    # What they say

    def _follow(self) -> None:
        try:
            self._poll()
        except ConnectionError as error:
            for worker, far in enumerate(self._far):
                far.followed = False
                self._events.put(WorkerEvent(worker, "exited", {"why": f"the Ray cluster is gone: {error}"}))

    def _poll(self) -> None:
        asked: dict[Any, int] = {}
        while not self._closing.is_set():
            next_s = time.monotonic() + _POLL_S
            for worker, far in enumerate(self._far):
                if far.followed and worker not in asked.values():
                    spans = {name: (start, size) for name, (path, start, size) in far.blocks.items() if path.exists()}
                    asked[far.actor.poll.remote(far.have, spans)] = worker
            if not asked:
                return
            answers, _ = self._ray.wait(list(asked), num_returns=len(asked), timeout=_POLL_S)
            hurry = [self._hear(asked.pop(ref), ref) for ref in answers]
            if not any(hurry):
                self._closing.wait(next_s - time.monotonic())

    def _hear(self, worker: int, ref: Any) -> bool:
        """Take an answer in; whether there is more to be had at once."""
        try:
            return self._take(worker, self._ray.get(ref))
        except self._ray.exceptions.RayError as error:
            why = ray_cluster.why_gone(error)
        except OSError as error:
            why = f"its records cannot be kept here: {error.strerror}"
            self._far[worker].actor.kill.remote()
        self._far[worker].followed = False
        self._events.put(WorkerEvent(worker, "exited", {"why": why}))
        return False

    def _take(self, worker: int, new: Polled) -> bool:
        far = self._far[worker]
        for name, offset, data in new.files:
            with (self._spool / name).open("ab") as file:
                file.write(data)
            far.have[name] = offset + len(data)
        for name, block in new.blocks.items():
            path, start, _ = far.blocks.get(name, (None, 0, 0))
            if path is not None:
                _put_block(path, start, block)
        far.held += [WorkerEvent(worker, event, values) for event, values in new.events]
        if new.more:
            return True
        if new.closed:
            with suppress(FileNotFoundError):
                (self._spool / f"w{worker}.open").replace(self._spool / f"w{worker}.closed")
        for event in far.held:
            far.followed = far.followed and event.event != "exited"
            self._events.put(event)
        far.held.clear()
        return False

    # The end

    def close(self, timeout_s: float = 5.0) -> None:
        """See Pool; what the workers then still write down is gathered too."""
        with suppress(ConnectionError):
            for far in self._far:
                if far.followed:
                    far.actor.end.remote()
        self._follower.join(timeout_s)  # it ends with the last of them
        self._closing.set()
        self._follower.join(timeout_s)
        self._leave(timeout_s)

    def _leave(self, timeout_s: float) -> None:
        with suppress(ConnectionError):
            ended = [actor.close.remote() for actor in self._actors]
            if ended:
                self._ray.wait(ended, num_returns=len(ended), timeout=timeout_s)
            for actor in self._actors:
                self._ray.kill(actor)
        if self._ours:
            self._ray.shutdown()


def _put_block(path: Path, start: int, block: bytes) -> None:
    """Write a worker's counts; those that say how many have ended last, so that what they count is there."""
    with suppress(FileNotFoundError), path.open("r+b") as file:  # a probe's file goes with the probe
        os.pwrite(file.fileno(), block[_HEAD_BYTES:], start + _HEAD_BYTES)
        os.pwrite(file.fileno(), block[:_HEAD_BYTES], start)


def _bundles(job: Job) -> list[str]:
    return [each.ca_bundle for each in (job.endpoint, *job.endpoints) if each.ca_bundle is not None]


def _moved(endpoint: Endpoint, there: Callable[[str], str]) -> Endpoint:
    return endpoint if endpoint.ca_bundle is None else replace(endpoint, ca_bundle=there(endpoint.ca_bundle))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
