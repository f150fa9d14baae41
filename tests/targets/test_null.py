"""The null server: what it reads, what it sends, never early, and a log of it."""

from __future__ import annotations

import csv
import http.client
import itertools
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.config.load import load_target
from slobench.config.target import NullTarget
from slobench.errors import ConfigError
from slobench.targets.base import RunningTarget
from slobench.targets.launch import start
from slobench.targets.null_wire import UnreadableError, Words, asked_of, request_of
from slobench.targets.own import truth_of
from slobench.wire.openai import DONE, parse_event, parse_reply
from slobench.wire.sse import SseDecoder

FIRST_NS, GAP_NS = 20_000_000, 10_000_000


@pytest.fixture(scope="module")
def null(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningTarget]:
    """A running null server; its log is in `truth`."""
    settings = {"kind": "null-server", "first_token": "20ms", "gap": "10ms", "step": "5ms"}
    target = NullTarget.model_validate(settings)
    running = start(target, log=tmp_path_factory.mktemp("null") / "server.log")
    yield running
    running.stop()


@contextmanager
def connect(running: RunningTarget) -> Iterator[http.client.HTTPConnection]:
    """A connection to it."""
    connection = http.client.HTTPConnection(running.endpoint.url.removeprefix("http://"), timeout=30)
    try:
        yield connection
    finally:
        connection.close()


def ask(connection: http.client.HTTPConnection, label: str, path: str = "/v1/completions", **body: object) -> bytes:
    """The body of a reply."""
    words = {"model": "null", "prompt": [5, 6, 7], "stream": True, "stream_options": {"include_usage": True}, **body}
    connection.request("POST", path, json.dumps(words), {"x-request-id": label})
    reply = connection.getresponse()
    assert reply.status == 200
    return reply.read()


def truth(running: RunningTarget, label: str) -> dict[str, str]:
    """The log's row of a request; it is written at the end, and flushed when nothing runs."""
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up:
        rows = csv.DictReader(truth_of(running.server.log).read_text().splitlines())
        found = [row for row in rows if row["id"] == label and row["status"]]
        if found:
            return found[0]
        time.sleep(0.02)
    raise AssertionError(f"no row of {label}")


@pytest.mark.parametrize(("path", "tokens"), [("/v1/completions", 5), ("/v1/chat/completions", 1)])
def test_a_stream_has_its_tokens_usage_and_end(null, path, tokens):
    """One event a token in the usual form, the last with a finish reason, then usage and [DONE]."""
    with connect(null) as connection:
        body = ask(connection, f"stream-{tokens}", path, max_tokens=tokens)
    *events, usage, done = SseDecoder().feed(body)
    found = [parse_event(event) for event in events]
    assert [event.channel for event in found] == [0] * tokens
    assert [event.finish_reason for event in found] == [*[""] * (tokens - 1), "length"]
    assert all(event.shape is not None for event in found[:-1])
    counts = parse_event(usage)
    assert (counts.usage.input_tokens, counts.usage.output_tokens, counts.choices) == (3, tokens, False)
    assert done == DONE


def test_no_token_leaves_early_and_the_log_says_when_they_left(null):
    """First token no sooner than `first_token` after the request was received, the others a gap apart at least."""
    with connect(null) as connection:
        ask(connection, "timed", max_tokens=4)
    row = truth(null, "timed")
    recv, first, last = (int(row[key]) for key in ("recv_ns", "first_ns", "last_ns"))
    assert first - recv >= FIRST_NS
    # Tokens leave in steps, so the two ends may each be late by less than a step.
    assert last - first > 3 * GAP_NS - 5_000_000
    assert (row["tokens"], row["status"]) == ("4", "done")


def test_requests_on_one_connection_are_answered_in_turn(null):
    """A connection is kept; a request that comes before the reply is whole waits."""
    with connect(null) as connection:
        for label in ("turn-1", "turn-2"):
            ask(connection, label, max_tokens=2)
        where = (connection.host, connection.port)
    with socket.create_connection(where, timeout=30) as sock:
        body = b'{"max_tokens": 2, "stream": true}'
        request = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        sock.sendall(request * 2)
        got = b""
        while got.count(b"[DONE]") < 2:
            got += sock.recv(65536)
    assert got.count(b"HTTP/1.1 200 OK") == 2


