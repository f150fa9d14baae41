"""One reply, fed in pieces: its record does not depend on the pieces, its times only on the stamps."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slobench.names import NULL, Outcome
from slobench.wire.openai import CONTENT, REASONING
from slobench.wire.outcome import Ended
from slobench.wire.reply import Reply

Row = tuple[int, int, int, int, int, int, bool]


class Rows(list[Row]):
    """A ChunkSink that keeps its rows."""

    packed = None

    def add(self, *row: Any) -> None:
        self.append(row)


def event(text: str, **more: Any) -> bytes:
    """Word a completions event as vLLM does."""
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": None} | more
    return wrap({"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]})


def delta(**said: Any) -> bytes:
    """Word a chat event as vLLM does."""
    choice = {"index": 0, "delta": said, "logprobs": None, "finish_reason": None}
    return wrap({"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})


def wrap(value: object) -> bytes:
    """Make one server-sent event."""
    return b"data: " + json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def usage(completion: int) -> dict[str, int]:
    """Word a usage object."""
    return {"prompt_tokens": 7, "total_tokens": 7 + completion, "completion_tokens": completion}


def counted(completion: int, **more: Any) -> bytes:
    """Word a usage-only event."""
    return wrap({"choices": [], "usage": usage(completion) | more})


FINISH, DONE = event("", finish_reason="length"), b"data: [DONE]\n\n"


def start(*, api: str = "completions", stream: bool = True, due: int | None = None) -> tuple[Reply, Rows]:
    """Begin a reply whose head has come."""
    rows = Rows()
    reply = Reply(index=3, api=api, stream=stream, due_tokens=due, chunks=rows)
    reply.on_headers(200, "text/event-stream" if stream else "application/json")
    return reply, rows


def play(reads: list[bytes], **how: Any) -> tuple[Reply, Rows, Outcome]:
    """Feed reads at 100, 110, 120, … ns and finish."""
    reply, rows = start(**how)
    for k, read in enumerate(reads):
        reply.feed(read)
        reply.stamp(100 + 10 * k, 2, 90 + 10 * k)
    return reply, rows, reply.finish(Ended.COMPLETE)[0]


def test_each_event_of_its_own_read_is_dated_by_it() -> None:
    """One event a read: exact times, none coalesced, bytes of the event and not of its framing."""
    reply, rows, outcome = play([event(" a"), event(" b"), event(" c"), FINISH + counted(3) + DONE])
    assert outcome is Outcome.OK
    assert rows == [(3, 100 + 10 * k, NULL, len(event(" a")) - 8, CONTENT, 2, False) for k in range(3)]
    assert (reply.first_token_ns, reply.first_output_ns, reply.last_token_ns) == (100, 100, 120)
    assert (reply.first_token_error_ns, reply.chunks, reply.output_tokens) == (0, 3, 3)


def test_of_events_in_one_read_only_the_last_is_dated() -> None:
    """Earlier ones are coalesced, and the first token's possible error reaches back to the read before."""
    reply, rows, _ = play([event("")[:9], event("")[9:] + event(" a") + event(" b") + FINISH + DONE])
    assert [(row[1], row[6]) for row in rows] == [(110, True), (110, False)]
    assert (reply.first_token_ns, reply.first_token_error_ns) == (110, 10)


STREAMS = {
    "plain": b"".join([event(" a"), event("\u2028 é"), event('"\\\n'), event(" d"), FINISH, counted(4), DONE]),
    "ids": b"".join(
        [
            event(" a", token_ids=[1]),
            event("", token_ids=[2]),
            event(" b", token_ids=[3, 4]),
            event(" c", token_ids=[5]),
            FINISH,
            DONE,
        ]
    ),
    "crlf": b"".join([event(" a"), event(" b"), FINISH, counted(2), DONE]).replace(b"\n", b"\r\n"),
    "shapes": b"".join(
        [event(" a"), event(" b", finish_reason="stop"), event(" c"), event(" d", stop_reason=5), event(" e"), DONE]
    ),
    "odd": b"".join(
        [
            b": hi\n\n",
            event(" a"),
            b"data: {oops\n\n",
            event(" b"),
            b"data:\n\n",
            event(" c"),
            FINISH,
            DONE,
            event(" x"),
        ]
    ),
}


@settings(max_examples=60)
@given(name=st.sampled_from(sorted(STREAMS)), data=st.data())
def test_the_record_does_not_depend_on_reads(name: str, data: st.DataObject) -> None:
    """T43: cut anywhere, with the shortcut for known shapes in between, the events and the outcome are the same."""
    stream = STREAMS[name]
    whole, rows, outcome = play([stream])
    ends = [k + 1 for k in range(len(stream)) if stream[k : k + 2] in {b"\n\n", b"\n\r"}]
    cuts = data.draw(st.lists(st.integers(0, len(stream)) | st.sampled_from(ends), max_size=10))
    edges = [0, *sorted(cuts), len(stream)]
    reply, cut_rows, cut_outcome = play([stream[a:b] for a, b in pairwise(edges)])
    assert cut_outcome is outcome
    assert [(row[2], row[3], row[4]) for row in cut_rows] == [(row[2], row[3], row[4]) for row in rows]
    for field in ("chunks", "output_tokens", "tokens_source", "finish_reason", "done", "first_chunk_tokens"):
        assert getattr(reply, field) == getattr(whole, field)


