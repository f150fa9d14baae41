"""Streams that are legal and unusual, and every cut of the bytes (T43), over real sockets."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slobench.names import Outcome
from tests.conformance.dialect import DONE, END, Dialect, chunk, head, streamed
from tests.conformance.harness import Ask, TransportName, converse
from tests.conformance.server import Close, Send, Sleep

SPACED = (
    b'data: {"id":"1", "choices":[{"index":0, "text":" a",\ndata: "delta":{"content":" a"}, "finish_reason":null}]}\n\n'
)


def eight(dialect: Dialect) -> dict[str, list[bytes]]:
    """Streams of two tokens, as pieces to be read one by one, that a careless client reads wrong."""
    usual = dialect.reply([" a", " b"])
    ending = [dialect.finish(), dialect.usage(7, 2), DONE]
    euro = dialect.reply([" €", " b"])
    cut = euro.index("€".encode()) + 1
    space = usual.index(b'" b"') + 2
    return {
        "as most servers do": [usual],
        "lines end in CRLF": [usual.replace(b"\n", b"\r\n")],
        "no space after data:": [usual.replace(b"data: ", b"data:")],
        "U+2028 in a token": [dialect.reply([" a\u2028", " b"])],
        "an event of two data lines": [SPACED, dialect.text(" b"), *ending],
        "pings before and between": [
            b": ping\n\n",
            b":\n\n",
            dialect.text(" a"),
            b"event: ping\ndata:\n\n",
            dialect.text(" b"),
            *ending,
        ],
        "a read that ends in a space": [usual[:space], usual[space:]],
        "a read that ends within a character": [euro[:cut], euro[cut:]],
    }


@pytest.mark.parametrize("name", list(eight(Dialect("chat"))))
def test_the_eight_streams_give_the_same_reply(dialect: Dialect, ask: Ask, name: str) -> None:
    """Whatever the form, two tokens, the usage and the finish reason are read."""
    script: list[Send | Sleep] = [Send(head())]
    for piece in eight(dialect)[name]:
        script += [Send(chunk(piece)), Sleep(0.005)]
    seen = converse([[*script, Send(END)]], ask)
    reply = seen.reply
    assert seen.outcome is Outcome.OK, seen.exchange.error
    assert (reply.chunks, reply.output_tokens, reply.input_tokens, reply.finish_reason) == (2, 2, 7, "length")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_cuts_of_the_byte_stream_change_nothing(
    dialect: Dialect, transport: TransportName, data: st.DataObject
) -> None:
    """T43: TCP segments may end anywhere, in the head, in a chunk's framing, in a character: the reply is the same."""
    events = dialect.reply([" a", " b€", ' "c"\n', "\u2028"])
    stream = head() + b"".join(chunk(event + b"\n\n") for event in events.split(b"\n\n") if event) + END
    cuts = sorted(data.draw(st.lists(st.integers(1, len(stream) - 1), max_size=6, unique=True)))
    script: list[Send | Sleep] = []
    for start, stop in pairwise([0, *cuts, len(stream)]):
        script += [Send(stream[start:stop]), Sleep(0.002)]
    seen = converse([script], Ask(transport, dialect.api))
    assert seen.outcome is Outcome.OK, seen.exchange.error
    assert (seen.reply.chunks, seen.reply.output_tokens) == (4, 4)
    usual = [len(event) - 6 for event in events.split(b"\n\n")[1:5]]
    assert [row.nbytes for row in seen.chunks] == usual


def test_every_byte_alone(dialect: Dialect, ask: Ask) -> None:
    """T43: a stream that comes byte by byte, each in a chunk of its own, gives the same reply."""
    events = dialect.reply([" a", " €"])
    script: list[Send | Sleep] = [Send(head())]
    for k in range(len(events)):
        script += [Send(chunk(events[k : k + 1])), Sleep(0)]
    seen = converse([[*script, Send(END)]], ask)
    assert (seen.outcome, seen.reply.chunks, seen.reply.output_tokens) == (Outcome.OK, 2, 2)


def test_a_megabyte_event(dialect: Dialect, ask: Ask) -> None:
    """T43: an event of 1 MB is one event, of that many bytes."""
    large = dialect.text("x" * (1 << 20))
    seen = converse([streamed(dialect.text(" a"), large, dialect.finish(), dialect.usage(7, 2), DONE)], ask)
    assert (seen.outcome, seen.reply.chunks) == (Outcome.OK, 2)
    assert seen.chunks[1].nbytes == len(large) - 8


def test_events_that_share_a_read_are_marked(dialect: Dialect, ask: Ask) -> None:
    """T43: of many events in one read the last is dated, the others are coalesced, the first's possible error kept."""
    tokens = b"".join(dialect.text(f" {k}") for k in range(50))
    script = [Send(head()), Sleep(0.02), Send(chunk(tokens)), Sleep(0.02)]
    seen = converse([[*script, Send(chunk(dialect.finish() + dialect.usage(7, 50) + DONE) + END)]], ask)
    assert (seen.outcome, seen.reply.chunks) == (Outcome.OK, 50)
    assert [row.coalesced for row in seen.chunks] == [True] * 49 + [False]
    assert len({row.t_ns for row in seen.chunks}) == 1
    # The read before it was the head's, which the server sent at least 20 ms earlier.
    assert seen.reply.first_token_error_ns > 0
    assert seen.reply.first_token_error_ns <= seen.reply.first_token_ns - seen.exchange.sent_ns


def test_usage_after_the_last_token_coalesces_nothing(dialect: Dialect, ask: Ask) -> None:
    """A read of one token and the end of the stream dates that token."""
    seen = converse([streamed(dialect.text(" a"), dialect.finish(), dialect.usage(7, 1), DONE)], ask)
    assert [row.coalesced for row in seen.chunks] == [False]
    assert seen.reply.first_token_error_ns == 0


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_body_without_length_ends_with_the_connection(dialect: Dialect, ask: Ask, version: str) -> None:
    """HTTP/1.0 and `connection: close` without a length: the close is the end of the message, not a failure."""
    start = head("200 OK", "text/event-stream", "connection: close").replace(b"HTTP/1.1", f"HTTP/{version}".encode())
    seen = converse([[Send(start), Sleep(0.01), Send(dialect.reply([" a", " b"])), Close()]], ask)
    assert (seen.outcome, seen.reply.output_tokens) == (Outcome.OK, 2)


def test_a_body_without_length_that_breaks_off_is_truncated(dialect: Dialect, ask: Ask) -> None:
    """T16: a clean close with neither finish reason nor [DONE] is a truncated reply."""
    start = head("200 OK", "text/event-stream", "connection: close")
    seen = converse([[Send(start), Send(dialect.text(" a")), Sleep(0.02), Close()]], ask)
    assert (seen.outcome, seen.reply.chunks) == (Outcome.TRUNCATED, 1)


def test_interim_responses_are_passed_over(dialect: Dialect, ask: Ask) -> None:
    """100 Continue and 103 Early Hints are not the reply."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    seen = converse([[Send(interim), *streamed(dialect.reply([" a"]))]], ask)
    assert (seen.outcome, seen.reply.http_status) == (Outcome.OK, 200)
