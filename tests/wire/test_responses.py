"""Events and replies of the Responses and Embeddings APIs, byte by byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.names import NULL
from slobench.wire import embeddings, responses
from slobench.wire.openai import CONTENT, NO_CHANNEL, REASONING, REFUSAL, TOOL, Event, Usage

VLLM_DELTA = (
    b'{"content_index":0,"delta":" the","item_id":"msg_8d1f","logprobs":[],"output_index":0,"sequence_number":7,'
    b'"type":"response.output_text.delta"}'
)
OPENAI_DELTA = (
    b'{"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_68","output_index":0,"content_index":0,'
    b'"delta":"Hi","logprobs":[],"obfuscation":"iGOEd12c"}'
)


def event(**fields: Any) -> Event:
    """Read one event."""
    return responses.parse_event(json.dumps(fields).encode())


@pytest.mark.parametrize("data", [VLLM_DELTA, OPENAI_DELTA])
def test_a_delta_is_a_token_event_of_unknown_count(data: bytes) -> None:
    """As vLLM and OpenAI word it: text, and no count of its tokens."""
    assert responses.parse_event(data) == Event(CONTENT)


@pytest.mark.parametrize(
    ("kind", "channel"),
    [
        ("output_text", CONTENT), ("refusal", REFUSAL), ("reasoning", REASONING), ("reasoning_text", REASONING),
        ("reasoning_summary", REASONING), ("reasoning_summary_text", REASONING), ("function_call_arguments", TOOL),
        ("custom_tool_call_input", TOOL), ("mcp_call_arguments", TOOL), ("code_interpreter_call_code", TOOL),
        ("shell_call_command", TOOL), ("something_new", NO_CHANNEL),
    ],
)  # fmt: skip
def test_channels_of_deltas(kind: str, channel: int) -> None:
    """Each documented delta has a channel, an empty one and an unknown one have none."""
    assert event(type=f"response.{kind}.delta", delta="x").channel == channel
    assert event(type=f"response.{kind}.delta", delta="").channel == NO_CHANNEL
    assert event(type=f"response.{kind}.done", text="x").channel == NO_CHANNEL


@pytest.mark.parametrize(
    ("status", "details", "reason"),
    [
        ("completed", None, "stop"),
        ("incomplete", {"reason": "max_output_tokens"}, "length"),
        ("incomplete", {"reason": "content_filter"}, "content_filter"),
        ("incomplete", None, "length"),
        ("incomplete", {"reason": 3}, "length"),
        ("cancelled", None, "abort"),
    ],
)
def test_ends(status: str, details: object, reason: str) -> None:
    """The status of the response says how it ended, in the words of the other APIs; the event's own name only else."""
    response = {"status": status, "incomplete_details": details, "error": None}
    for kind in ("response.completed", f"response.{status}"):
        found = event(type=kind, response=response)
        assert (found.ends, found.finish_reason, found.error) == (True, reason, "")
    assert event(type=f"response.{status}", response={"incomplete_details": details}).finish_reason == reason
    assert responses.parse_reply(json.dumps(response).encode()).finish_reason == reason


def test_counts() -> None:
    """Usage under this API's names; what is no count is none."""
    usage = {"input_tokens": 5, "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 4}}
    found = event(type="response.completed", response={"usage": usage | {"input_tokens_details": {"cached_tokens": 3}}})
    assert found.usage == Usage(5, 9, 4, 3)
    assert event(type="response.completed", response={"usage": usage}).usage == Usage(5, 9, 4, NULL)
    assert event(type="response.completed", response={"usage": {"input_tokens": "5"}}).usage == Usage()
    assert event(type="response.completed", response={"usage": None}).usage is None


@pytest.mark.parametrize(
    "value",
    [
        {"type": "error", "message": "died", "code": None},
        {"type": "error", "error": {"message": "died"}},
        {"error": {"message": "died", "code": 500}},
        {"type": "response.failed", "response": {"status": "failed", "error": {"message": "died"}}},
        {"type": "response.completed", "response": {"status": "failed", "error": "died"}},
    ],
)
def test_errors(value: dict[str, Any]) -> None:
    """An error's message is found wherever servers put it."""
    assert responses.parse_event(json.dumps(value).encode()).error == "died"


@pytest.mark.parametrize(
    ("output", "channel"),
    [
        ([{"type": "message", "content": [{"type": "output_text", "text": "x"}]}], CONTENT),
        ([{"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}], REFUSAL),
        ([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "x"}]}], REASONING),
        ([{"type": "reasoning", "content": [{"type": "reasoning_text", "text": "x"}]}], REASONING),
        ([{"type": "reasoning", "content": [{"type": "reasoning_text", "text": "x"}]},
          {"type": "function_call", "name": "f", "arguments": "{}"}], TOOL),
        ([{"type": "message", "content": [{"type": "output_text", "text": ""}]}], NO_CHANNEL),
        ([{"type": "function_call", "name": ""}, {"type": "reasoning"}, "x", None], NO_CHANNEL),
        ("x", NO_CHANNEL),
    ],
)  # fmt: skip
def test_channels_of_whole_replies(output: object, channel: int) -> None:
    """What a reader sees goes before what is thought."""
    body = json.dumps({"object": "response", "status": "completed", "output": output}).encode()
    assert responses.parse_reply(body).channel == channel


KEYS = ["type", "delta", "response", "status", "usage", "error", "message", "item", "output", "content", "logprobs",
        "incomplete_details", "reason", "input_tokens", "data", "embedding", "name", "summary", "text"]  # fmt: skip
WORDS = ["response.completed", "response.output_text.delta", "error", "response.output_item.added", "incomplete",
         "function_call", "failed", "output_text"]  # fmt: skip


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(WORDS),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
        max_leaves=12,
    )
)
def test_any_json_is_read_or_refused(value: object) -> None:
    """Whatever a server sends, it is an event or a ValueError."""
    data = json.dumps(value).encode()
    for parse in (responses.parse_event, responses.parse_reply, embeddings.parse_reply):
        try:
            found = parse(data)
        except ValueError:
            assert not isinstance(value, dict)
        else:
            assert isinstance(found.error, str)
            assert isinstance(found.finish_reason, str)


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"3", b"null", b"\xff"])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    """Bytes that hold no JSON object raise ValueError."""
    for parse in (responses.parse_event, responses.parse_reply, embeddings.parse_reply, embeddings.parse_event):
        with pytest.raises(ValueError, match=r"."):
            parse(data)
