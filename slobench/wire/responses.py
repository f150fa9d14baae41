"""What one event or reply of the Responses API says; bytes in, values out.

Events are told apart by the `type` in their data [OpenAI API reference, "Responses: streaming events"]. vLLM ends
every stream with `response.completed`, also one that the limit on tokens cut: there the status says so.
"""

from __future__ import annotations

from typing import Any

from slobench.names import NULL
from slobench.wire.openai import (
    CONTENT,
    NO_CHANNEL,
    REASONING,
    REFUSAL,
    TOOL,
    Event,
    Usage,
    clip,
    count,
    error_of,
    json_object,
)

_DELTAS = {
    "response.output_text.delta": CONTENT,
    "response.refusal.delta": REFUSAL,
    "response.reasoning_text.delta": REASONING,
    "response.reasoning_summary_text.delta": REASONING,
    "response.reasoning_summary.delta": REASONING,
    "response.reasoning.delta": REASONING,
    "response.function_call_arguments.delta": TOOL,
    "response.custom_tool_call_input.delta": TOOL,
    "response.mcp_call_arguments.delta": TOOL,
    "response.code_interpreter_call_code.delta": TOOL,
    "response.shell_call_command.delta": TOOL,
}
_ENDS = {"response.completed": "completed", "response.incomplete": "incomplete", "response.failed": "failed"}
_ENDS |= {"response.cancelled": "cancelled"}
_FINISH = {"completed": "stop", "cancelled": "abort"}
_REASONS = {"max_output_tokens": "length"}
_PARTS = {"output_text": ("text", CONTENT), "refusal": ("refusal", REFUSAL), "reasoning_text": ("text", REASONING)}
_PARTS |= {"summary_text": ("text", REASONING)}
_CALLS = ("name", "arguments", "input", "code")


def parse_event(data: bytes) -> Event:
    """Read one event of a stream. Raises ValueError where it is no JSON object."""
    value = json_object(data)
    kind = value.get("type")
    kind = kind if isinstance(kind, str) else ""
    channel = _DELTAS.get(kind)
    if channel is not None:
        logprobs = value.get("logprobs")
        tokens = len(logprobs) if isinstance(logprobs, list) and logprobs else NULL
        return Event(channel if value.get("delta") else NO_CHANNEL, tokens)
    if kind == "response.output_item.added":
        return Event(TOOL if _calls(value.get("item")) else NO_CHANNEL)
    if kind in _ENDS:
        response = value.get("response")
        return _ended(response if isinstance(response, dict) else {}, _ENDS[kind])
    if kind == "error":
        error = error_of(value) or value.get("message")
        return Event(error=clip(error) if isinstance(error, str) and error else "an error event", choices=False)
    return Event(error=error_of(value), choices=False)


def parse_reply(body: bytes) -> Event:
    """Read a reply that was not streamed. Raises ValueError where it is no JSON object."""
    value = json_object(body)
    status = value.get("status")
    if status not in _ENDS.values():  # still in progress, or no reply of this API
        return Event(error=error_of(value), choices=False)
    output = value.get("output")
    channels = [_channel(item) for item in output if isinstance(item, dict)] if isinstance(output, list) else []
    shown = [channel for channel in channels if channel != NO_CHANNEL]
    seen = [channel for channel in shown if channel != REASONING]
    ended = _ended(value, str(status))
    return ended._replace(channel=(seen or shown or [NO_CHANNEL])[0], choices=True)


def _ended(response: dict[str, Any], status: str) -> Event:
    """What the whole response says at its end: its own status goes before that of the event it came with."""
    own = response.get("status")
    status = own if isinstance(own, str) and own in _ENDS.values() else status
    error = error_of(response)
    if status == "failed" and not error:
        error = "the response failed"
    return Event(usage=_usage(response.get("usage")), finish_reason=_finish(response, status), error=error,
                 choices=False, ends=True)  # fmt: skip


def _finish(response: dict[str, Any], status: str) -> str:
    """The finish reason by the names of the other APIs."""
    if status != "incomplete":
        return _FINISH.get(status, "")
    details = response.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    return _REASONS.get(reason, reason) if isinstance(reason, str) and reason else "length"


def _channel(item: dict[str, Any]) -> int:
    """The channel of an output item; of a message, that of the first part that says something."""
    if _calls(item):
        return TOOL
    listed = [item.get("content"), item.get("summary")]
    for part in (part for parts in listed if isinstance(parts, list) for part in parts if isinstance(part, dict)):
        key, channel = _PARTS.get(str(part.get("type")), ("", NO_CHANNEL))
        if part.get(key):
            return channel
    return NO_CHANNEL


def _calls(item: object) -> bool:
    """Whether an item is a call of a tool of which anything was made: its name, or what it is called with."""
    if not isinstance(item, dict) or not str(item.get("type")).endswith("_call"):
        return False
    return any(item.get(key) for key in _CALLS)


def _usage(value: object) -> Usage | None:
    if not isinstance(value, dict):
        return None
    return Usage(
        count(value, "input_tokens"),
        count(value, "output_tokens"),
        count(value.get("output_tokens_details"), "reasoning_tokens"),
        count(value.get("input_tokens_details"), "cached_tokens"),
    )
