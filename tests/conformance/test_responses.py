"""The Responses API over real sockets: what is a token, what ends a reply, what each failure is; on both transports."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slobench.names import NULL, Outcome
from slobench.wire.openai import CONTENT, REASONING, REFUSAL, TOOL
from tests.conformance import responses as api
from tests.conformance.dialect import DONE, END, chunk, head, sse, streamed, whole
from tests.conformance.harness import Ask, TransportName, converse, unseen
from tests.conformance.server import Close, Reset, Send, Sleep

A, B = api.delta(" a"), api.delta(" b")
LENGTH = api.cut_by_length()


@pytest.fixture
def ask(transport: TransportName) -> Ask:
    """Ask for the usual streamed reply."""
    return Ask(transport, "responses")


def test_a_usual_stream(ask: Ask) -> None:
    """Text deltas are the tokens; what opens and closes items is none; counts are those of the last event."""
    script = [Send(head())]
    for piece in (*api.opened(), A, B, *api.closed()):
        script += [Send(chunk(piece)), Sleep(0.002)]
    seen = converse([[*script, Send(END)]], ask)
    reply = seen.reply
    assert (seen.outcome, reply.finish_reason, reply.chunks) == (Outcome.OK, "stop", 2)
    assert (reply.input_tokens, reply.output_tokens, reply.reasoning_tokens, reply.cached_tokens) == (7, 2, 0, 0)
    assert [(row.channel, row.tokens) for row in seen.chunks] == [(CONTENT, NULL)] * 2
    assert reply.first_token_ns == reply.first_output_ns == seen.chunks[0].t_ns
    assert reply.last_token_ns == seen.chunks[-1].t_ns
    assert seen.requests[0].head.startswith(b"POST /v1/responses HTTP/1.1\r\n")
    # The opening events came at least four sends before the first token.
    assert reply.first_token_ns >= seen.requests[0].sent_ns[5] - 1_000_000


ENDS: dict[str, tuple[list[bytes], int | None, Outcome, str]] = {
    "completed": ([A, B, api.ended()], None, Outcome.OK, "stop"),
    "incomplete by length": ([A, B, api.ended("incomplete", **LENGTH)], None, Outcome.OK, "length"),
    "completed that says it is incomplete": (
        [A, B, api.event("response.completed", response=api.response("incomplete", usage=api.usage(7, 2), **LENGTH))],
        2, Outcome.OK, "length",
    ),
    "incomplete by filter": (
        [A, api.ended("incomplete", incomplete_details={"reason": "content_filter"})], None, Outcome.OK,
        "content_filter",
    ),
    "without the response": ([A, api.event("response.completed")], None, Outcome.OK, "stop"),
    "a [DONE] after the end": ([A, B, api.ended(), DONE], None, Outcome.OK, "stop"),
    "no blank line after the end": ([A, B, api.ended().rstrip()], None, Outcome.OK, "stop"),
    "all that were due": ([A, B, api.ended("incomplete", **LENGTH)], 2, Outcome.OK, "length"),
    "fewer than due": ([A, B, api.ended()], 3, Outcome.TRUNCATED, "stop"),
    "no terminal event": ([A, B], None, Outcome.TRUNCATED, ""),
    "[DONE] in place of the terminal event": ([A, B, DONE], None, Outcome.TRUNCATED, ""),
    "items done, but not the response": ([A, B, *api.closed()[:-1]], None, Outcome.TRUNCATED, ""),
    "cut in an event": ([A, api.ended()[:90]], None, Outcome.TRUNCATED, ""),
    "failed": (
        [A, api.ended("failed", error={"code": "server_error", "message": "engine died"})], None,
        Outcome.STREAM_ERROR, "",
    ),
    "failed without a word": ([A, api.ended("failed")], None, Outcome.STREAM_ERROR, ""),
    "cancelled": ([A, api.ended("cancelled")], None, Outcome.STREAM_ERROR, "abort"),
    "error event": (
        [A, api.event("error", code="server_error", message="engine died", param=None)], None, Outcome.STREAM_ERROR,
        "",
    ),
    "error event, nested": (
        [A, api.event("error", error={"type": "server_error", "message": "engine died"})], None, Outcome.STREAM_ERROR,
        "",
    ),
    "error as vLLM words it": ([A, sse({"error": {"message": "engine died"}})], None, Outcome.STREAM_ERROR, ""),
    "error event without a message": ([A, api.event("error")], None, Outcome.STREAM_ERROR, ""),
    "no JSON": ([A, b"data: {oops\n\n", api.ended()], None, Outcome.MALFORMED, "stop"),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDS)
def test_ok_needs_the_terminal_event_and_the_tokens_due(ask: Ask, case: str) -> None:
    """T16: without the terminal event a reply is truncated, also with a [DONE]; errors fail it; tokens are kept."""
    events, ask.due_tokens, outcome, reason = ENDS[case]
    seen = converse([streamed(*events)], ask)
    assert (seen.outcome, seen.reply.finish_reason) == (outcome, reason), seen.exchange.error
    assert bool(seen.exchange.error) == (outcome is not Outcome.OK)
    assert ("engine died" in seen.exchange.error) == ("engine died" in str(events))
    assert seen.reply.chunks == sum(b".delta" in each for each in events)


NONE: dict[str, tuple[list[Any], Outcome]] = {
    "ended without a token": (streamed(*api.opened(), api.ended(tokens=0)), Outcome.EMPTY),
    "opened only": (streamed(*api.opened()), Outcome.EMPTY),
    "empty deltas": (streamed(api.delta(""), api.delta(None), api.ended(tokens=0)), Outcome.EMPTY),
    "only [DONE]": (streamed(DONE), Outcome.EMPTY),
    "events of another API": (streamed(sse({"choices": [{"text": " a"}]}), DONE), Outcome.EMPTY),
    "failed at once": (
        streamed(api.event("response.failed", response=api.response("failed", error={"message": "no"}))),
        Outcome.STREAM_ERROR,
    ),
    "400": (whole(b'{"error":{"message":"bad input"}}', "400 Bad Request"), Outcome.HTTP_ERROR),
    "closed before the head": ([Close()], Outcome.CONNECTION),
    "reset after the head": ([Send(head() + chunk(api.opened()[0])), Sleep(0.03), Reset()], Outcome.CONNECTION),
}


@pytest.mark.parametrize("case", NONE)
def test_a_reply_without_tokens_has_no_number(ask: Ask, case: str) -> None:
    """T15, T20: each has its outcome and a text, and not one 0 for what was never seen."""
    script, outcome = NONE[case]
    seen = converse([script], ask)
    assert seen.outcome is outcome, seen.exchange.error
    assert seen.exchange.error
    reply = seen.reply
    assert (reply.first_token_ns, reply.last_token_ns, seen.chunks) == (NULL, NULL, [])
    assert unseen(seen) or "ended without" in case or "empty" in case  # there the server counts 0


@pytest.mark.parametrize(
    ("kind", "channel"),
    [
        ("output_text", CONTENT), ("refusal", REFUSAL), ("reasoning_text", REASONING),
        ("reasoning_summary_text", REASONING), ("function_call_arguments", TOOL), ("custom_tool_call_input", TOOL),
    ],
)  # fmt: skip
def test_each_kind_of_delta_has_its_channel(ask: Ask, kind: str, channel: int) -> None:
    """T3, T4: reasoning and refusals are first tokens but no output, calls of tools are output."""
    script = streamed(*api.opened(), api.delta('{"a"', kind), api.delta(":1}", kind), api.ended(tokens=9))
    seen = converse([script], ask)
    assert (seen.outcome, seen.reply.output_tokens) == (Outcome.OK, 9)
    assert [row.channel for row in seen.chunks] == [channel] * 2
    assert seen.reply.first_token_ns != NULL
    assert (seen.reply.first_output_ns != NULL) == (channel in {CONTENT, TOOL})


def test_the_name_of_a_tool_is_its_first_token(ask: Ask) -> None:
    """T4: a call begins with the name that was made; an item without one is no token."""
    call = {"type": "function_call", "id": "fc_1", "name": "find", "arguments": ""}
    named = api.event("response.output_item.added", output_index=0, item=call)
    unnamed = api.event("response.output_item.added", output_index=0, item={"type": "reasoning", "summary": []})
    arguments = api.delta('{"q":1}', "function_call_arguments")
    done = api.event("response.function_call_arguments.done", arguments='{"q":1}')
    seen = converse([streamed(unnamed, named, arguments, done, api.ended(tokens=5))], ask)
    assert [row.channel for row in seen.chunks] == [TOOL, TOOL]
    assert (seen.outcome, seen.reply.output_tokens, seen.reply.chunks) == (Outcome.OK, 5, 2)


def test_hidden_reasoning_has_no_first_token(ask: Ask) -> None:
    """T11: the counts of reasoning and cache are kept; where no reasoning was shown, the first token is unknown."""
    last = api.event("response.completed", response=api.response(usage=api.usage(7, 12, cached=4, reasoning=8)))
    reply = converse([streamed(*api.opened(), A, B, last)], ask).reply
    assert (reply.output_tokens, reply.reasoning_tokens, reply.cached_tokens) == (12, 8, 4)
    assert reply.first_token_ns == NULL
    assert reply.first_output_ns != NULL


def test_logprobs_count_the_tokens_of_a_delta(ask: Ask) -> None:
    """T6: a delta with its logprobs says how many tokens it holds."""
    first = api.delta(" a b", logprobs=[{"token": " a"}, {"token": " b"}])
    seen = converse(
        [streamed(first, api.delta(" c", logprobs=[{"token": " c"}]), api.event("response.completed"))], ask
    )
    assert [row.tokens for row in seen.chunks] == [2, 1]
    assert (seen.reply.output_tokens, seen.reply.first_chunk_tokens) == (3, 2)


FORMS = {
    "CRLF": lambda stream: stream.replace(b"\n", b"\r\n"),
    "CR": lambda stream: stream.replace(b"\n", b"\r"),
    "no space": lambda stream: stream.replace(b"data: ", b"data:").replace(b"event: ", b"event:"),
    "no names": lambda stream: b"".join(part for part in stream.splitlines(keepends=True) if part[:5] != b"event"),
    "pings": lambda stream: stream.replace(b"event: ", b": ping\n\nevent: "),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_the_stream_changes_nothing(ask: Ask, form: str) -> None:
    """T43: line ends, comments and missing event names; the type in the data counts."""
    stream = FORMS[form](b"".join((*api.opened(), A, api.delta(" €\u2028"), *api.closed())))
    seen = converse([streamed(stream)], ask)
    assert (seen.outcome, seen.reply.chunks, seen.reply.output_tokens) == (Outcome.OK, 2, 2)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_cuts_of_the_byte_stream_change_nothing(transport: TransportName, data: st.DataObject) -> None:
    """T43: TCP segments may end anywhere."""
    events = [*api.opened(), A, api.delta(' "b€"\n'), *api.closed("incomplete", **LENGTH)]
    stream = head() + b"".join(map(chunk, events)) + END
    cuts = sorted(data.draw(st.lists(st.integers(1, len(stream) - 1), max_size=6, unique=True)))
    script: list[Send | Sleep] = []
    for start, stop in pairwise([0, *cuts, len(stream)]):
        script += [Send(stream[start:stop]), Sleep(0.002)]
    seen = converse([script], Ask(transport, "responses", due_tokens=2))
    assert (seen.outcome, seen.reply.chunks, seen.reply.finish_reason) == (Outcome.OK, 2, "length")


WHOLE: dict[str, tuple[dict[str, Any], Outcome, str]] = {
    "text": (api.response(output=[api.message(" a b")], usage=api.usage(7, 2)), Outcome.OK, "stop"),
    "cut by length": (
        api.response("incomplete", output=[api.message(" a")], usage=api.usage(7, 2), **LENGTH), Outcome.OK, "length",
    ),
    "a call": (
        api.response(output=[{"type": "function_call", "name": "find", "arguments": "{}"}], usage=api.usage(7, 2)),
        Outcome.OK, "stop",
    ),
    "text, not counted": (api.response(output=[api.message(" a b")]), Outcome.OK, "stop"),
    "nothing": (api.response(output=[], usage=api.usage(7, 0)), Outcome.EMPTY, "stop"),
    "failed": (api.response("failed", error={"message": "no"}), Outcome.STREAM_ERROR, ""),
    "an error": ({"error": {"message": "no"}}, Outcome.STREAM_ERROR, ""),
    "not begun": (api.response("queued", output=[]), Outcome.EMPTY, ""),
    "still going": (api.response("in_progress", output=[api.message(" a")]), Outcome.EMPTY, ""),
}  # fmt: skip


@pytest.mark.parametrize("case", WHOLE)
def test_a_reply_that_is_not_streamed(ask: Ask, case: str) -> None:
    """T36: it has one time, its end, and the tokens that usage says."""
    ask.stream = False
    body, outcome, reason = WHOLE[case]
    seen = converse([whole(json.dumps(body).encode())], ask)
    reply = seen.reply
    assert (seen.outcome, reply.finish_reason) == (outcome, reason), seen.exchange.error
    assert reply.first_token_ns == reply.first_output_ns == reply.chunks == NULL
    assert (reply.last_token_ns != NULL) == (outcome is Outcome.OK)
    if outcome is Outcome.OK and body["usage"]:
        assert (reply.input_tokens, reply.output_tokens) == (7, 2)
