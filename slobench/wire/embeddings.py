"""What a reply of the Embeddings API says; bytes in, values out."""

from __future__ import annotations

from slobench.wire.openai import CONTENT, NO_CHANNEL, Event, Usage, count, error_of, json_object


def parse_event(data: bytes) -> Event:
    """Refuse an event of a stream: embeddings come whole. Raises ValueError."""
    raise ValueError(f"a stream where one embedding was asked for, its first event of {len(data)} bytes")


def parse_reply(body: bytes) -> Event:
    """Read a reply: it has content where it holds a vector. Raises ValueError where it is no JSON object."""
    value = json_object(body)
    error = error_of(value)
    if error:
        return Event(error=error, choices=False)
    listed, usage = value.get("data"), value.get("usage")
    items = listed if isinstance(listed, list) else []
    found = any(isinstance(item, dict) and item.get("embedding") for item in items)
    counted = Usage(count(usage, "prompt_tokens")) if isinstance(usage, dict) else None
    return Event(CONTENT if found else NO_CHANNEL, usage=counted, choices=bool(items))
