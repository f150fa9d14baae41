"""Requests as bytes: the body an endpoint is sent, the head before it, and what is never sent."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.errors import ConfigError
from slobench.wire.endpoint import BodyTemplate, Endpoint, request_head, request_headers, request_path

NONCE = "0123456789abcdef"


def endpoint(**changes):
    """Make an endpoint, all but what is given as usual."""
    return Endpoint(**({"url": "http://host:8000", "model": "m"} | changes))


def body(prompt=b"[1,2]", output_tokens=7, priority=None, **changes):
    """Return the parsed body of one request."""
    return json.loads(BodyTemplate(endpoint(**changes), NONCE).body(prompt, output_tokens, priority))


def test_a_completion_asks_for_a_stream_with_usage():
    """The plain body of a completion: model, prompt, length, stream and usage, nothing else."""
    assert body() == {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "prompt": [1, 2],
        "max_tokens": 7,
    }


def test_a_chat_has_one_user_message_and_the_newer_length_field():
    """Chat sends max_completion_tokens alone: beside max_tokens, OpenAI refuses it."""
    made = body(b'"hi"', api="chat")
    assert made["messages"] == [{"role": "user", "content": "hi"}]
    assert made["max_completion_tokens"] == 7
    assert "max_tokens" not in made
    assert "prompt" not in made


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"forces_length": True}, {"ignore_eos": True}),
        ({"return_token_ids": True}, {"return_token_ids": True}),
        ({"cache_salt": True}, {"cache_salt": NONCE}),
        ({"priority": -3}, {"priority": -3}),
        ({"priority": 0}, {"priority": 0}),
        (
            {"extra_body": {"temperature": 0, "ignore_eos": False}, "forces_length": True},
            {"temperature": 0, "ignore_eos": False},
        ),
        ({"per_event_usage": True}, {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}),
    ],
)
def test_fields_are_sent_where_they_are_asked_for(changes, fields):
    """Each optional field is absent by default and present when asked for; extra_body wins over our own."""
    plain, made = body(), body(**changes)
    assert {name: made[name] for name in fields} == fields
    assert made.keys() - plain.keys() == fields.keys() - plain.keys()


def test_without_streaming_there_are_no_stream_options():
    """A server refuses stream_options where stream is false."""
    made = body(stream=False)
    assert made["stream"] is False
    assert "stream_options" not in made


def test_extra_body_can_remove_a_field_and_place_the_length():
    """A null removes a field; the text {output_tokens} becomes the number, for servers that know another name."""
    extra = {"max_completion_tokens": None, "max_tokens": "{output_tokens}", "min_tokens": "{output_tokens}"}
    made = body(b'"hi"', api="chat", extra_body=extra | {"100%d": 1})
    assert (made["max_tokens"], made["min_tokens"]) == (7, 7)
    assert "max_completion_tokens" not in made
    assert made["100%d"] == 1


def test_a_response_has_an_input_and_is_not_stored():
    """Responses: the prompt as `input`, its own field for the length, usage unasked for, nothing kept by the server."""
    assert body(b'"hi"', api="responses", forces_length=True, cache_salt=True, priority=2, return_token_ids=True) == {
        "model": "m", "stream": True, "store": False, "input": "hi", "max_output_tokens": 7, "ignore_eos": True,
        "cache_salt": NONCE, "priority": 2,
    }  # fmt: skip
    assert "store" not in body(b'"hi"', api="responses", extra_body={"store": None})


def test_an_embedding_has_an_input_and_no_output():
    """Embeddings: ids or text, and no field that speaks of output or of a stream."""
    asked = {"api": "embeddings", "stream": False, "forces_length": True, "return_token_ids": True}
    assert body(output_tokens=0, **asked) == {"model": "m", "input": [1, 2]}
    assert body(b'"hi"', 0, 3, extra_body={"dimensions": 8}, **asked) == {
        "model": "m", "input": "hi", "dimensions": 8, "priority": 3,
    }  # fmt: skip


TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}]
PASSED = {
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": ["é", "\u2028"]}}},
    "guided_json": {"type": "object", "required": ["q"]},
    "structured_outputs": {"choice": ["yes", "no"]},
    "tools": TOOLS,
    "tool_choice": {"type": "function", "function": {"name": "find"}},
}


@pytest.mark.parametrize("api", ["completions", "chat", "responses"])
def test_tools_and_structured_output_pass_through(api):
    """What extra_body says of tools and formats is sent as it is, in the order of its keys."""
    made = body(b'"hi"', api=api, extra_body=PASSED)
    assert {name: made[name] for name in PASSED} == PASSED
    assert list(made["guided_json"]) == ["type", "required"]


@pytest.mark.parametrize("name", ["prompt", "messages", "input", "priority", "stream"])
def test_extra_body_cannot_replace_what_the_workload_decides(name):
    """Prompt, messages, priority and stream are refused by name."""
    with pytest.raises(ConfigError, match=name):
        body(extra_body={name: 1})


def test_extra_body_that_is_no_json_is_refused():
    """A value that JSON cannot hold is the user's error."""
    with pytest.raises(ConfigError, match="extra_body"):
        body(extra_body={"x": object()})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    model=st.text(min_size=1),
    api=st.sampled_from(["completions", "chat", "responses", "embeddings"]),
    prompt=st.text() | st.lists(st.integers(0, 10**6)),
    n=st.integers(1, 10**7),
    priority=st.none() | st.integers(-(2**31), 2**31),
    extra=st.dictionaries(
        st.text().filter(lambda key: key not in {"prompt", "messages", "input", "priority", "stream"}), JSON, max_size=4
    ),
)
def test_a_body_is_json_whatever_it_holds(*, model, api, prompt, n, priority, extra):
    """Any model name, prompt and extra field gives JSON that reads back as given."""
    made = body(json.dumps(prompt).encode(), n, priority, model=model, api=api, extra_body=extra)
    chat, field = api == "chat", "prompt" if api == "completions" else "input"
    assert (made["messages"][0]["content"] if chat else made[field]) == prompt
    assert made.get("priority") == priority
    for name, value in extra.items():
        assert made.get(name) == (n if value == "{output_tokens}" else value)


