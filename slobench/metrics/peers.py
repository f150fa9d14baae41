"""Latencies as other tools define them, worked out from the same records: `tpot@vllm`, `itl@guidellm`.

Formulas as read in vllm 0.32, guidellm 0.8, aiperf 0.13, inference-perf 0.7, sglang 0.5, evalscope 1.14 and llmperf.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from slobench.errors import UsageError
from slobench.metrics.columns import ChunkGroups, IntArray, number, seconds
from slobench.metrics.latency import gaps_s
from slobench.records.schema import Columns
from slobench.stats.quantiles import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Replies:
    """What the tools could see of the same replies: seconds on the run's clock, one value a request, NaN = not seen.

    started: the client began to act. sent: the first byte went out. first, last: token events. finish: an event of its
    own with only the reason to finish; a run does not record it. end: the stream closed, usage and [DONE] read.
    tokens: the server's count. client_tokens: by the tool's own tokenizer; a run has none, the server's stands in.
    first_tokens: of the first event, where the server said, else 1. events: how many token events.
    gap_s: by token event, the gap before it; NaN at a reply's first.
    """

    started: FloatArray
    sent: FloatArray
    first: FloatArray
    last: FloatArray
    finish: FloatArray
    end: FloatArray
    tokens: FloatArray
    client_tokens: FloatArray
    first_tokens: FloatArray
    events: FloatArray
    groups: ChunkGroups
    gap_s: FloatArray

    @classmethod
    def of(cls, requests: Columns, chunks: Columns, groups: ChunkGroups) -> Replies:
        """Take them from a run's records."""
        events = np.zeros(len(requests["index"]))
        events[groups.row] = groups.sizes
        tokens = number(requests, "output_tokens")
        return cls(
            started=seconds(requests, "started_ns"),
            sent=seconds(requests, "sent_ns"),
            first=seconds(requests, "first_token_ns"),
            last=seconds(requests, "last_token_ns"),
            finish=np.full(len(events), np.nan),
            end=seconds(requests, "end_ns"),
            tokens=tokens,
            client_tokens=tokens,
            first_tokens=np.maximum(np.nan_to_num(number(requests, "first_chunk_tokens"), nan=1.0), 1.0),
            events=events,
            groups=groups,
            gap_s=gaps_s(chunks, groups),
        )

    @property
    def last_choice(self) -> FloatArray:
        """The last event that holds choices: the last token, or the reason to finish after it."""
        return np.fmax(self.last, self.finish)


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """What a definition gives: each value in seconds, and the position of the request it is of."""

    seconds: FloatArray
    row: IntArray


@dataclass(frozen=True, slots=True)
class Peer:
    """One definition: its formula in words, and what works it out."""

    formula: str
    values: Callable[[Replies], Values]


def definition(name: str) -> Peer:
    """Return the definition of `METRIC@TOOL`. UsageError for one that is not known, with those that are."""
    found = PEERS.get(_ALIASES.get(name, name))
    if found is None:
        tools = sorted({each.partition("@")[2] for each in PEERS})
        mine = [each for each in PEERS if each.endswith(f"@{name.partition('@')[2]}")]
        raise UsageError(
            f"no metric {name!r}\n  expected  METRIC@TOOL: "
            + (", ".join(mine) if mine else f"tools {', '.join(tools)}; e.g. --metric tpot@vllm")
        )
    return found


