"""How each way a reply can go is recorded, on both transports and both APIs (cases T1-T20, T36)."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from slobench.names import NULL, Outcome
from slobench.wire.openai import CONTENT, REASONING, TOOL
from slobench.wire.reply import Reply
from tests.conformance.dialect import COMMENT, DONE, END, Dialect, chunk, head, sse, streamed, usage, whole
from tests.conformance.harness import Ask, TransportName, converse, unseen
from tests.conformance.server import Close, Reset, Send, Sleep

USAGE, CHUNKS = 0, 1  # codes of TokensSource


def paced(dialect: Dialect, n: int, first_s: float, gap_s: float) -> list[Send | Sleep]:
    """Script a reply of n tokens: the first after first_s, the others gap_s apart, each sent alone."""
    steps: list[Send | Sleep] = [Send(head()), Sleep(first_s)]
    for k in range(n):
        steps += [Send(chunk(dialect.text(f" t{k}"))), Sleep(gap_s)]
    return [*steps, Send(chunk(dialect.finish()) + chunk(dialect.usage(7, n)) + chunk(DONE) + END)]


def test_the_wait_for_the_first_token_is_in_no_gap(dialect: Dialect, ask: Ask) -> None:
    """T1: n tokens give n - 1 gaps, and the first token is not dated before the server sent it."""
    seen = converse([paced(dialect, 4, 0.06, 0.01)], ask)
    assert seen.outcome is Outcome.OK
    times = [row.t_ns for row in seen.chunks]
    assert len(times) == 4
    assert times[0] == seen.reply.first_token_ns == seen.reply.first_output_ns
    assert times[-1] == seen.reply.last_token_ns
    # Sends 1-4 carry the tokens. 1 ms: a kernel stamp is carried from wall time by two clock readings.
    for sent_ns, seen_ns in zip(seen.requests[0].sent_ns[1:5], times, strict=True):
        assert seen_ns >= sent_ns - 1_000_000
    assert times[0] - seen.exchange.sent_ns >= 59_000_000
    assert all(later > earlier for earlier, later in pairwise(times))


@pytest.mark.parametrize("silent", ["role", "empty", "comment", "usage"])
def test_what_holds_no_token_sets_no_time(dialect: Dialect, ask: Ask, silent: str) -> None:
    """T2: role-only, empty, comment and usage-only events neither set TTFT nor add a gap."""
    event = {"role": dialect.role(), "empty": dialect.text(""), "comment": COMMENT, "usage": dialect.usage(7, 0)}[
        silent
    ]
    script = [
        Send(head() + chunk(event)),
        Sleep(0.03),
        Send(chunk(dialect.text(" a") + event)),
        Sleep(0.01),
        Send(chunk(event + dialect.text(" b")) + chunk(dialect.finish() + dialect.usage(7, 2) + DONE) + END),
    ]
    seen = converse([script], ask)
    assert seen.outcome is Outcome.OK
    assert seen.reply.chunks == len(seen.chunks) == 2
    assert seen.reply.first_token_ns >= seen.requests[0].sent_ns[1] - 1_000_000
    assert not any(row.coalesced for row in seen.chunks)


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_is_a_first_token_but_no_output(transport: TransportName, field: str) -> None:
    """T3: a stream of reasoning only has a first token, tokens, and no first output."""
    chat = Dialect("chat")
    script = streamed(
        chat.role(), chat.event({field: "hm"}), chat.event({field: " so"}), chat.finish(), chat.usage(7, 2), DONE
    )
    seen = converse([script], Ask(transport, "chat"))
    assert (seen.outcome, seen.reply.output_tokens) == (Outcome.OK, 2)
    assert seen.reply.first_token_ns != NULL
    assert seen.reply.first_output_ns == NULL
    assert [row.channel for row in seen.chunks] == [REASONING, REASONING]


def test_tool_calls_are_tokens(transport: TransportName) -> None:
    """T4: a stream of tool-call deltas has a first token and a first output."""
    chat = Dialect("chat")
    calls = [{"name": "find", "arguments": ""}, {"arguments": '{"q":'}, {"arguments": " 1}"}, {"arguments": ""}]
    events = [chat.event({"tool_calls": [{"index": 0, "function": call}]}) for call in calls]
    seen = converse(
        [streamed(chat.role(), *events, chat.finish("tool_calls"), chat.usage(7, 9), DONE)], Ask(transport, "chat")
    )
    assert (seen.outcome, seen.reply.output_tokens, seen.reply.chunks) == (Outcome.OK, 9, 3)
    assert seen.reply.first_output_ns == seen.reply.first_token_ns != NULL
    assert {row.channel for row in seen.chunks} == {TOOL}


def test_an_event_of_many_tokens_is_one_event(dialect: Dialect, ask: Ask) -> None:
    """T5: tokens are the server's count, gaps are between events."""
    script = streamed(dialect.text(" a b c"), dialect.text(" d e f"), dialect.finish(), dialect.usage(7, 6), DONE)
    seen = converse([script], ask)
    assert (seen.reply.output_tokens, seen.reply.tokens_source, seen.reply.chunks) == (6, USAGE, 2)