@pytest.mark.parametrize(
    ("url", "api", "path"),
    [
        ("http://h", "completions", "/v1/completions"),
        ("http://h/", "chat", "/v1/chat/completions"),
        ("http://h", "responses", "/v1/responses"),
        ("http://h/team", "embeddings", "/team/v1/embeddings"),
        ("https://h:1/team/a/", "chat", "/team/a/v1/chat/completions"),
    ],
)
def test_the_path_keeps_the_prefix_of_the_url(url, api, path):
    """A URL's own path comes before /v1."""
    assert request_path(endpoint(url=url, api=api)) == path


def test_a_path_that_cannot_be_sent_is_refused():
    """A path with a space or outside ASCII would break the request line."""
    for url in ("http://h/a b", "http://h/é"):
        with pytest.raises(ConfigError, match="path"):
            request_path(endpoint(url=url))


def test_the_head_is_a_request_line_and_header_lines():
    """The head: request line, host, our headers, each line ended; no length, id or blank line."""
    lines = request_head(endpoint(headers={"X-Tenant": "a"})).decode().split("\r\n")
    assert lines[0] == "POST /v1/completions HTTP/1.1"
    assert lines[1] == "host: host:8000"
    assert lines[-1] == ""
    assert {"accept-encoding: identity", "content-type: application/json", "x-tenant: a"} <= set(lines)
    assert not any(line.startswith(("content-length", "x-request-id")) for line in lines)
    assert "" not in lines[:-1]


@pytest.mark.parametrize(("host", "expected"), [(None, "[::1]:80"), ("other:1", "other:1")])
def test_the_host_is_that_of_the_url_unless_it_is_given(host, expected):
    """The host header keeps a literal address's brackets and leaves the URL's credentials out."""
    assert f"\r\nhost: {expected}\r\n".encode() in request_head(endpoint(url="http://me:secret@[::1]:80"), host)


def test_headers_of_the_endpoint_win_over_ours():
    """A user's header replaces ours of the same name, however it is written, and the host too."""
    headers = {"User-Agent": "mine", "HOST": "inner"}
    assert request_headers(endpoint(headers=headers))["user-agent"] == "mine"
    head = request_head(endpoint(headers=headers))
    assert b"\r\nhost: inner\r\n" in head
    assert head.count(b"host:") == 1


@pytest.mark.parametrize(
    "name", ["Content-Length", "transfer-encoding", "Connection", "X-Request-Id", "accept-encoding"]
)
def test_headers_that_would_change_the_framing_are_refused(name):
    """Headers that belong to the transport are refused by name."""
    with pytest.raises(ConfigError, match=name):
        request_head(endpoint(headers={name: "1"}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x", "secret\r\nhost: evil"),
        ("x", "secret\n"),
        ("x", "secret\0"),
        ("x", "secret☃"),
        ("x y", "secret"),
        ("", "secret"),
        ("x:", "secret"),
    ],
)
def test_headers_cannot_inject_lines_and_are_not_shown(name, value):
    """A header that is not one line of Latin-1 is refused, and its value, which may be a secret, is not printed."""
    with pytest.raises(ConfigError) as refused:
        request_head(endpoint(headers={name: value}))
    assert "secret" not in str(refused.value)


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=12), max_size=3))
def test_a_head_never_has_more_lines_than_headers(headers):
    """Whatever headers are given, the head is refused or has one line for each."""
    try:
        made = request_headers(endpoint(headers=headers))
        head = request_head(endpoint(headers=headers))
    except ConfigError:
        return
    assert head.count(b"\r\n") == head.count(b"\n") == head.count(b"\r") == 2 + len(made) - ("host" in made)
