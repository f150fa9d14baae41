"""Continuous batching as discrete events: which requests run in each step, and how long it takes.

No clock and no I/O: the caller lets time pass. A step costs the same however many requests run, because nothing is
done per running request: totals are kept, and a request is touched when it is admitted, when its prompt is computed,
and when it ends. Iteration time and scheduling: docs/metrics.md, "Engine model".
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain, repeat
from typing import Any, NamedTuple

import numpy as np

from slobench.config.engine import Engine
from slobench.engine.kv import KvCache
from slobench.engine.stalls import end_of_work

NS_PER_MS = 1e6


class State(Enum):
    """Where a request is."""

    WAITING = "waiting"
    PREFILL = "prefill"
    DECODE = "decode"
    ENDED = "ended"


@dataclass(slots=True, eq=False)
class Request:
    """One request in the engine.

    The first block is the caller's; `block_hashes` are the chain hashes of the full blocks of prompt and reply,
    empty where nothing is to be shared. The rest is the engine's.
    """

    index: int
    prompt_tokens: int
    output_tokens: int
    priority: int = 0  # lower is more urgent; used under policy "priority"
    block_hashes: Sequence[int] = ()
    client: Any = None  # whatever the caller wants to find again

    order: int = 0  # of arrival
    state: State = State.WAITING
    goal: int = 0  # tokens to compute before the next token of the reply comes
    computed: int = 0  # tokens in the KV cache, as of the end of its prefill
    emitted: int = 0  # tokens of the reply, as of the end of its prefill
    joined: int = 0  # step in which its prefill ended
    held: list[int] = field(default_factory=list)  # named blocks in use
    private_blocks: int = 0
    cached_tokens: int = 0  # found in the prefix cache when first admitted
    preemptions: int = 0


class Step(NamedTuple):
    """One iteration: what it computes, and what is there when its time has passed.

    At its end every request in `EngineCore.running` with state DECODE, and each in `finished`, has one more token.
    """

    duration_ns: int
    tokens: int  # computed: one for each decode, and the prefill chunks
    prompt_tokens: int  # those of the prefill chunks
    decodes: int
    admitted: list[Request]
    prefilled: list[Request]  # whose prefill ends: the first token comes, or after a preemption the next
    finished: list[Request]
    preempted: list[Request]


class EngineCore:
    """The scheduler and the clock-work of one engine.

    Each step takes the running decodes, then the running prefills, then waiting requests in order, within the token
    budget and `max_num_seqs`. Where the KV cache is full the newest running request is preempted (with admission
    "preempt"): it gives up its blocks and is computed anew.
    """

    def __init__(self, spec: Engine, seed: int | None = None) -> None:
        self.spec = spec
        self.kv = KvCache(max(1, spec.kv_tokens // spec.block_tokens), prefix_cache=spec.prefix_cache)
        self.max_model_len = min(spec.max_model_len, self.kv.blocks * spec.block_tokens)
        self.running: dict[Request, None] = {}  # in the order of admission
        self.waiting = 0
        self.steps = 0
        self.preemptions = 0
        self.prefix_queries = 0  # tokens looked up
        self.prefix_hits = 0  # tokens found
        self._queue: list[tuple[int, int, Request]] = []  # heap of (priority, order); may hold ended ones
        self._prefills: deque[Request] = deque()
        self._ends: dict[int, list[Request]] = {}  # by the step that gives their last token
        self._grows = [0] * spec.block_tokens  # decodes, by the step (modulo block) in which each needs a new block
        self._kv_tokens = 0
        self._orders = 0
        self._preempts = spec.admission == "preempt"
        # Every decode of a step takes a token of the budget, so no more can run than it has.
        self._max_seqs = min(spec.max_num_seqs, spec.max_num_batched_tokens)
        self._noise = _noise(spec.step.noise_cv, spec.seed if seed is None else seed)
        ms = spec.step
        self._base, self._per_token, self._per_kv_token, self._per_sequence, self._per_attention = (
            value * NS_PER_MS for value in (ms.base_ms, ms.token_ms, ms.kv_token_ms, ms.sequence_ms, ms.attention_ms)
        )

    def add(self, request: Request) -> None:
        """Queue a request. ValueError where it could never run."""
        total = request.prompt_tokens + request.output_tokens
        if request.prompt_tokens < 1 or request.output_tokens < 1 or total > self.max_model_len:
            raise ValueError(
                f"request {request.index}: {request.prompt_tokens} + {request.output_tokens} tokens; "
                f"expected at least one of each and at most {self.max_model_len} together"
            )
        self._orders += 1
        request.order, request.goal = self._orders, request.prompt_tokens
        self._enqueue(request)

    def abort(self, request: Request) -> None:
        """Take a request out, wherever it is; no effect once it has ended."""
        if request.state is State.WAITING:
            self.waiting -= 1  # its entry in the queue is skipped later
        elif request.state is not State.ENDED:
            if request.state is State.DECODE:
                self._ends[self._end_step(request)].remove(request)
            self._leave(request)
        request.state = State.ENDED

    def step(self, now_ns: int = 0) -> Step | None:
        """Decide the next step and count it as done; None where there is nothing to run.

        `now_ns`, from the engine's start, matters only where the engine has stalls: they are in the step's duration.
        """
        if not self.running and not self.waiting:
            return None
        preempted: list[Request] = []
        admitted: list[Request] = []
        chunks: list[tuple[Request, int]] = []
        if self._preempts:
            self._make_room(preempted)
        decodes = len(self.running) - len(self._prefills)
        if self._prefills or self.waiting:
            budget = self.spec.max_num_batched_tokens - decodes
            chunks = self._prefill(budget, preempted)
            decodes = len(self.running) - len(self._prefills)
            if not preempted:
                fresh = self._admit(budget - sum(size for _, size in chunks), alone=not chunks)
                admitted = [request for request, _ in fresh]
                chunks += fresh
        if self._preempts:
            self.kv.take(self._growth())
        self.steps += 1
        prompt_tokens = sum(size for _, size in chunks)
        duration = self._duration_ns(decodes, prompt_tokens, chunks)
        if self.spec.stalls:
            duration = end_of_work(self.spec.stalls, now_ns, duration) - now_ns
        self._kv_tokens += decodes + prompt_tokens
        prefilled = self._compute(chunks) if chunks else []
        tokens = decodes + prompt_tokens
        return Step(duration, tokens, prompt_tokens, decodes, admitted, prefilled, self._finish(), preempted)

    def _duration_ns(self, decodes: int, prompt_tokens: int, chunks: list[tuple[Request, int]]) -> int:
        ns = (
            self._base
            + self._per_token * (decodes + prompt_tokens)
            + self._per_kv_token * self._kv_tokens
            + self._per_sequence * (decodes + len(chunks))
        )
        if self._per_attention:
            ns += self._per_attention * sum(size * (request.computed + size) for request, size in chunks)
        return max(1, round(ns * next(self._noise)))

    def _enqueue(self, request: Request) -> None:
        request.state = State.WAITING
        rank = request.priority if self.spec.policy == "priority" else 0
        heapq.heappush(self._queue, (rank, request.order, request))
        self.waiting += 1

    def _growth(self) -> int:
        """Blocks that the decodes of the next step need: one for each whose last block is full."""
        return self._grows[(self.steps + 1) % self.spec.block_tokens]

    def _make_room(self, preempted: list[Request]) -> None:
        while self.kv.free < self._growth():
            self._preempt(preempted)

    def _prefill(self, budget: int, preempted: list[Request]) -> list[tuple[Request, int]]:
        """Continue the prompts that are being computed, oldest first."""
        chunks = []
        for request in list(self._prefills):
            size = min(request.goal - request.computed, budget)
            if size <= 0:
                break
            if request not in self.running:  # preempted by an older one in this step
                continue
            if self._preempts:
                need = self._blocks(request.computed + size) - self._blocks(request.computed)
                while self.kv.free - self._growth() < need and request in self.running:
                    self._preempt(preempted)
                if request not in self.running:
                    continue
                self.kv.take(need)
                request.private_blocks += need
            budget -= size
            chunks.append((request, size))
        # With policy "priority" a request that has its chunk may be the victim of a later one.
        return [(request, size) for request, size in chunks if request in self.running]

    def _admit(self, budget: int, *, alone: bool) -> list[tuple[Request, int]]:
        """Let waiting requests in, in order, until one does not fit; `alone`: no other prompt is in this step."""
        growth = self._growth() if self._preempts else 0
        fresh: list[tuple[Request, int]] = []
        while self.waiting and budget > 0 and len(self.running) < self._max_seqs:
            request = self._queue[0][2]
            if request.state is not State.WAITING:
                heapq.heappop(self._queue)
                continue
            found, unused = self._find(request)
            missing = request.goal - found * self.spec.block_tokens
            size = min(missing, budget)
            # Without chunked prefill a prompt larger than the budget has a step of its own.
            if not self.spec.chunked_prefill and size < missing:
                if fresh or not alone:
                    break
                size = missing
            if self._preempts:
                need = self._blocks(request.goal - missing + size) - found
            else:
                need = self._blocks(request.prompt_tokens + request.output_tokens) - found
            if self.kv.free - unused - growth < need:
                break
            heapq.heappop(self._queue)
            self._enter(request, found, need)
            budget -= size
            fresh.append((request, size))
        return fresh

    def _find(self, request: Request) -> tuple[int, int]:
        """Blocks found in the prefix cache; the last token is always computed, for it gives the next one."""
        if not self.kv.prefix_cache or not request.block_hashes:
            return 0, 0
        return self.kv.find(request.block_hashes, (request.goal - 1) // self.spec.block_tokens)

    def _enter(self, request: Request, found: int, need: int) -> None:
        self.waiting -= 1
        if self.kv.prefix_cache:
            request.held = list(request.block_hashes[:found])
            self.kv.hold(request.held)
            self.prefix_queries += request.goal
            self.prefix_hits += found * self.spec.block_tokens
        self.kv.take(need)
        request.private_blocks = need
        request.computed = found * self.spec.block_tokens
        if not request.preemptions:
            request.cached_tokens = request.computed
        self._kv_tokens += request.computed
        request.state = State.PREFILL
        self.running[request] = None
        self._prefills.append(request)

    def _compute(self, chunks: list[tuple[Request, int]]) -> list[Request]:
        """Add the chunks to the cache; return the requests whose prefill ends."""
        ended = []
        for request, size in chunks:
            self._name_blocks(request, request.computed, request.computed + size)
            request.computed += size
            if request.computed >= request.goal:
                request.state = State.DECODE
                request.joined = self.steps
                request.emitted += 1
                self._prefills.remove(request)
                self._ends.setdefault(self._end_step(request), []).append(request)
                self._grows[self._growth_phase(request)] += 1
                ended.append(request)
        return ended

    def _finish(self) -> list[Request]:
        finished = self._ends.pop(self.steps, [])
        for request in finished:
            self._leave(request)
            request.state = State.ENDED
        return finished

    def _leave(self, request: Request) -> None:
        """Take a running request out of the totals and give its blocks back."""
        tokens = request.computed
        if request.state is State.DECODE:
            tokens += self.steps - request.joined
            self._grows[self._growth_phase(request)] -= 1
            if self._preempts:
                request.private_blocks += self._blocks(tokens) - self._blocks(request.computed)
            self._name_blocks(request, request.computed, tokens)
        else:
            self._prefills.remove(request)
        del self.running[request]
        self._kv_tokens -= tokens
        self.kv.release(request.held, request.private_blocks)
        request.held, request.private_blocks = [], 0

    def _preempt(self, preempted: list[Request]) -> None:
        """Put the newest running request (or the least urgent) back into the queue, without its blocks."""
        if self.spec.policy == "priority":
            victim = max(self.running, key=lambda request: (request.priority, request.order))
        else:
            victim = next(reversed(self.running))
        self._leave(victim)
        if victim.state is State.DECODE:
            self._ends[self._end_step(victim)].remove(victim)
            victim.emitted += self.steps - victim.joined
            victim.goal = victim.prompt_tokens + victim.emitted
        victim.computed = 0
        victim.preemptions += 1
        self.preemptions += 1
        preempted.append(victim)
        self._enqueue(victim)

    def _name_blocks(self, request: Request, start: int, end: int) -> None:
        """Make the blocks that were filled between `start` and `end` tokens findable."""
        if self.kv.prefix_cache and request.block_hashes:
            size = self.spec.block_tokens
            new = self.kv.name(request.block_hashes[start // size : end // size])
            request.held += new
            request.private_blocks -= len(new)

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self.spec.block_tokens)

    def _end_step(self, request: Request) -> int:
        return request.joined + request.output_tokens - request.emitted

    def _growth_phase(self, request: Request) -> int:
        """Return the steps, modulo the block, in which its next token needs a new block."""
        return (request.joined + 1 - request.computed) % self.spec.block_tokens


def _noise(cv: float, seed: int) -> Iterator[float]:
    """Lognormal factors with mean 1 and coefficient of variation `cv`."""
    if cv == 0:
        return repeat(1.0)
    sigma = math.sqrt(math.log1p(cv**2))
    rng = np.random.default_rng(seed)
    return chain.from_iterable(iter(lambda: rng.lognormal(-(sigma**2) / 2, sigma, 4096).tolist(), None))
