"""The verdict at the end of a request is the report's verdict on its record, whatever became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slobench.config.slo import Slo, parse_slo
from slobench.experiment.setup import deadlines_of, judged_classes, limits_of
from slobench.generate.exchange import Exchange
from slobench.generate.verdict import Events, Rule, Seen, counted, judge, rules_of
from slobench.metrics.latency import derive
from slobench.metrics.slo import judge as report_judge
from slobench.names import CHANNELS, NULL, Channel, Outcome
from slobench.wire.reply import Reply

MS = 10**6
REASONING = CHANNELS.index(Channel.REASONING)
OUTPUT = (CHANNELS.index(Channel.CONTENT), CHANNELS.index(Channel.TOOL))
CLASSES = ("chat", "batch")


class NoSink:
    """Keeps nothing."""

    packed = None

    def add(self, *_: Any) -> None:
        pass


@dataclass
class Request:
    """What one request was, and what was seen of it. times in ms; tokens None where the server did not say."""

    outcome: Outcome = Outcome.OK
    events: list[tuple[int, int | None, int]] = field(
        default_factory=list
    )  # (after ms since the one before, tokens, channel)
    scheduled: int = 100
    ended_after: int = 5  # ms, from the last event on
    streamed: bool = True
    planned: tuple[int, int] = (100, 8)  # input, output tokens
    counted_input: int | None = None
    output_tokens: int | None = 8
    hidden_reasoning: int = 0
    name: str = "chat"

    def seen(self, index: int) -> Seen:
        reply = Reply(index=index, api="chat", stream=self.streamed, due_tokens=None, chunks=NoSink())
        events = Events(NoSink())
        t_ns = self.scheduled * MS
        for after, tokens, channel in self.events:
            t_ns += after * MS
            if self.streamed:
                events.add(index, t_ns, NULL if tokens is None else tokens, 1, channel, 0, False)
                reply.first_token_ns = t_ns if reply.first_token_ns == NULL else reply.first_token_ns
                if channel in OUTPUT and reply.first_output_ns == NULL:
                    reply.first_output_ns = t_ns
                reply.chunks += 1
            reply.last_token_ns = t_ns
        if self.events and self.streamed:
            reply.first_chunk_tokens = NULL if self.events[0][1] is None else self.events[0][1]
        reply.output_tokens = NULL if self.output_tokens is None else self.output_tokens
        reply.input_tokens = NULL if self.counted_input is None else self.counted_input
        if self.hidden_reasoning:
            reply.reasoning_tokens = self.hidden_reasoning
            if not any(channel == REASONING for _, _, channel in self.events) or not self.streamed:
                reply.first_token_ns = NULL  # as Reply settles it
        exchange = Exchange(index, index, self.scheduled * MS, self.scheduled * MS, b"", reply)
        exchange.end_ns = t_ns + self.ended_after * MS
        return Seen(exchange, self.outcome, *self.planned, events)


def column(values: Sequence[int]) -> np.ndarray[Any, Any]:
    return np.array([np.nan if value == NULL else value for value in values], dtype=np.float64)


def report(requests: Sequence[Request], seen: Sequence[Seen], slo: Slo) -> list[bool | None]:
    """What the report says of these records."""
    replies = [each.reply for each in seen]
    columns = {
        "index": np.arange(len(seen)),
        "class": np.array([each.name for each in requests]),
        "outcome": np.array([each.outcome.value for each in requests]),
        "scheduled_ns": column([each.exchange.scheduled_ns for each in seen]),
        "started_ns": column([each.exchange.scheduled_ns for each in seen]),
        "sent_ns": column([each.exchange.scheduled_ns for each in seen]),
        "end_ns": column([each.exchange.end_ns for each in seen]),
        "input_tokens_planned": np.array([each.planned[0] for each in requests]),
        "output_tokens_planned": np.array([each.planned[1] for each in requests]),
    }
    for name in (
        *("first_token_ns", "first_output_ns", "last_token_ns", "input_tokens", "output_tokens"),
        *("reasoning_tokens", "first_chunk_tokens", "chunks"),
    ):
        columns[name] = column([getattr(reply, name) for reply in replies])
    rows = [
        (index, t_ns, tokens, channel)
        for index, (request, each) in enumerate(zip(requests, seen, strict=True))
        for t_ns, tokens, (_, _, channel) in zip(
            each.events.times_ns, each.events.tokens, request.events if request.streamed else [], strict=True
        )
    ]
    chunks = {
        "index": np.array([row[0] for row in rows], dtype=np.int64),
        "t_ns": np.array([row[1] for row in rows], dtype=np.int64),
        "tokens": column([row[2] for row in rows]),
        "channel": np.array([row[3] for row in rows], dtype=np.int8),
    }
    met = report_judge(columns, derive(columns, chunks), chunks, slo).met
    return [None if np.isnan(value) else bool(value) for value in met]


TTFT = ["", "ttft<20ms", "ttft<5ms+0.1ms/token"]
LIMITS = [
    "ttfo<25ms",
    "tpot<6ms",
    "max_gap<9ms",
    "e2e<60ms",
    "deadline(20ms, 5ms, share=80%)",
    "attainment>=90%",
    "class=batch e2e<200ms",
    "class=chat max_gap<7ms",
    "cancelled=missed",
    "class=chat cancelled=ignored",
    "class=batch cancelled=judged",
]
events = st.lists(
    st.tuples(st.integers(0, 12), st.none() | st.integers(1, 3), st.sampled_from([*range(len(CHANNELS))])), max_size=9
)
requests = st.builds(
    Request,
    outcome=st.sampled_from([Outcome.OK] * 6 + list(Outcome)),
    events=events,
    scheduled=st.integers(0, 10_000),
    ended_after=st.integers(0, 80),
    streamed=st.sampled_from([True, True, True, False]),
    planned=st.tuples(st.integers(1, 400), st.integers(1, 12)),
    counted_input=st.none() | st.integers(1, 400),
    output_tokens=st.none() | st.integers(0, 20),
    hidden_reasoning=st.sampled_from([0, 0, 0, 3]),
    name=st.sampled_from(CLASSES),
)


@settings(max_examples=200)
@given(st.lists(requests, min_size=1, max_size=6), st.sets(st.sampled_from(LIMITS)), st.sampled_from(TTFT))
def test_live_verdicts_are_the_reports(them: list[Request], clauses: set[str], ttft: str) -> None:
    """For any mixture of clauses, and requests of every kind and end."""
    slo = parse_slo(sorted(clauses | {ttft} - {""}), CLASSES)
    judged = judged_classes(slo, CLASSES)
    rules = dict(zip(CLASSES, rules_of(CLASSES, limits_of(slo, judged), deadlines_of(slo, judged)), strict=True))
    seen = [each.seen(index) for index, each in enumerate(them)]
    live = [
        None
        if (rule := rules[request.name]) is None
        else counted(request.outcome, slo.for_class(request.name).counts_cancelled, good=judge(rule, each))
        for request, each in zip(them, seen, strict=True)
    ]
    assert live == report(them, seen, slo)


@pytest.mark.parametrize(
    ("rule", "needs"),
    [
        (Rule((("ttft", 0.1, 0.0), ("tpot", 0.1, 0.0), ("e2e", 1.0, 0.0), ("ttfo", 1.0, 0.0))), False),
        (Rule((("max_gap", 0.1, 0.0),)), True),
        (Rule((), (0.1, 0.05, 0.9)), True),
    ],
)
def test_events_are_kept_only_where_a_limit_needs_them(rule: Rule, needs: bool) -> None:  # noqa: FBT001
    """A limit on the first, the last or the mean costs nothing for each token."""
    assert rule.needs_events is needs


def test_a_quantity_that_no_worker_knows_is_an_error_not_a_verdict() -> None:
    """A new metric in the grammar must be added here too."""
    with pytest.raises(ValueError, match="throughput"):
        judge(Rule((("throughput", 1.0, 0.0),)), Request(events=[(3, 1, OUTPUT[0])]).seen(0))
