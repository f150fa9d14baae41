"""What OpenAI-compatible servers send: events and HTTP framing, worded as vLLM words them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from tests.conformance.server import Send

DONE = b"data: [DONE]\n\n"
COMMENT = b": ping\n\n"


def sse(value: object) -> bytes:
    """One event in the usual form."""
    return b"data: " + json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


@dataclass(frozen=True)
class Dialect:
    """Events of one API."""

    api: Literal["completions", "chat"]

    def event(self, payload: dict[str, Any], finish: str | None = None, usage: object = None, **extra: Any) -> bytes:
        chat = self.api == "chat"
        choice = {"index": 0, **({"delta": payload} if chat else {"text": payload.get("content", "")})}
        choice |= {"logprobs": None, "finish_reason": finish, **extra}
        return sse(self.envelope([choice]) | ({} if usage is None else {"usage": usage}))

    def envelope(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        chat = self.api == "chat"
        name = "chat.completion.chunk" if chat else "text_completion"
        return {"id": "cmpl-1", "object": name, "created": 1795450309, "model": "tiny", "choices": choices}

    def text(self, text: str, **more: Any) -> bytes:
        return self.event({"content": text}, **more)

    def role(self) -> bytes:
        """Say the role: the first event, without a token."""
        return self.event({"role": "assistant", "content": ""})

    def finish(self, reason: str = "length", **more: Any) -> bytes:
        return self.event({}, finish=reason, **more)

    def usage(self, prompt: int, completion: int, **details: Any) -> bytes:
        return sse(self.envelope([]) | {"usage": usage(prompt, completion, **details)})

    def reply(self, texts: list[str]) -> bytes:
        """Events of a usual whole reply: role, one token each, finish reason, usage, [DONE]."""
        events = [self.role(), *map(self.text, texts), self.finish(), self.usage(7, len(texts)), DONE]
        return b"".join(events)

    def whole(self, text: str, *, finish: str | None = "length", counts: object = None, **message: Any) -> bytes:
        """Body of a reply that is not streamed."""
        chat = self.api == "chat"
        said = {"message": {"role": "assistant", "content": text, **message}} if chat else {"text": text}
        choice = {"index": 0, **said, "finish_reason": finish}
        return json.dumps(self.envelope([choice]) | ({} if counts is None else {"usage": counts})).encode()


def usage(prompt: int, completion: int, **details: Any) -> dict[str, Any]:
    """Word a usage object."""
    return {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion, **details}


def head(status: str = "200 OK", content_type: str | None = "text/event-stream; charset=utf-8", *more: str) -> bytes:
    """Render a response head; chunked unless `more` says how the body ends."""
    framing = (
        ()
        if any(line.lower().startswith(("content-length", "connection")) for line in more)
        else ("transfer-encoding: chunked",)
    )
    kind = () if content_type is None else (f"content-type: {content_type}",)
    return "\r\n".join((f"HTTP/1.1 {status}", *kind, *framing, *more, "", "")).encode()


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


END = b"0\r\n\r\n"


def streamed(*pieces: bytes) -> list[Send]:
    """Send a head, each piece as a chunk of its own, and the end, in one piece."""
    return [Send(head() + b"".join(map(chunk, pieces)) + END)]


def whole(body: bytes, status: str = "200 OK", content_type: str = "application/json") -> list[Send]:
    """Send a reply of known length."""
    return [Send(head(status, content_type, f"content-length: {len(body)}") + body)]
