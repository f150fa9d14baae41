"""Turns plan rows into exchanges and exchanges into records; decides nothing about time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from slobench.clock import Clock
from slobench.generate.bodies import Bodies
from slobench.generate.exchange import Exchange, Transport
from slobench.generate.job import Job
from slobench.generate.tally import Shares, Tally
from slobench.generate.verdict import Events, Rule, Seen, counted, judge, rules_of
from slobench.names import OUTCOMES, Outcome
from slobench.plan import Plan
from slobench.records.counters import Hist, Slot, WorkerCounters
from slobench.records.schema import NULL
from slobench.records.spool import SpoolWriter
from slobench.wire.reply import Reply

SENDS_PER_PASS = 32  # then connections that came up may write, and replies are read
_OUTCOME_CODE = {outcome: code for code, outcome in enumerate(OUTCOMES)}
_NOT_FAILED = frozenset({Outcome.OK, Outcome.CANCELLED, Outcome.CUT})


class Due(NamedTuple):
    """What an exchange in flight was planned as."""

    class_code: int
    input_tokens: int
    output_tokens: int
    events: Events | None
    tally: Tally | None


class Sender:
    """Starts exchanges, keeps those in flight, records each one's end and then tells `after_end`."""

    def __init__(self, plan: Plan, job: Job, clock: Clock, spool: SpoolWriter, counters: WorkerCounters) -> None:
        self.plan = plan
        self.bodies = Bodies(plan, job, clock)
        self.in_flight: dict[int, tuple[Exchange, Due]] = {}
        self.after_end: Callable[[Exchange], None] = lambda _exchange: None
        self.shares = Shares(job.shares, plan.class_names, job.cancelled)
        self.transport: Transport
        self._job = job
        self._endpoints = job.endpoints_of(len(plan.class_names))
        self._now_ns = clock.now_ns
        self._spool = spool
        self._counters = counters
        values = {value for endpoint in (job.endpoint, *self._endpoints) for value in endpoint.headers.values()}
        self._secrets = sorted((value for value in values if len(value) >= 4), key=len, reverse=True)
        self._secrets += [word for value in self._secrets for word in value.split() if len(word) >= 8]
        self._cancelled = [job.cancelled.get(name, "judged") for name in plan.class_names]
        self._rules = rules_of(plan.class_names, job.limits, job.deadlines)
        self._needs_events = [
            (rule is not None and rule.needs_events) or self.shares.needs_events(code)
            for code, rule in enumerate(self._rules)
        ]
        self._tallies: deque[Tally] = deque()  # of the probes that rows to be sent belong to

    def replace_rows(self, kept: slice, more: Plan, tally: Tally | None = None) -> None:
        """Keep some of the rows, in a numbering that begins with the first of them, and add others; for an open loop.

        `tally` counts the added rows. A row that is not kept must have been sent, or never will be.
        """
        self.plan = self.plan.take(kept).joined(more)
        self.bodies.replace_rows(self.plan, kept.start or 0)
        self._counters.add(Slot.PLANNED, len(more))
        if tally is not None:
            self._tallies.append(tally)

    def send(self, row: int, scheduled_ns: int) -> bool:
        """Begin the request of a plan row, or drop it where the safety stop is reached; whether it was begun."""
        plan = self.plan
        index, class_code = int(plan.index[row]), int(plan.class_code[row])
        endpoint = self._endpoints[class_code]
        tally = self._tally_of(index) if self._tallies else None
        if len(self.in_flight) >= self._job.max_in_flight:
            self.bodies.give_up(row)
            self._drop(index, scheduled_ns)
            if tally is not None:
                tally.dropped(index, class_code)
            return False
        started_ns = self._now_ns()
        output_tokens = int(plan.output_tokens[row])
        events = Events(self._spool.chunks) if self._needs_events[class_code] else None
        reply = Reply(
            index=index,
            api=endpoint.api,
            stream=endpoint.stream,
            due_tokens=output_tokens if endpoint.forces_length else None,
            chunks=events or self._spool.chunks,
        )
        exchange = Exchange(
            index=index,
            session=int(plan.session[row]),
            scheduled_ns=scheduled_ns,
            started_ns=started_ns,
            body=self.bodies.take(row),
            reply=reply,
            class_code=class_code,
        )
        if plan.patience_ns is not None and plan.patience_ns[row] != NULL:
            exchange.give_up_ns = scheduled_ns + int(plan.patience_ns[row])
            exchange.until_first_token = plan.class_names[class_code] in self._job.until_first_token
        if tally is not None:
            tally.sent(index, scheduled_ns, started_ns, len(self.in_flight))
        due = Due(class_code, int(plan.input_tokens[row]), output_tokens, events, tally)
        self.in_flight[index] = (exchange, due)
        self._spool.starts.add(index, scheduled_ns, started_ns)
        counters = self._counters
        counters.add(Slot.STARTED)
        lag_ns = started_ns - scheduled_ns
        counters.observe(Hist.SEND_LAG, lag_ns)
        counters.raise_to(Slot.LAG_MAX_NS, lag_ns)
        self.transport.start(exchange)
        return True

    def ended(self, exchange: Exchange) -> None:
        """Record the end of an exchange; the transport calls this once for each."""
        _, due = self.in_flight.pop(exchange.index)
        reply, outcome = exchange.reply, exchange.outcome or Outcome.CLIENT
        self._spool.requests.add(
            (
                exchange.index,
                exchange.scheduled_ns,
                exchange.started_ns,
                exchange.connected_ns,
                exchange.sent_ns,
                exchange.headers_ns,
                reply.first_token_ns,
                reply.first_output_ns,
                reply.last_token_ns,
                exchange.end_ns,
                reply.input_tokens,
                reply.output_tokens,
                reply.reasoning_tokens,
                reply.cached_tokens,
                reply.first_chunk_tokens,
                reply.chunks,
                exchange.reads,
                reply.tokens_source,
                _OUTCOME_CODE[outcome],
                reply.http_status,
                self._redact(exchange.error),
                self._redact(reply.finish_reason),
                -1 if exchange.connection_new is None else int(exchange.connection_new),
                exchange.reconnects,
                exchange.receive_lag_max_ns,
                reply.first_token_error_ns,
            )
        )
        self._count(exchange, outcome, due)
        exchange.body = b""
        self.after_end(exchange)

    def _tally_of(self, index: int) -> Tally | None:
        """The tally of a row that is sent now; rows come in the order of their indices."""
        while self._tallies and index >= self._tallies[0].end:
            self._tallies.popleft()
        return self._tallies[0] if self._tallies else None

    def _count(self, exchange: Exchange, outcome: Outcome, due: Due) -> None:
        counters, reply = self._counters, exchange.reply
        counters.add(Slot.ENDED)
        if reply.first_token_ns != NULL:
            counters.observe(Hist.TTFT, reply.first_token_ns - exchange.scheduled_ns)
        if outcome is Outcome.OK:
            counters.add(Slot.OK)
            if reply.last_token_ns != NULL:
                counters.observe(Hist.E2E, reply.last_token_ns - exchange.scheduled_ns)
            if reply.output_tokens != NULL:
                counters.add(Slot.TOKENS_OUT, reply.output_tokens)
        elif outcome not in _NOT_FAILED:
            counters.add(Slot.FAILED)
            counters.set(Slot.LAST_ERROR_CODE, _OUTCOME_CODE[outcome])
        seen = Seen(exchange, outcome, due.input_tokens, due.output_tokens, due.events)
        rule: Rule | None = self._rules[due.class_code]
        good = None
        if rule is not None:
            good = counted(outcome, self._cancelled[due.class_code], good=judge(rule, seen))
        if good is not None:
            counters.add(Slot.JUDGED)
            counters.add(Slot.GOOD, int(good))
        if due.tally is not None:
            due.tally.ended(exchange.index, due.class_code, seen, whole=good)

    def _drop(self, index: int, scheduled_ns: int) -> None:
        self._counters.add(Slot.DROPPED)
        at_ns = self._now_ns()
        unseen = [NULL] * 7
        row = (index, scheduled_ns, *unseen, at_ns, *unseen, -1, _OUTCOME_CODE[Outcome.DROPPED], NULL)
        self._spool.requests.add((*row, "more in flight than the safety stop allows", "", -1, 0, NULL, NULL))

    def _redact(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
            for n in range(min(len(secret) - 1, len(text)), 3, -1):  # its beginning, where the text was clipped
                if text.endswith(secret[:n]):
                    text = text[:-n] + "***"
                    break
        return text

    def cut(self) -> None:
        """End all that is in flight with outcome `cut`."""
        for exchange, _ in list(self.in_flight.values()):
            self.transport.abort(exchange, Outcome.CUT)
