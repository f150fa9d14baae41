"""The Embeddings API over real sockets: one latency, no tokens; on both transports."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slobench.names import NULL, Outcome
from tests.conformance.dialect import DONE, Dialect, streamed, whole
from tests.conformance.harness import Ask, TransportName, converse
from tests.conformance.server import Close, Send, Sleep

VECTOR = {"object": "embedding", "index": 0, "embedding": [0.25, -1.0, 3e-5]}
USAGE = {"prompt_tokens": 7, "total_tokens": 7}


@pytest.fixture
def ask(transport: TransportName) -> Ask:
    """Ask for an embedding."""
    return Ask(transport, "embeddings", stream=False)


def body(**fields: Any) -> bytes:
    """A whole reply; what is given stands in place of the usual."""
    return json.dumps({"object": "list", "data": [VECTOR], "model": "tiny", "usage": USAGE} | fields).encode()


@pytest.mark.parametrize("vector", [[0.5, 1.0], "AACAPwAAgD8="])
def test_an_embedding_has_one_latency_and_no_tokens(ask: Ask, vector: object) -> None:
    """The end of the reply is its time; no first token, no output tokens, no finish reason."""
    seen = converse([[Sleep(0.03), *whole(body(data=[VECTOR | {"embedding": vector}]))]], ask)
    reply = seen.reply
    assert (seen.outcome, seen.exchange.error, reply.finish_reason) == (Outcome.OK, "", "")
    assert (reply.input_tokens, reply.output_tokens, reply.chunks) == (7, NULL, NULL)
    assert reply.first_token_ns == reply.first_output_ns == NULL
    assert seen.requests[0].sent_ns[0] - 1_000_000 <= reply.last_token_ns <= seen.exchange.end_ns
    assert seen.requests[0].head.startswith(b"POST /v1/embeddings HTTP/1.1\r\n")
    assert seen.requests[0].header("accept") == "application/json"


FAILED: dict[str, tuple[list[Any], Outcome, str]] = {
    "no data": (whole(body(data=[])), Outcome.EMPTY, "no embedding came"),
    "no list": (whole(body(data=None)), Outcome.EMPTY, "no embedding came"),
    "an empty vector": (whole(body(data=[VECTOR | {"embedding": []}])), Outcome.EMPTY, "no embedding came"),
    "empty body": (whole(b""), Outcome.EMPTY, "no embedding came"),
    "an error with 200": (whole(b'{"error":{"message":"no"}}'), Outcome.STREAM_ERROR, "no"),
    "no JSON": (whole(b'{"data":[{"embedding":[0.1,'), Outcome.MALFORMED, "0.1"),
    "no object": (whole(b"[1]"), Outcome.MALFORMED, "not a JSON object"),
    "400": (whole(b'{"error":{"message":"too long"}}', "400 Bad Request"), Outcome.HTTP_ERROR, "HTTP 400: too long"),
    "closed within the body": (
        [Send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n" + body()[:50]),
         Sleep(0.03), Close()],
        Outcome.CONNECTION, "closed",
    ),
    "a stream of text": (streamed(Dialect("completions").text(" a"), DONE), Outcome.MALFORMED, "a stream"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILED)
def test_a_reply_without_a_vector_fails(ask: Ask, case: str) -> None:
    """Ok is a whole 200 with a vector; each other reply has its outcome, and no time of its own."""
    script, outcome, explained = FAILED[case]
    seen = converse([script], ask)
    assert (seen.outcome, explained in seen.exchange.error) == (outcome, True), seen.exchange.error
    assert seen.reply.output_tokens == NULL
    assert seen.reply.last_token_ns == NULL


def test_a_large_vector(ask: Ask) -> None:
    """A reply of 1 MB, in many reads, is one reply."""
    vector = [k / 7 for k in range(60_000)]
    seen = converse([whole(body(data=[VECTOR | {"embedding": vector}]))], ask)
    assert (seen.outcome, seen.reply.input_tokens) == (Outcome.OK, 7)