@pytest.mark.parametrize("said_by", ["ids", "usage"])
def test_tokens_of_the_first_event_are_known_where_the_server_says_them(
    dialect: Dialect, ask: Ask, said_by: str
) -> None:
    """T6: a first event of 3 tokens is recorded as such, by ids and by per-event usage."""
    by_ids = said_by == "ids"
    first = {"token_ids": [5, 6, 7]} if by_ids else {"usage": usage(7, 3)}
    second = {"token_ids": [8]} if by_ids else {"usage": usage(7, 4)}
    script = streamed(dialect.text(" a b c", **first), dialect.text(" d", **second), dialect.finish(), DONE)
    seen = converse([script], ask)
    assert (seen.outcome, seen.reply.first_chunk_tokens) == (Outcome.OK, 3)
    assert [row.tokens for row in seen.chunks] == [3, 1]
    assert (seen.reply.output_tokens, seen.reply.tokens_source) == (4, USAGE)


def test_a_reply_in_one_event_has_no_gap(dialect: Dialect, ask: Ask) -> None:
    """T7: all tokens in one event: first and last token coincide, and the count is the server's."""
    seen = converse([streamed(dialect.text(" a b c d"), dialect.finish(), dialect.usage(7, 4), DONE)], ask)
    assert (seen.outcome, seen.reply.chunks, seen.reply.output_tokens) == (Outcome.OK, 1, 4)
    assert seen.reply.first_token_ns == seen.reply.last_token_ns != NULL


def test_gaps_are_the_scripted_cadence(dialect: Dialect, ask: Ask) -> None:
    """T8, T9: each gap is at least the scripted pause, and E2E less TTFT is the sum of the gaps."""
    seen = converse([paced(dialect, 5, 0.05, 0.02)], ask)
    times, sent = [row.t_ns for row in seen.chunks], seen.requests[0].sent_ns[1:6]
    assert [row.nbytes for row in seen.chunks] == [len(dialect.text(" t0")) - 8] * 5
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert sum(gaps) == seen.reply.last_token_ns - seen.reply.first_token_ns
    assert times[-1] - times[0] >= sent[-1] - sent[0] - (seen.chunks[0].t_ns - sent[0]) - 1_000_000


def test_without_usage_events_are_counted_and_marked(dialect: Dialect, ask: Ask) -> None:
    """T10: no usage: the count is of events, whitespace included, and its source says so."""
    seen = converse(
        [streamed(dialect.text(" "), dialect.text("\n\n"), dialect.text(" b"), dialect.finish("stop"), DONE)], ask
    )
    assert seen.outcome is Outcome.OK
    assert (seen.reply.output_tokens, seen.reply.tokens_source) == (3, CHUNKS)
    assert seen.reply.input_tokens == NULL


