"""Request bodies, made ahead in quiet moments: none is made on the sending path where that can be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from slobench.clock import Clock
from slobench.generate.job import Job
from slobench.names import NULL
from slobench.pacer import NEVER
from slobench.plan import Plan
from slobench.wire.endpoint import BodyTemplate
from slobench.workload.images import ImageMaker
from slobench.workload.prompts import PromptMaker

_READY_BYTES = 16 * 2**20
_READY_ROWS = 4096
_SLICE_NS = 500_000
_QUIET_NS = 100_000  # none is made this close to the next send, or twice as close as one takes


class Bodies:
    """Request bodies by plan row, made ahead in quiet moments within a bound of memory.

    Rows whose time is in the plan are made in turn; one that follows others when its time is known (`want`).
    """

    def __init__(self, plan: Plan, job: Job, clock: Clock) -> None:
        endpoints = job.endpoints_of(len(plan.class_names))
        self._plan = plan
        self._templates = tuple(BodyTemplate(endpoint, job.nonce) for endpoint in endpoints)
        makers = {
            token_ids: PromptMaker(
                seed=job.seed,
                nonce=job.nonce,
                token_ids=token_ids,
                class_names=plan.class_names,
                shared_prefix_tokens=job.shared_prefix_tokens,
                texts=job.texts,
            )
            for token_ids in {endpoint.token_ids for endpoint in endpoints}
        }
        self._prompts = tuple(makers[endpoint.token_ids] for endpoint in endpoints)
        painters = {size: ImageMaker(job.seed, job.nonce, *size) for size in set(job.images.values())}
        self._images = tuple(painters.get(job.images.get(name, (0, 0))) for name in plan.class_names)
        self._now_ns = clock.now_ns
        self._next = 0  # the row to look at next
        self._wanted: dict[int, None] = {}  # in order: rows to be made before those in turn
        self._in_turn = 1.0 if plan.after is None else 0.5  # of the bound, so that there is room for what is wanted
        self._ready: dict[int, bytes] = {}
        self._ready_bytes = 0
        self._taken = bytearray(len(plan))
        if plan.after is not None:  # in a closed loop all but the users' first rows wait for a reply
            self._taken[:] = ((plan.turn if plan.scheduled_ns is None else plan.after) != 0).tobytes()
        self._began = self._working = False
        self._exhausted = False
        self._making_ns = 0  # about the longest that one took; less with each wait: it may have been a stop
        self.next_send_ns: Callable[[], int] = lambda: NEVER

    def replace_rows(self, plan: Plan, forgotten: int) -> None:
        """Follow a plan of which the first rows were forgotten and to whose end others came."""
        self._plan = plan
        self._ready = {row - forgotten: body for row, body in self._ready.items() if forgotten <= row}
        self._ready = {row: body for row, body in self._ready.items() if row < len(plan)}
        self._ready_bytes = sum(map(len, self._ready.values()))
        self._taken = (self._taken[forgotten:] + bytes(len(plan)))[: len(plan)]
        self._next = min(max(self._next - forgotten, 0), len(plan))
        self._exhausted = False
        if self._began and not self._working and self._is_half_empty():
            self.work_ahead()

    def take(self, row: int) -> bytes:
        """The body of a row; made now if there was no quiet moment before."""
        body = self.give_up(row)
        return self._make(row) if body is None else body

    def give_up(self, row: int) -> bytes | None:
        """Keep nothing for a row any more; return its body if it was made ahead."""
        self._taken[row] = 1
        self._wanted.pop(row, None)
        body = self._ready.pop(row, None)
        if body is not None:
            self._ready_bytes -= len(body)
            if not self._working and not self._exhausted and self._is_half_empty():
                self.work_ahead()
        return body

    def want(self, row: int) -> None:
        """Make the body of a row that follows others: it will be sent soon."""
        self._wanted[row] = None
        if self._began and not self._working:
            self.work_ahead()

    def work_ahead(self) -> None:
        """Go on making bodies from the event loop until the bound is reached."""
        self._began = self._working = True
        asyncio.get_running_loop().call_soon(self._slice)

    def _slice(self) -> None:
        loop = asyncio.get_running_loop()
        start_ns = self._now_ns()
        while self._has_room():
            at_ns = self._now_ns()
            if self.next_send_ns() - at_ns < max(_QUIET_NS, 2 * self._making_ns):
                self._making_ns -= self._making_ns // 32
                loop.call_later(0.001, self._slice)
                return
            if at_ns - start_ns > _SLICE_NS:
                loop.call_soon(self._slice)
                return
            if self._wanted:
                row = next(iter(self._wanted))
                del self._wanted[row]
            else:
                row = self._taken.find(0, self._next)
                if row < 0:
                    self._exhausted = True
                    break
                self._next = row + 1
            body = self._ready[row] = self._make(row)
            self._ready_bytes += len(body)
            self._making_ns = max(self._now_ns() - at_ns, self._making_ns - self._making_ns // 8)
        self._working = False

    def _has_room(self) -> bool:
        part = 1.0 if self._wanted else self._in_turn
        return self._ready_bytes < part * _READY_BYTES and len(self._ready) < part * _READY_ROWS

    def _is_half_empty(self) -> bool:
        """Whether it is time to make more: of many at once most find their code in the caches."""
        part = self._in_turn / 2
        return self._ready_bytes < part * _READY_BYTES and len(self._ready) < part * _READY_ROWS

    def _make(self, row: int) -> bytes:
        plan, code = self._plan, int(self._plan.class_code[row])
        parts = () if plan.contents is None else plan.contents.row(row)
        prompt = self._prompts[code].json(int(plan.index[row]), code, int(plan.input_tokens[row]), parts)
        images = self._images[code]
        if images is not None and plan.images is not None and plan.images[row]:
            prompt = images.content(prompt, int(plan.index[row]), int(plan.images[row]))
        priority = int(plan.priority[row])
        return self._templates[code].body(prompt, int(plan.output_tokens[row]), None if priority == NULL else priority)
