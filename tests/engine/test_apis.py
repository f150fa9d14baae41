"""The simulated server's responses and embeddings over real sockets, and the adapters that it serves."""

import json
from collections.abc import Iterator

import pytest

from slobench.names import NULL, Outcome
from slobench.wire.outcome import Ended
from slobench.wire.reply import Reply
from tests.conformance.harness import Rows
from tests.engine.test_server import FAST, ask, gauge, started

RESPONSE = {"model": "sim", "input": "a b c", "max_output_tokens": 5, "ignore_eos": True, "stream": True}
EMBEDDING = {"model": "sim", "input": [1, 2, 3, 4]}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server with 2 ms steps, and two adapters."""
    with started({"engine": {**FAST, "max_model_len": 512, "adapters": ["sql", "law"]}}) as (_, port):
        yield port


def events(body: bytes) -> list[dict]:
    """The events of a stream, each under its own name, numbered without a gap."""
    *parts, rest = body.split(b"\n\n")
    assert rest == b""
    pairs = [part.split(b"\n") for part in parts]
    found = [json.loads(data.removeprefix(b"data: ")) for _, data in pairs]
    assert [name.removeprefix(b"event: ").decode() for name, _ in pairs] == [event["type"] for event in found]
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def read(api: str, body: bytes, *, stream: bool) -> tuple[Reply, Outcome]:
    """The reply as the generator reads it."""
    reply = Reply(index=0, api=api, stream=stream, due_tokens=5 if api == "responses" else None, chunks=Rows())
    reply.on_headers(200, "text/event-stream" if stream else "application/json")
    reply.feed(body)
    reply.stamp(10, 0, 0)
    return reply, reply.finish(Ended.COMPLETE)[0]


def test_a_response_opens_streams_closes_and_ends(port):
    """Four events open it, five hold a token, three close the message, and the last one has the counts."""
    status, body = ask(port, "/v1/responses", RESPONSE)
    found = events(body)
    kinds = [event["type"].removeprefix("response.") for event in found]
    assert status == 200
    assert kinds == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *["output_text.delta"] * 5,
        *("output_text.done", "content_part.done", "output_item.done", "incomplete"),
    ]
    text, response = "".join(event["delta"] for event in found[4:9]), found[-1]["response"]
    assert len(text.split()) == 5
    assert response["output"][0]["content"][0]["text"] == found[9]["text"] == text
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert (response["usage"]["input_tokens"], response["usage"]["output_tokens"]) == (5, 5)  # a role and a reply's
    reply, outcome = read("responses", body, stream=True)
    assert (outcome, reply.finish_reason, reply.chunks, reply.input_tokens) == (Outcome.OK, "length", 5, 5)


def test_a_response_that_is_not_streamed(port):
    """It is one object, of as many tokens; one that would end by itself is completed."""
    reply, outcome = read("responses", ask(port, "/v1/responses", {**RESPONSE, "stream": False})[1], stream=False)
    assert (outcome, reply.output_tokens, reply.finish_reason) == (Outcome.OK, 5, "length")
    asked = [{"input": f"a b {k}", "max_output_tokens": 400} for k in range(6)]
    bodies = [json.loads(ask(port, "/v1/responses", each)[1]) for each in asked]
    by_itself = [body for body in bodies if body["status"] == "completed"]
    assert by_itself
    assert all(body["incomplete_details"] is None and body["usage"]["output_tokens"] < 400 for body in by_itself)


def test_input_may_be_messages(port):
    """A list of messages is a conversation, as in a chat."""
    said = [{"role": "user", "content": [{"type": "input_text", "text": "a b c"}]}]
    body = json.loads(ask(port, "/v1/responses", {**RESPONSE, "stream": False, "input": said})[1])
    assert body["usage"]["input_tokens"] == 5


@pytest.mark.parametrize("given", ["", [], None, 7, [{"role": "user", "content": 5}]])
def test_a_response_needs_an_input(port, given):
    """Without one it is refused."""
    assert ask(port, "/v1/responses", {**RESPONSE, "input": given})[0] == 400


def test_an_embedding_is_one_vector_and_no_token(port):
    """The vector of the same body is the same; usage counts the input; no first token is counted anywhere."""
    before = gauge(port, "vllm:time_to_first_token_seconds_count")
    bodies = [ask(port, "/v1/embeddings", EMBEDDING | more)[1] for more in ({}, {}, {"input": "a b"}, {"stream": True})]
    first, again, text, _ = (json.loads(body) for body in bodies)
    assert first["data"] == again["data"] != text["data"]
    assert (first["usage"]["prompt_tokens"], text["usage"]["prompt_tokens"]) == (4, 2)
    assert gauge(port, "vllm:time_to_first_token_seconds_count") == before
    for body in bodies:
        reply, outcome = read("embeddings", body, stream=False)
        assert (outcome, reply.output_tokens, reply.last_token_ns) == (Outcome.OK, NULL, 10)
    assert ask(port, "/v1/embeddings", {**EMBEDDING, "input": [1] * 600})[0] == 400


def test_adapters_are_models(port):
    """An adapter is listed under its model, answers under its own name; others are not found."""
    listed = json.loads(ask(port, "/v1/models")[1])["data"]
    assert [(model["id"], model["parent"]) for model in listed] == [("sim", None), ("sql", "sim"), ("law", "sim")]
    assert json.loads(ask(port, "/v1/embeddings", {**EMBEDDING, "model": "law"})[1])["model"] == "law"
    assert ask(port, "/v1/embeddings", {**EMBEDDING, "model": "tax"})[0] == 404