def test_hidden_reasoning_has_no_first_token(transport: TransportName) -> None:
    """T11: reasoning tokens are part of completion_tokens; where none was shown, the first token is unknown."""
    chat = Dialect("chat")
    counts = chat.usage(
        7, 12, completion_tokens_details={"reasoning_tokens": 8}, prompt_tokens_details={"cached_tokens": 4}
    )
    seen = converse(
        [streamed(chat.role(), chat.text(" a"), chat.text(" b"), chat.finish("stop"), counts, DONE)],
        Ask(transport, "chat"),
    )
    reply = seen.reply
    assert (reply.output_tokens, reply.reasoning_tokens, reply.cached_tokens) == (12, 8, 4)
    assert reply.first_token_ns == reply.first_token_error_ns == NULL
    assert reply.first_output_ns == seen.chunks[0].t_ns


class SlowReply(Reply):
    """A reply whose parsing takes 5 ms, and that remembers when it began."""

    __slots__ = ("began_ns",)

    def feed(self, data: bytes) -> None:
        import time

        if not hasattr(self, "began_ns"):
            self.began_ns = time.monotonic_ns()
        time.sleep(0.005)
        super().feed(data)


def test_times_are_taken_before_parsing(dialect: Dialect, ask: Ask) -> None:
    """T12: a parser that takes 5 ms moves no time: the first token is dated before its parsing began."""
    ask.reply_type = SlowReply
    seen = converse([streamed(dialect.text(" a"), dialect.finish(), dialect.usage(7, 1), DONE)], ask)
    assert seen.outcome is Outcome.OK
    assert seen.reply.first_token_ns <= seen.reply.began_ns


def test_the_last_token_ends_e2e(dialect: Dialect, ask: Ask) -> None:
    """T13: usage and [DONE] that come late extend `end`, not the last token."""
    script = [
        Send(head() + chunk(dialect.text(" a"))),
        Sleep(0.01),
        Send(chunk(dialect.text(" b") + dialect.finish())),
        Sleep(0.3),
        Send(chunk(dialect.usage(7, 2)) + chunk(DONE) + END),
    ]
    seen = converse([script], ask)
    late_ns = seen.requests[0].sent_ns[2]
    assert seen.outcome is Outcome.OK
    assert seen.reply.last_token_ns == seen.chunks[-1].t_ns < late_ns
    assert seen.exchange.end_ns >= late_ns - 1_000_000


@pytest.mark.parametrize("after", ["end", "reset", "done"])
def test_an_error_within_the_stream_fails_the_reply(dialect: Dialect, ask: Ask, after: str) -> None:
    """T14: an error event fails the reply, however the connection ends, and its message is kept."""
    error = sse({"error": {"message": "engine died", "type": "InternalServerError", "code": 500}})
    tail = {"end": [Send(END)], "reset": [Sleep(0.05), Reset()], "done": [Send(chunk(DONE) + END)]}[after]
    seen = converse([[Send(head() + chunk(dialect.text(" a"))), Sleep(0.01), Send(chunk(error)), *tail]], ask)
    assert (seen.outcome, seen.exchange.error[:11]) == (Outcome.STREAM_ERROR, "engine died")


ERROR_BODY = json.dumps({"error": {"message": "out of quota", "code": 400}}).encode()
FAILED = {
    "json error with 200": (whole(ERROR_BODY), Outcome.STREAM_ERROR, "out of quota"),
    "json without choices": (whole(b'{"choices":[]}'), Outcome.EMPTY, '{"choices":[]}'),
    "empty body": (whole(b"", content_type="text/event-stream"), Outcome.EMPTY, "no token"),
    "only [DONE]": (streamed(DONE), Outcome.EMPTY, "[DONE]"),
    "a page": (whole(b"<html>busy</html>", content_type="text/html"), Outcome.MALFORMED, "<html>busy"),
    "no json in an event": (streamed(b"data: {oops\n\n", DONE), Outcome.MALFORMED, "{oops"),
    "429": (whole(ERROR_BODY, "429 Too Many Requests"), Outcome.HTTP_ERROR, "HTTP 429: out of quota"),
    "503, no json": (
        whole(b"overloaded\n", "503 Service Unavailable", "text/plain"),
        Outcome.HTTP_ERROR,
        "HTTP 503: overloaded",
    ),
    "302": (whole(b"", "302 Found"), Outcome.HTTP_ERROR, "HTTP 302"),
    "422 as FastAPI words it": (
        whole(b'{"detail":"bad field"}', "422 Unprocessable"),
        Outcome.HTTP_ERROR,
        "HTTP 422: bad field",
    ),
    "no http": ([Send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), Sleep(0.05), Close()], Outcome.MALFORMED, "HTTP"),
    "bad chunk": ([Send(head() + b"zz\r\n"), Sleep(0.05), Close()], Outcome.MALFORMED, "HTTP"),
    "closed before the head": ([Close()], Outcome.CONNECTION, "closed"),
    "reset before the head": ([Reset()], Outcome.CONNECTION, ""),
    "closed in a chunk": ([Send(head() + b"ff\r\ndata: "), Sleep(0.05), Close()], Outcome.CONNECTION, "closed"),
}


