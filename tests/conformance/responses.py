"""What servers of the Responses API send: events by name, worded as OpenAI and vLLM word them."""

from __future__ import annotations

import json
from typing import Any


def event(kind: str, **fields: Any) -> bytes:
    """One event: its name, and its data with the same name as `type`."""
    data = json.dumps({"type": kind, "sequence_number": 4, **fields}, separators=(",", ":"), ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()


def delta(text: object, kind: str = "output_text", **more: Any) -> bytes:
    """A piece of text, of an argument, of reasoning."""
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    return event(f"response.{kind}.delta", **place, delta=text, **more)


def response(status: str = "completed", **more: Any) -> dict[str, Any]:
    """The object that a whole reply is, and that the first and the last event of a stream hold."""
    return {"id": "resp_1", "object": "response", "created_at": 1795450309, "model": "tiny", "status": status,
            "error": None, "incomplete_details": None, "output": [], "usage": None, **more}  # fmt: skip


def usage(input_tokens: int, output_tokens: int, *, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    """Word a usage object."""
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": input_tokens + output_tokens,
    }


def message(text: str) -> dict[str, Any]:
    """An output item of text."""
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def opened() -> list[bytes]:
    """The events before the first token."""
    return [
        event("response.created", response=response("in_progress")),
        event("response.in_progress", response=response("in_progress")),
        event("response.output_item.added", output_index=0, item={"type": "message", "id": "msg_1", "content": []}),
        event("response.content_part.added", item_id="msg_1", part={"type": "output_text", "text": ""}),
    ]


def closed(status: str = "completed", tokens: int = 2, **more: Any) -> list[bytes]:
    """The events after the last token; the end as OpenAI words it."""
    return [
        event("response.output_text.done", item_id="msg_1", text=" a b"),
        event("response.content_part.done", item_id="msg_1", part={"type": "output_text", "text": " a b"}),
        event("response.output_item.done", item=message(" a b")),
        ended(status, tokens, **more),
    ]


def ended(status: str = "completed", tokens: int = 2, **more: Any) -> bytes:
    """The terminal event."""
    return event(f"response.{status}", response=response(status, usage=usage(7, tokens), **more))


def cut_by_length() -> dict[str, Any]:
    """Why a reply is incomplete."""
    return {"incomplete_details": {"reason": "max_output_tokens"}}