@pytest.mark.parametrize("name", sorted(STREAMS))
def test_one_byte_a_read(name: str) -> None:
    """T43: byte by byte, every event is dated by the read that ended it, and none is coalesced."""
    stream = STREAMS[name]
    whole, rows, _ = play([stream])
    reply, alone, _ = play([stream[k : k + 1] for k in range(len(stream))])
    assert [row[2:5] for row in alone] == [row[2:5] for row in rows]
    assert not any(row[6] for row in alone)
    assert reply.output_tokens == whole.output_tokens


def test_per_event_usage_counts_tokens() -> None:
    """Where usage comes with every event its rises are the events' tokens, and an empty text that rises is a token."""
    reads = [
        event("", usage=None), event(" a b", finish_reason=None), event(""),
    ]  # fmt: skip
    reads = [wrap(json.loads(read[6:]) | {"usage": usage(n)}) for read, n in zip(reads, (0, 2, 3), strict=True)]
    last = wrap(json.loads(event("", finish_reason="length")[6:]) | {"usage": usage(3)})
    reply, rows, outcome = play([*reads, last, counted(3), DONE])
    assert [row[2] for row in rows] == [2, 1]
    assert (outcome, reply.output_tokens, reply.first_token_ns) == (Outcome.OK, 3, 110)


def test_totals_with_the_finish_reason_are_no_token() -> None:
    """Usage that comes once, with the finish reason, counts the reply and makes no event of it."""
    last = wrap(json.loads(FINISH[6:]) | {"usage": usage(2)})
    reply, rows, outcome = play([event(" a"), event(" b"), last, DONE])
    assert (outcome, len(rows), reply.output_tokens) == (Outcome.OK, 2, 2)


def test_an_empty_text_is_a_token_where_its_id_says_so() -> None:
    """Metrics §1: an empty text alone is no token; with an id it is."""
    reply, rows, _ = play([event(""), event("", token_ids=[5]), event(" é", token_ids=[6]), FINISH, DONE])
    assert [row[1] for row in rows] == [110, 120]
    assert (reply.first_token_ns, reply.output_tokens, reply.first_chunk_tokens) == (110, 2, 1)


def test_an_empty_delta_keeps_to_the_channel_before_it() -> None:
    """A token without text belongs to what was being said, and is nothing that a reader sees."""
    empty = wrap(json.loads(delta()[6:]) | {"usage": usage(2)})
    first = wrap(json.loads(delta(reasoning="hm")[6:]) | {"usage": usage(1)})
    reply, rows, _ = play([first, empty, delta(content="so")], api="chat")
    assert [row[4] for row in rows] == [REASONING, REASONING, CONTENT]
    assert reply.first_output_ns == 120


def test_hidden_reasoning_has_no_first_token_but_a_first_output() -> None:
    """Reasoning that was counted and not shown: TTFT is unknown, TTFO is not."""
    details = {"completion_tokens_details": {"reasoning_tokens": 5}}
    reply, _, _ = play([delta(content="a"), delta(content="b"), counted(7, **details), DONE], api="chat")
    assert reply.hidden_reasoning
    assert (reply.first_token_ns, reply.first_token_error_ns, reply.first_output_ns) == (NULL, NULL, 100)
    shown, _, _ = play([delta(reasoning="x"), delta(content="b"), counted(7, **details), DONE], api="chat")
    assert (shown.hidden_reasoning, shown.first_token_ns) == (False, 100)


@pytest.mark.parametrize("status", [400, 503])
def test_an_error_reply_holds_no_number(status: int) -> None:
    """An error's body is its explanation, whatever its content type."""
    rows = Rows()
    reply = Reply(index=0, api="chat", stream=True, due_tokens=None, chunks=rows)
    reply.on_headers(status, "text/event-stream")
    reply.feed(delta(content="a"))
    reply.stamp(5, 0, 0)
    outcome, text = reply.finish(Ended.COMPLETE)
    assert outcome is Outcome.HTTP_ERROR
    assert text.startswith(f"HTTP {status}: data: ")
    assert not rows
    assert {reply.first_token_ns, reply.last_token_ns, reply.chunks, reply.output_tokens} == {NULL}


def test_a_whole_reply_is_read_at_its_end() -> None:
    """Not streamed: pieces of one JSON, one time, counts by usage."""
    body = json.dumps({"choices": [{"text": "a b", "finish_reason": "length"}], "usage": usage(2)}).encode()
    reply, rows, outcome = play([body[:10], body[10:]], stream=False, due=2)
    assert (outcome, reply.output_tokens, reply.last_token_ns, reply.first_token_ns) == (Outcome.OK, 2, 110, NULL)
    assert (rows, reply.chunks) == ([], NULL)


def test_an_aborted_reply_keeps_its_counts() -> None:
    """What came before a timeout or a cut is counted, events where the server gave no count."""
    reply, rows = start()
    for k in range(3):
        reply.feed(event(f" {k}"))
        reply.stamp(k, 0, 0)
    reply.finish(Ended.ABORTED)
    assert (reply.output_tokens, reply.tokens_source, len(rows)) == (3, 1, 3)