def known(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names by which the definitions go, each once. UsageError for one that is not known."""
    for name in names:
        definition(name)
    return tuple(dict.fromkeys(_ALIASES.get(name, name) for name in names))


def formulas(metrics: Iterable[str]) -> dict[str, str]:
    """Return the formula of each of these metrics that is another tool's."""
    return {name: PEERS[name].formula for name in metrics if name in PEERS}


def _each(values: FloatArray) -> Values:
    return Values(values, np.arange(len(values)))


def _over(span: FloatArray, n: FloatArray) -> FloatArray:
    return span / np.where(n > 0, n, np.nan)


def _gaps(replies: Replies) -> Values:
    """All gaps between token events, pooled."""
    row = np.repeat(replies.groups.row, replies.groups.sizes)
    there = ~np.isnan(replies.gap_s)
    return Values(replies.gap_s[there], row[there])


def _gaps_of_choices(replies: Replies) -> Values:
    """Gaps between all events with choices: one more where the reason to finish came by itself."""
    gaps, (alone,) = _gaps(replies), np.nonzero(~np.isnan(replies.finish - replies.last))
    last = (replies.finish - replies.last)[alone]
    return Values(np.concatenate([gaps.seconds, last]), np.concatenate([gaps.row, alone]))


def _gaps_of_tokens(replies: Replies) -> Values:
    """Gaps between tokens, each with the time of its event: 0 between those of one event."""
    gaps = _gaps(replies)
    more = np.where(replies.events > 0, np.nan_to_num(replies.client_tokens) - replies.events, 0)
    row = np.repeat(np.arange(len(more)), np.maximum(more, 0).astype(np.int64))
    return Values(np.concatenate([gaps.seconds, np.zeros(len(row))]), np.concatenate([gaps.row, row]))


def _several(replies: Replies) -> FloatArray:
    """When the first token came, of replies with more than one."""
    return np.where(replies.client_tokens > 1, replies.first, np.nan)


_FROM_START = "first token event − the client's start of the request, connecting included"
_AT_CLOSE = "the stream's end, usage and [DONE] included, − the client's start"
_COUNTED = "; the tool counts with a tokenizer of its own, here the server's count stands in"
_NO_FINISH = "; an event with only the finish reason, which the tool counts too, is not in the records"

PEERS: dict[str, Peer] = {
    "ttft@vllm": Peer(_FROM_START, lambda r: _each(r.first - r.started)),
    "tpot@vllm": Peer(
        "(E2E − TTFT)/(tokens − 1), one value a request of 2 tokens or more",
        lambda r: _each(_over(r.last_choice - r.first, r.tokens - 1)),
    ),
    "itl@vllm": Peer(f"gaps between events, pooled{_NO_FINISH}", _gaps_of_choices),
    "e2e@vllm": Peer(
        f"last event with choices − the client's start{_NO_FINISH}", lambda r: _each(r.last_choice - r.started)
    ),
    "ttft@guidellm": Peer("first token event − the first byte sent", lambda r: _each(r.first - r.sent)),
    "tpot@guidellm": Peer(
        "(last token event − the first byte sent)/tokens: TTFT is inside",
        lambda r: _each(_over(r.last - r.sent, r.tokens)),
    ),
    "itl@guidellm": Peer(
        "(last − first token event)/(tokens − 1): one mean a request, no single gaps",
        lambda r: _each(_over(r.last - r.first, r.tokens - 1)),
    ),
    "e2e@guidellm": Peer("the stream's end − the first byte sent", lambda r: _each(r.end - r.sent)),
    "ttft@aiperf": Peer(_FROM_START, lambda r: _each(r.first - r.started)),
    "itl@aiperf": Peer(
        f"(E2E − TTFT)/(tokens − those of the first event), one value a request{_COUNTED}",
        lambda r: _each(_over(r.last - r.first, r.client_tokens - r.first_tokens)),
    ),
    "icl@aiperf": Peer("gaps between token events, pooled", _gaps),
    "e2e@aiperf": Peer("last token event − the client's start", lambda r: _each(r.last - r.started)),
    "ttft@inference-perf": Peer(
        f"{_FROM_START}; none for a reply of one token", lambda r: _each(_several(r) - r.started)
    ),
    "tpot@inference-perf": Peer(
        f"(last − first token event)/(tokens − 1){_COUNTED}",
        lambda r: _each(_over(r.last - r.first, r.client_tokens - 1)),
    ),
    "ntpot@inference-perf": Peer(
        f"E2E/tokens, E2E to the stream's end{_COUNTED}", lambda r: _each(_over(r.end - r.started, r.client_tokens))
    ),
    "itl@inference-perf": Peer(f"gaps between tokens, pooled; 0 between those of one event{_COUNTED}", _gaps_of_tokens),
    "e2e@inference-perf": Peer(
        f"{_AT_CLOSE}; the tool's own tokenizing, which it counts too, is left out", lambda r: _each(r.end - r.started)
    ),
    "ttft@sglang": Peer(_FROM_START, lambda r: _each(r.first - r.started)),
    "tpot@sglang": Peer(
        "(E2E − TTFT)/(tokens − 1), E2E to the last line read", lambda r: _each(_over(r.end - r.first, r.tokens - 1))
    ),
    "itl@sglang": Peer("gaps between token events, pooled", _gaps),
    "e2e@sglang": Peer(_AT_CLOSE, lambda r: _each(r.end - r.started)),
    "ttft@evalscope": Peer(_FROM_START, lambda r: _each(r.first - r.started)),
    "tpot@evalscope": Peer(
        "(E2E − TTFT)/(tokens − 1), a late usage event inside E2E",
        lambda r: _each(_over(r.end - r.first, r.tokens - 1)),
    ),
    "itl@evalscope": Peer("gaps between token events, pooled", _gaps),
    "e2e@evalscope": Peer(_AT_CLOSE, lambda r: _each(r.end - r.started)),
    "itl@llmperf": Peer(
        "(last token event − the client's start)/events: TTFT is inside",
        lambda r: _each(_over(r.last - r.started, r.events)),
    ),
}
"""`METRIC@TOOL` -> its definition. Each tool pools successful requests; percentiles here are slobench's own."""

_ALIASES = {"e2el@vllm": "e2e@vllm", "e2e_latency@sglang": "e2e@sglang", "request_latency@aiperf": "e2e@aiperf"}