@pytest.mark.parametrize("case", FAILED)
def test_a_reply_without_tokens_has_an_outcome_of_its_own_and_no_number(ask: Ask, case: str) -> None:
    """T15, T17, T20: each failure has its outcome and explanation, an end, and not one 0 for what was never seen."""
    script, outcome, explained = FAILED[case]
    seen = converse([script], ask)
    assert seen.outcome is outcome, seen.exchange.error
    assert explained in seen.exchange.error
    assert len(seen.exchange.error) <= 500
    assert unseen(seen)
    assert seen.exchange.end_ns >= seen.exchange.sent_ns >= seen.exchange.started_ns
    assert seen.ends == [0]


def cut_short(dialect: Dialect, case: str) -> tuple[list[Any], int | None, Outcome]:
    """Script, tokens due and outcome of replies that break off after tokens."""
    a, b = dialect.text(" a"), dialect.text(" b")
    return {
        "nothing after tokens": (streamed(a, b), None, Outcome.TRUNCATED),
        "no [DONE]": (streamed(a, b, dialect.finish()), None, Outcome.TRUNCATED),
        "no finish reason": (streamed(a, b, DONE), None, Outcome.TRUNCATED),
        "cut in an event": (streamed(a, b[:20]), None, Outcome.TRUNCATED),
        "fewer than due": (streamed(a, b, dialect.finish("stop"), dialect.usage(7, 2), DONE), 3, Outcome.TRUNCATED),
        "due, no count, stopped": (streamed(a, b, dialect.finish("stop"), DONE), 3, Outcome.TRUNCATED),
        "due, no count, by length": (streamed(a, b, dialect.finish("length"), DONE), 3, Outcome.OK),
        "as many as due": (streamed(a, b, dialect.finish(), dialect.usage(7, 2), DONE), 2, Outcome.OK),
        "aborted by the server": (streamed(a, b, dialect.finish("abort"), DONE), None, Outcome.STREAM_ERROR),
        "close without the last chunk": ([Send(head() + chunk(a)), Sleep(0.03), Close()], None, Outcome.CONNECTION),
        "reset": ([Send(head() + chunk(a)), Sleep(0.03), Reset()], None, Outcome.CONNECTION),
        "reset when all was said": (
            [Send(head() + chunk(a + dialect.finish() + dialect.usage(7, 1) + DONE)), Sleep(0.05), Reset()],
            None,
            Outcome.OK,
        ),
        "no blank line after [DONE]": (streamed(a, dialect.finish(), DONE.rstrip()), None, Outcome.OK),
    }[case]


