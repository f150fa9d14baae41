"""What one event says, in the form of each server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.names import NULL
from slobench.wire import openai
from slobench.wire.openai import CONTENT, NO_CHANNEL, REASONING, REFUSAL, TOOL, Usage, parse_event, parse_reply

VLLM_TEXT = (
    '{"id":"cmpl-1","object":"text_completion","created":1,"model":"tiny","choices":[{"index":0,"text":TEXT,'
    '"logprobs":null,"finish_reason":FINISH,"stop_reason":null,"prompt_token_ids":null,"token_ids":IDS}]USAGE}'
)
VLLM_CHAT = (
    '{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"tiny","choices":[{"index":0,'
    '"delta":{"content":TEXT},"logprobs":null,"finish_reason":FINISH,"token_ids":IDS}]USAGE}'
)
SGLANG = (
    '{"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":null,'
    '"content":TEXT,"reasoning_content":null,"tool_calls":null},"logprobs":null,"finish_reason":FINISH,'
    '"matched_stop":null}]USAGE}'
)
OPENAI = (
    '{"id":"1","object":"chat.completion.chunk","created":1,"model":"m","service_tier":"default",'
    '"system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"content":TEXT},"logprobs":null,'
    '"finish_reason":FINISH}]USAGE,"obfuscation":"aB3"}'
)
BARE_TEXT = '{"choices":[{"index":0,"text":TEXT,"finish_reason":FINISH,"token_ids":IDS}]USAGE}'
BARE_CHAT = '{"choices":[{"index":0,"delta":{"content":TEXT},"finish_reason":FINISH}]USAGE}'
FORMS = {
    "vllm text": VLLM_TEXT,
    "vllm chat": VLLM_CHAT,
    "sglang": SGLANG,
    "openai": OPENAI,
    "bare text": BARE_TEXT,
    "bare chat": BARE_CHAT,
}


def word(form: str, text: str, finish: str = "null", ids: str = "null", usage: str = "") -> bytes:
    """Fill a form."""
    filled = form.replace("TEXT", json.dumps(text, ensure_ascii=False), 1).replace("FINISH", finish)
    return filled.replace("IDS", ids).replace("USAGE", usage).encode()


@pytest.mark.parametrize("spaces", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_the_usual_forms_need_no_json_parser(form: str, monkeypatch: pytest.MonkeyPatch, *, spaces: bool) -> None:
    """Text events of vLLM, SGLang and OpenAI, and bare choices, are read by the one regex, with and without spaces."""
    monkeypatch.setattr(openai, "_read", None)
    data = word(FORMS[form], " a")
    if spaces:
        data = json.dumps(json.loads(data)).encode()
    event = parse_event(data)
    assert (event.channel, event.tokens, event.usage, event.finish_reason) == (CONTENT, NULL, None, "")
    assert event.shape is not None
    assert data.startswith(event.shape.prefix)
    assert data.endswith(event.shape.suffix)


@given(
    form=st.sampled_from(sorted(FORMS)),
    text=st.text(max_size=12),
    finish=st.sampled_from(["null", '"length"', '"stop"']),
    ids=st.sampled_from(["null", "[]", "[5]", "[5,6,7]"]),
    usage=st.sampled_from(
        ["", ',"usage":null', ',"usage":{"prompt_tokens":7,"total_tokens":10,"completion_tokens":3}']
    ),
)
def test_the_regex_reads_what_the_json_parser_reads(form: str, text: str, finish: str, ids: str, usage: str) -> None:
    """For any text, finish reason, ids and usage the two ways agree."""
    data = word(FORMS[form], text, finish, ids, usage)
    by_json = openai._read(data, streamed=True)
    assert parse_event(data)._replace(shape=None) == by_json
    assert (by_json.channel != NO_CHANNEL) == bool(text)


CHAT_DELTAS: list[tuple[dict[str, Any], int]] = [
    ({"role": "assistant"}, NO_CHANNEL),
    ({"role": "assistant", "content": ""}, NO_CHANNEL),
    ({"content": None}, NO_CHANNEL),
    ({"reasoning_content": "hm"}, REASONING),
    ({"reasoning": "hm", "content": None}, REASONING),
    ({"reasoning": "hm", "content": "so"}, CONTENT),
    ({"refusal": "no"}, REFUSAL),
    ({"tool_calls": []}, NO_CHANNEL),
    ({"tool_calls": [{"index": 0, "function": {"arguments": ""}}]}, NO_CHANNEL),
    ({"tool_calls": [{"index": 0, "function": {"name": "find", "arguments": ""}}]}, TOOL),
    ({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}, TOOL),
    ({"tool_calls": [{"index": 0, "custom": {"input": "x"}}]}, TOOL),
    ({"function_call": {"arguments": "{"}}, TOOL),
    ({"tool_calls": ["odd"], "function_call": "odd"}, NO_CHANNEL),
]


@pytest.mark.parametrize(("delta", "channel"), CHAT_DELTAS)
def test_the_channel_of_a_delta(delta: dict[str, Any], channel: int) -> None:
    """Only a non-empty delta has a channel; what a reader sees goes before reasoning."""
    assert parse_event(json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode()).channel == channel


@pytest.mark.parametrize(
    ("choice", "tokens"),
    [
        ({"text": "a", "logprobs": {"tokens": ["a", "b"]}}, 2),
        ({"delta": {"content": "a"}, "logprobs": {"content": [{"token": "a"}]}}, 1),
        ({"text": "a", "logprobs": None}, NULL),
        ({"text": "a", "token_ids": [1, 2, 3], "logprobs": {"tokens": ["a"]}}, 3),
    ],
)
def test_tokens_are_ids_else_logprobs(choice: dict[str, Any], tokens: int) -> None:
    """Token ids count before logprobs; neither is null, not 0."""
    assert parse_event(json.dumps({"choices": [choice]}).encode()).tokens == tokens


def test_usage_with_details() -> None:
    """Reasoning and cached tokens are read; what is missing or no count is null."""
    counts = {
        "prompt_tokens": 7, "completion_tokens": True, "completion_tokens_details": {"reasoning_tokens": 2},
        "prompt_tokens_details": {"cached_tokens": -1},
    }  # fmt: skip
    event = parse_event(json.dumps({"choices": [], "usage": counts}).encode())
    assert event.usage == Usage(7, NULL, 2, NULL)
    assert not event.choices


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"error": {"message": "died", "code": 500}}, "died"),
        ({"error": "died"}, "died"),
        ({"error": {"code": 5}}, '{"code":5}'),
        ({"object": "error", "message": "died"}, "died"),
        ({"detail": "died"}, "died"),
        ({"error": None, "choices": []}, ""),
        ({"error": None, "choices": [{"text": "a"}]}, ""),
    ],
)
def test_errors_in_the_words_of_each_server(value: dict[str, Any], message: str) -> None:
    """An error's message is found; an error of null is none."""
    assert parse_event(json.dumps(value).encode()).error == message


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"3", b"null", b"\xff"])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    """Bytes that hold no JSON object raise ValueError, streamed or not."""
    for parse in (parse_event, parse_reply):
        with pytest.raises(ValueError, match=r"."):
            parse(data)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "choices",
                        "delta",
                        "text",
                        "usage",
                        "error",
                        "message",
                        "tool_calls",
                        "function",
                        "logprobs",
                        "token_ids",
                        "content",
                        "finish_reason",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_read_or_refused(value: object) -> None:
    """Whatever a server sends, it is an event or a ValueError."""
    data = json.dumps(value).encode()
    for parse in (parse_event, parse_reply):
        try:
            parse(data)
        except ValueError:
            assert not isinstance(value, dict)


def test_error_texts_are_short_and_on_one_line() -> None:
    """At most 500 characters, whatever the body."""
    assert openai.error_text(b'{"error":{"message":"a\\n b"}}') == "a b"
    assert len(openai.error_text(b"x" * 9_999)) == 500
    assert openai.error_text(b"\xff\n") == "\ufffd"
