"""What the null server reads of a request, and the bytes of its replies, made beforehand; no socket, no clock."""

from __future__ import annotations

import re
from dataclasses import dataclass

import orjson

MAX_HEAD_BYTES = 1 << 16
MAX_BODY_BYTES = 64 << 20
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d{1,18})\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_LABEL = re.compile(rb"\r\nx-request-id: *([^\r\n,]{1,80})\r\n", re.IGNORECASE)
# A quote inside JSON text is escaped, so these never match inside a prompt.
_TOKENS = re.compile(rb'"max_(?:completion_)?tokens" *: *(\d{1,9})')
_STREAMED = re.compile(rb'"stream" *: *true')
_USAGE = re.compile(rb'"include_usage" *: *true')
_IDS = re.compile(rb'"prompt" *: *\[([0-9, ]*)\]')
_DEFAULT_TOKENS = 16  # of the OpenAI API, where max_tokens is left out


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for tokens. label: the client's x-request-id, "" where it sent none."""

    label: str
    tokens: int
    prompt_tokens: int
    streamed: bool
    usage: bool
    chat: bool


class UnreadableError(ValueError):
    """Not a request that can be framed."""


def request_of(inbox: bytearray) -> tuple[bytes, bytes] | None:
    """Take one request, (head, body), out of what was received; None until it is complete. Raises UnreadableError."""
    head_end = inbox.find(b"\r\n\r\n")
    if head_end < 0:
        if len(inbox) > MAX_HEAD_BYTES:
            raise UnreadableError("expected a shorter head")
        return None
    head = bytes(inbox[: head_end + 2])
    found = _LENGTH.search(head)
    length = int(found[1]) if found else 0
    if length > MAX_BODY_BYTES or _CHUNKED.search(head):
        raise UnreadableError("expected a content-length of at most 64 MiB")
    end = head_end + 4 + length
    if len(inbox) < end:
        return None
    body = bytes(inbox[head_end + 4 : end])
    del inbox[:end]
    return head, body


def asked_of(head: bytes, body: bytes) -> Asked:
    """Read what a completion request asks for: a scan for the few fields that matter, not a parse."""
    label, tokens, ids = _LABEL.search(head), _TOKENS.search(body), _IDS.search(body)
    return Asked(
        label=label[1].decode("latin-1") if label else "",
        tokens=max(1, int(tokens[1])) if tokens else _DEFAULT_TOKENS,
        # Text is not tokenized: about 5 bytes a token, the rest of the body included.
        prompt_tokens=ids[1].count(b",") + 1 if ids else max(1, len(body) // 5),
        streamed=_STREAMED.search(body) is not None,
        usage=_USAGE.search(body) is not None,
        chat=b"/chat/" in head.split(b" ", 2)[1],
    )


class Words:
    """The bytes of replies to one of the two APIs; only counts are put in later."""

    def __init__(self, model: str, *, chat: bool) -> None:
        kind = "chat.completion" if chat else "text_completion"
        head = {"id": "null", "object": kind + ".chunk" if chat else kind, "created": 1_700_000_000, "model": model}
        text: dict[str, object] = {"delta": {"content": " tok"}} if chat else {"text": " tok"}
        whole: dict[str, object] = (
            {"message": {"role": "assistant", "content": " tok"}} if chat else {"text": " tok"}
        )  # a whole reply counts its tokens and does not spell them out
        choice = {"index": 0, **text, "logprobs": None}
        usage = b'"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d}}'

        def rest_of(values: dict[str, object]) -> bytes:
            return orjson.dumps(values).replace(b"%", b"%%")[:-1] + b"," + usage

        self.event = _chunk(_event(orjson.dumps({**head, "choices": [{**choice, "finish_reason": None}]})))
        self.last = _chunk(_event(orjson.dumps({**head, "choices": [{**choice, "finish_reason": "length"}]})))
        self._usage = rest_of({**head, "choices": []})
        self._whole = rest_of({**head, "object": kind, "choices": [{"index": 0, **whole, "finish_reason": "length"}]})

    def end(self, prompt_tokens: int, tokens: int, *, usage: bool) -> bytes:
        """What follows the last token's event of a stream."""
        counts = (prompt_tokens, prompt_tokens + tokens, tokens)
        said = _chunk(_event(self._usage % counts)) if usage else b""
        return said + _chunk(_event(b"[DONE]")) + b"0\r\n\r\n"

    def whole(self, prompt_tokens: int, tokens: int) -> bytes:
        """The body of a reply that is not streamed."""
        return self._whole % (prompt_tokens, prompt_tokens + tokens, tokens)


def _event(data: bytes) -> bytes:
    return b"data: %b\n\n" % data


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def reply(status: str, body: bytes) -> bytes:
    """Frame a whole reply of JSON."""
    return b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        status.encode(),
        len(body),
        body,
    )
