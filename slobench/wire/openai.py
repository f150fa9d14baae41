"""What one event or reply of an OpenAI-compatible server says; bytes in, values out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from slobench.names import CHANNELS, NULL, Channel

CONTENT, REASONING, TOOL, REFUSAL = (
    CHANNELS.index(channel) for channel in (Channel.CONTENT, Channel.REASONING, Channel.TOOL, Channel.REFUSAL)
)
NO_CHANNEL = -1
DONE = b"[DONE]"
FAILED_REASONS = frozenset({"abort", "error"})
"""Finish reasons by which vLLM and SGLang say that they gave the request up."""
ERROR_CHARS = 500
OPENING, CLOSING = b"data: ", b"\n\n"
"""What stands around an event that is one line, as servers write it."""


class Usage(NamedTuple):
    """Token counts as the server gives them; NULL where it does not."""

    input_tokens: int = NULL
    output_tokens: int = NULL
    reasoning_tokens: int = NULL
    cached_tokens: int = NULL


class Event(NamedTuple):
    """One event of a stream, or one whole reply."""

    channel: int = NO_CHANNEL  # code in names.CHANNELS of its text; NO_CHANNEL: it has none
    tokens: int = NULL  # its token ids, else its logprobs; NULL where it has neither
    usage: Usage | None = None
    finish_reason: str = ""
    error: str = ""
    choices: bool = True  # False: usage only
    shape: Shape | None = None  # of an event in the usual form that has text, and says nothing else but its ids
    ends: bool = False  # the terminal event of an API that has one


@dataclass(frozen=True, slots=True)
class Shape:
    """What stays the same from one plain event of a stream to the next: all but its text and token ids.

    No byte of it is a line end: on the wire each such event is one line.
    """

    prefix: bytes
    suffix: bytes
    varying: Callable[[bytes | bytearray, int, int], re.Match[bytes] | None]
    """Matches what stands between them (text never empty); group 1: the token ids, where there are any."""
    between: bytes | None
    """What stands between the text and the ids; None where there are none."""
    channel: int

    @property
    def raw_prefix(self) -> bytes:
        """The prefix as it comes on the wire."""
        return OPENING + self.prefix

    @property
    def raw_suffix(self) -> bytes:
        """The suffix as it comes on the wire, up to the end of the event."""
        return self.suffix + CLOSING

    @property
    def raw_prefix_parts(self) -> tuple[bytes, bytes, bytes] | None:
        """What the wire prefix of another reply has in common with this one: before its id, before its time, and after.

        None where a prefix has other parts.
        """
        match = _prefix_parts(self.prefix)
        return None if match is None else (OPENING + match[1], match[2], match[3])


PLAIN = rb'(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt])++'  # JSON text that cannot end its string, \u left to the parsers
_plain = re.compile(PLAIN).fullmatch
_prefix_parts = re.compile(
    rb'(\{"id": ?")[^"\\\x00-\x1f]*(", ?"object": ?"[a-z._]+", ?"created": ?)\d+(, ?"model"[^\n]+)'
).fullmatch
IDS = rb"\d+(?:, ?\d+)*+"
_NULLS = rb'(?:,"[a-z_]+":null){0,20}'
# Where the body of a group may match in part, the group is not possessive: Python before 3.11.5 then goes on behind
# that part (github.com/python/cpython/issues/106052). What is repeated has a bound instead.
USUAL = re.compile(
    (
        rb'\{(?:"id":"[^"\\]*","object":"[a-z._]+","created":\d+,"model":"[^"\\]*"'
        rb'(?:,"(?:system_fingerprint|service_tier)":(?:null|"[^"\\]*")){0,4}, ?)?'
        rb'"choices":\[\{"index":0, ?'
        rb'(?:"text":"(?P<text>PLAIN?+)"'
        rb'|"delta":\{(?:"role":(?:null|"assistant"), ?)?'
        rb'"(?P<field>content|reasoning|reasoning_content|refusal)":"(?P<delta>PLAIN?+)"NULLS\})'
        rb'NULLS(?:,"finish_reason":"(?P<finish>[a-z_]+)")?NULLS'
        rb'(?:,"token_ids":\[(?P<ids>IDS)\])?\}\]'
        rb'(?:,"usage":(?:null|\{"prompt_tokens":(?P<prompt>\d{1,15}),"total_tokens":\d+,"completion_tokens":(\d{1,15})\}))?'
        rb'(?:,"obfuscation":"[^"\\]*")?\}'
    )
    .replace(b"PLAIN?+", b"(?:" + PLAIN + b")?+")
    .replace(b"NULLS", _NULLS)
    .replace(b"IDS", IDS)
    .replace(b'":', b'": ?')
    .replace(b',"', b', ?"')
).fullmatch  # as vLLM, SGLang and OpenAI write it, or with its choice alone; whatever differs goes to orjson

_FIELDS = {b"content": CONTENT, b"reasoning": REASONING, b"reasoning_content": REASONING, b"refusal": REFUSAL}


def parse_event(data: bytes) -> Event:
    """Read one SSE event (not `[DONE]`). Raises ValueError where it is no JSON object."""
    match = USUAL(data)
    if match is None:
        return _read(data, streamed=True)
    _, _, _, finish, ids, prompt, completion = match.groups()
    channel = channel_of(match)
    return Event(
        channel,
        NULL if ids is None else ids.count(b",") + 1,
        None if completion is None else Usage(int(prompt), int(completion)),
        "" if finish is None else finish.decode(),
        shape=_shape(data, match, channel) if channel != NO_CHANNEL and finish is completion is None else None,
    )


def channel_of(match: re.Match[bytes]) -> int:
    """The channel of the text of an event that USUAL matched."""
    if match["text"]:
        return CONTENT
    return _FIELDS[match["field"]] if match["delta"] else NO_CHANNEL


def _shape(data: bytes, match: re.Match[bytes], channel: int) -> Shape | None:
    if b"\n" in data:  # of several lines; a line end inside a text is no match
        return None
    start, text_stop = match.span("delta" if match["text"] is None else "text")
    if match["ids"] is None:
        return Shape(data[:start], data[text_stop:], _plain, between=None, channel=channel)
    ids_start, stop = match.span("ids")
    between = data[text_stop:ids_start]
    return Shape(data[:start], data[stop:], _plain_then_ids(between), between, channel)


@lru_cache(maxsize=64)
def _plain_then_ids(between: bytes) -> Callable[[bytes | bytearray, int, int], re.Match[bytes] | None]:
    return re.compile(PLAIN + re.escape(between) + b"(" + IDS + b")").fullmatch


def parse_reply(body: bytes) -> Event:
    """Read a reply that was not streamed. Raises ValueError where it is no JSON object."""
    return _read(body, streamed=False)


def error_text(body: bytes) -> str:
    """Return the message of an error body, or the body itself; at most ERROR_CHARS characters."""
    try:
        value = orjson.loads(body)
    except ValueError:
        return clip(body.decode("utf-8", "replace"))
    return error_of(value) or clip(body.decode("utf-8", "replace"))


def clip(text: str) -> str:
    """Cut text to at most ERROR_CHARS characters on one line."""
    line = " ".join(text[: 4 * ERROR_CHARS].split())
    return line if len(line) <= ERROR_CHARS else line[: ERROR_CHARS - 1] + "…"


def _read(data: bytes, *, streamed: bool) -> Event:
    value = json_object(data)
    error = error_of(value)
    if error:
        return Event(error=error, choices=False)
    listed = value.get("choices")
    choices = [choice for choice in listed if isinstance(choice, dict)] if isinstance(listed, list) else []
    channel, tokens, finish = NO_CHANNEL, NULL, ""
    for choice in choices:
        message = choice.get("delta" if streamed else "message")
        found = _channel(message) if isinstance(message, dict) else (CONTENT if choice.get("text") else NO_CHANNEL)
        channel = found if channel == NO_CHANNEL else channel
        said = _tokens(choice)
        if said != NULL:
            tokens = said if tokens == NULL else tokens + said
        reason = choice.get("finish_reason")
        finish = reason if isinstance(reason, str) else finish
    return Event(channel, tokens, _usage(value.get("usage")), finish, choices=bool(choices))


def _channel(delta: dict[str, Any]) -> int:
    """Find the channel of a delta or message; what a reader sees goes before what is thought."""
    if delta.get("content"):
        return CONTENT
    if any(_calls(call) for call in delta.get("tool_calls") or ()) or _calls({"function": delta.get("function_call")}):
        return TOOL
    if delta.get("refusal"):
        return REFUSAL
    if delta.get("reasoning_content") or delta.get("reasoning"):
        return REASONING
    return NO_CHANNEL


def _calls(call: object) -> bool:
    """Whether a tool call delta holds any of a name, arguments or input."""
    if not isinstance(call, dict):
        return False
    parts = (call.get("function"), call.get("custom"))
    return any(any(part.get(key) for key in ("name", "arguments", "input")) for part in parts if isinstance(part, dict))


def _tokens(choice: dict[str, Any]) -> int:
    ids = choice.get("token_ids")
    if isinstance(ids, list):
        return len(ids)
    logprobs = choice.get("logprobs")
    if isinstance(logprobs, dict):
        listed = logprobs.get("tokens", logprobs.get("content"))
        if isinstance(listed, list):
            return len(listed)
    return NULL


def _usage(value: object) -> Usage | None:
    if not isinstance(value, dict):
        return None
    return Usage(
        count(value, "prompt_tokens"),
        count(value, "completion_tokens"),
        count(value.get("completion_tokens_details"), "reasoning_tokens"),
        count(value.get("prompt_tokens_details"), "cached_tokens"),
    )


def json_object(data: bytes) -> dict[str, Any]:
    """Read a JSON object. Raises ValueError where it is none."""
    value = orjson.loads(data)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 (as for bytes that are no JSON)
    return value


def count(value: object, key: str) -> int:
    """Return a token count of an object; NULL where there is none."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 <= found < 2**62 else NULL


def error_of(value: object) -> str:
    """Find the message of `{"error": …}`, of vLLM's older `{"object": "error", …}`, of FastAPI's `{"detail": …}`."""
    if not isinstance(value, dict) or value.get("choices"):
        return ""
    error = value.get("error") or (value if value.get("object") == "error" else None) or value.get("detail")
    if not error:
        return ""
    message = error.get("message") if isinstance(error, dict) else error
    return clip(message if isinstance(message, str) and message else orjson.dumps(error).decode())