def test_a_reply_that_is_not_streamed(null):
    """It comes whole, with its counts."""
    with connect(null) as connection:
        found = parse_reply(ask(connection, "whole", stream=False, max_tokens=7))
    assert (found.usage.output_tokens, found.finish_reason) == (7, "length")


def test_a_client_that_leaves_is_logged_as_such(null):
    """What was sent until then is counted, and the server goes on."""
    with connect(null) as connection:
        body = b'{"max_tokens": 100000, "stream": true}'
        connection.request("POST", "/v1/completions", body, {"x-request-id": "gone"})
        with connection.getresponse() as reply:
            reply.read(1)
    assert 1 <= int(truth(null, "gone")["tokens"]) < 100_000
    assert truth(null, "gone")["status"] == "closed"
    with connect(null) as connection:
        ask(connection, "after", max_tokens=1)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/v1/models", {}, 200),
        ("GET", "/health", {}, 200),
        ("GET", "/version", {}, 404),
        ("POST", "/v1/completions", {"transfer-encoding": "chunked"}, 400),
        ("POST", "/v1/completions", {"content-length": "99999999999"}, 400),
    ],
)
def test_other_requests_get_an_answer(null, method, path, headers, status):
    """Models and health are there; what cannot be framed is refused."""
    with connect(null) as connection:
        connection.putrequest(method, path)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        with connection.getresponse() as reply:
            assert reply.status == status


def test_the_shipped_target_is_one_and_its_settings_are_checked(tmp_path):
    """--target null is found; a gap between steps is an error."""
    assert isinstance(load_target("null").value, NullTarget)
    with pytest.raises(ConfigError, match="multiple of step"):
        load_target("null", ("gap=30ms",))


REQUEST = b'POST /v1/completions HTTP/1.1\r\nX-Request-Id: a-7\r\nContent-Length: 38\r\n\r\n{"max_tokens":3,"prompt":[1, 2, 3, 4]}'


@given(cuts=st.lists(st.integers(0, 2 * len(REQUEST)), max_size=8))
def test_requests_are_the_same_however_they_are_cut(cuts):
    """Two requests in any pieces are two requests."""
    stream, inbox, found = REQUEST * 2, bytearray(), []
    edges = [0, *sorted(cuts), len(stream)]
    for start_at, end_at in itertools.pairwise(edges):
        inbox += stream[start_at:end_at]
        while (request := request_of(inbox)) is not None:
            found.append(asked_of(*request))
    assert [(each.label, each.tokens, each.prompt_tokens, each.streamed) for each in found] == [
        ("a-7", 3, 4, False)
    ] * 2
    assert not inbox


def test_a_prompt_cannot_pose_as_a_setting():
    """Quotes inside JSON text are escaped, so a field's name in a prompt is not taken for the field."""
    body = json.dumps({"prompt": '"max_tokens": 9, "stream": true', "max_completion_tokens": 4}).encode()
    found = asked_of(b"POST /v1/chat/completions HTTP/1.1\r\n", body)
    assert (found.tokens, found.streamed, found.chat, found.label) == (4, False, True, "")


def test_a_head_without_end_is_refused():
    """Memory for it is bounded."""
    with pytest.raises(UnreadableError):
        request_of(bytearray(b"x" * 70_000))


def test_a_model_name_may_hold_anything():
    """Percent signs and quotes survive in every kind of reply."""
    words = Words('100%d "x"', chat=False)
    assert parse_reply(words.whole(1, 2)).usage.output_tokens == 2
    assert b"prompt_tokens" in words.end(1, 2, usage=True)


def test_the_log_lies_beside_the_servers_output():
    """Where whoever judges a client looks for it."""
    assert truth_of(Path("a/server.log")) == Path("a/server-requests.csv")