@pytest.mark.parametrize(
    "case",
    [
        "nothing after tokens", "no [DONE]", "no finish reason", "cut in an event", "fewer than due",
        "due, no count, stopped", "due, no count, by length", "as many as due", "aborted by the server",
        "close without the last chunk", "reset", "reset when all was said", "no blank line after [DONE]",
    ],
)  # fmt: skip
def test_ok_needs_an_end_a_reason_and_the_tokens_due(dialect: Dialect, ask: Ask, case: str) -> None:
    """T16: a reply is ok only with its terminal event, a finish reason and the tokens that were due."""
    script, ask.due_tokens, outcome = cut_short(dialect, case)
    seen = converse([script], ask)
    assert seen.outcome is outcome, seen.exchange.error
    assert bool(seen.exchange.error) == (outcome is not Outcome.OK)
    assert seen.chunks[0].channel == CONTENT
    assert (
        seen.exchange.end_ns
        >= seen.reply.last_token_ns
        >= seen.reply.first_token_ns
        >= seen.exchange.sent_ns - 1_000_000
    )


def test_slow_errors_keep_their_duration(ask: Ask) -> None:
    """T17: a 500 that takes 100 ms ends at least 100 ms after the request was sent."""
    seen = converse([[Sleep(0.1), *whole(ERROR_BODY, "500 Internal Server Error")]], ask)
    assert seen.outcome is Outcome.HTTP_ERROR
    assert seen.exchange.end_ns - seen.exchange.sent_ns >= 99_000_000


def test_every_exchange_ends_once(dialect: Dialect, ask: Ask) -> None:
    """T18, T19: in a mix of good and failed replies each exchange ends once, with its own outcome."""
    good = streamed(dialect.reply([" a", " b"]))
    ask.requests = 6
    scripts = [good, whole(ERROR_BODY, "500 Oops"), good, [Reset()], streamed(dialect.text(" a")), good]
    seen = converse(scripts, ask)
    assert seen.ends == list(range(6))
    outcomes = Counter(exchange.outcome for exchange in seen.exchanges)
    # The reset comes on a pooled connection before any byte: the request is sent again, and meets the next script.
    retried = sum(exchange.reconnects for exchange in seen.exchanges)
    assert sum(outcomes.values()) == 6
    assert outcomes[Outcome.HTTP_ERROR] == outcomes[Outcome.TRUNCATED] == 1
    assert outcomes[Outcome.OK] + outcomes[Outcome.CONNECTION] == 4
    assert outcomes[Outcome.CONNECTION] == 1 - retried


def test_a_whole_reply_has_one_time(dialect: Dialect, ask: Ask) -> None:
    """T36: not streamed: no first token, no gap; the end of the reply is its last token's time."""
    ask.stream, ask.due_tokens = False, 3
    body = dialect.whole(" a b c", counts=usage(7, 3))
    seen = converse([[Sleep(0.03), *whole(body)]], ask)
    reply = seen.reply
    assert (seen.outcome, reply.output_tokens, reply.input_tokens, reply.finish_reason) == (Outcome.OK, 3, 7, "length")
    assert reply.first_token_ns == reply.first_output_ns == reply.chunks == NULL
    assert seen.exchange.headers_ns <= reply.last_token_ns <= seen.exchange.end_ns
    assert reply.last_token_ns >= seen.requests[0].sent_ns[0] - 1_000_000
    assert not seen.chunks


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (b'{"choices":[{"index":0,"text":"","message":{"content":null},"finish_reason":"stop"}]}', Outcome.EMPTY),
        (b'{"error":{"message":"no"}}', Outcome.STREAM_ERROR),
        (b"not json", Outcome.MALFORMED),
        (b"", Outcome.EMPTY),
    ],
)
def test_a_whole_reply_without_tokens_never_has_a_time(ask: Ask, body: bytes, outcome: Outcome) -> None:
    """T36: replies without a token have no token time, and fail."""
    ask.stream = False
    seen = converse([whole(body)], ask)
    assert seen.outcome is outcome
    assert unseen(seen)


def test_a_server_that_does_not_stream_gives_no_token_times(dialect: Dialect, ask: Ask) -> None:
    """A JSON reply where a stream was asked for is whole: counted, and without a first token."""
    seen = converse([whole(dialect.whole(" a b", counts=usage(7, 2)))], ask)
    assert (seen.outcome, seen.reply.output_tokens) == (Outcome.OK, 2)
    assert seen.reply.first_token_ns == seen.reply.chunks == NULL
