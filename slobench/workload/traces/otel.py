"""OpenTelemetry spans of calls to models (GenAI semantic conventions), as OTLP JSON or as plain lists of spans.

OTLP: {resourceSpans: [{scopeSpans: [{spans: [{traceId, startTimeUnixNano, attributes: [{key, value}]}]}]}]}, one
document or one a line, as the collector's file exporter writes. Plain: {spans: [{trace_id, start_time, end_time,
attributes: {}}]} or one span a line [opentelemetry.io/docs/specs/semconv/gen-ai; inference-perf's otel_trace_replay].
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from slobench.config.problems import clip
from slobench.names import NULL
from slobench.records.arrow import text_array
from slobench.workload.traces.blocks import text_blocks
from slobench.workload.traces.files import fault, first_line, whole
from slobench.workload.traces.lines import objects
from slobench.workload.traces.schema import Trace, list_array, make_trace
from slobench.workload.traces.sessions import numbered
from slobench.workload.traces.table import iso_ns
from slobench.workload.variates import IntArray

_CALLS = {"chat", "text_completion", "generate_content", "completion", "responses"}
_INPUT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt")
_OUTPUT = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion")
_ASKED = ("gen_ai.input.messages", "gen_ai.prompt")
_SAID = ("gen_ai.output.text", "gen_ai.output.messages", "gen_ai.completion")
_MODEL = ("gen_ai.request.model", "gen_ai.response.model")
_HOLDERS = ("resourceSpans", "resource_spans", "scopeSpans", "scope_spans", "instrumentationLibrarySpans", "spans")
_START = ("startTimeUnixNano", "start_time_unix_nano", "start_time", "startTime")
_END = ("endTimeUnixNano", "end_time_unix_nano", "end_time", "endTime")
_TRACE = ("traceId", "trace_id")
_ID = ("spanId", "span_id", "name")
_ERRORS = {2, "2", "ERROR", "STATUS_CODE_ERROR"}
_FURTHEST = 62
BLOCK_TOKENS = 16


@dataclass(frozen=True, slots=True)
class _Call:
    """One span that is a call to a model."""

    session: str | None
    start_ns: int
    end_ns: int
    failed: bool
    model: str
    input_tokens: int
    output_tokens: int
    estimated: bool
    blocks: tuple[int, ...]


def read(path: Path, *, chars_per_token: float = 4.0) -> Trace:
    """Read the calls to models among the spans of a file.

    A session is a conversation (`gen_ai.conversation.id`), else a trace. A call waits for the last of its session's
    that had ended when it began, so fan-out and joins come back. Where messages are there, common beginnings of prompts
    are seen in pieces of 16 tokens, and lengths that are not told are estimated.
    """
    calls = [call for span, line in _spans(path) if (call := _call(span, path, line, chars_per_token)) is not None]
    calls.sort(key=lambda call: (call.start_ns, call.end_ns))
    if not calls:
        raise fault(path, None, "no span is a call to a model", "spans with gen_ai.request.model or gen_ai.usage.*")
    start = np.array([call.start_ns for call in calls], dtype=np.int64)
    end = np.array([call.end_ns for call in calls], dtype=np.int64)
    session = numbered([call.session for call in calls])
    after, delay = _waits(session, start, end)
    columns = {
        "arrival_ns": start,
        "input_tokens": np.array([call.input_tokens for call in calls], dtype=np.int64),
        "output_tokens": np.array([call.output_tokens for call in calls], dtype=np.int64),
        "class": text_array([call.model for call in calls]),
        "session": session,
        "after": _lists(after, empty=True),
        "delay_ns": delay,
        "elapsed_ns": end - start,
        "failed": np.array([call.failed for call in calls], dtype=np.int64),
        "blocks": _lists([call.blocks for call in calls], empty=False),
    }
    guessed = sum(call.estimated for call in calls)
    notes = [f"lengths of {guessed} calls are estimated: a token for each {chars_per_token:g} characters"]
    size = BLOCK_TOKENS if any(call.blocks for call in calls) else None
    return make_trace(columns, format="otel", block_tokens=size, notes=notes if guessed else ())


def _lists(values: Sequence[Sequence[int]], *, empty: bool) -> pa.Array:
    """A column of lists; empty ones are nothing unless they are told from it."""
    offsets = np.cumsum([0, *map(len, values)])
    there = None if empty else np.diff(offsets) > 0
    return list_array(offsets, np.array([*chain.from_iterable(values)], dtype=np.int64), there)


def _spans(path: Path) -> Iterator[tuple[Mapping[str, Any], int | None]]:
    """Every span of a file, and its line where the file is JSON lines."""
    try:
        orjson.loads(first_line(path))
    except orjson.JSONDecodeError:
        try:
            documents: Iterator[tuple[Any, int | None]] = iter([(orjson.loads(whole(path)), None)])
        except orjson.JSONDecodeError as error:
            raise fault(path, error.lineno, f"not JSON: {error.msg}", "a whole JSON document") from None
    else:
        documents = objects(path)
    for document, line in documents:
        for span in _within(document):
            if not isinstance(span, dict):
                raise fault(path, line, f"{clip(span)} is no span", "an object with attributes")
            yield span, line


def _within(value: Any) -> Iterator[Any]:
    """The spans in a document, in whichever of the known forms."""
    if isinstance(value, list):
        for each in value:
            yield from _within(each)
        return
    inner = [value[name] for name in _HOLDERS if name in value] if isinstance(value, dict) else []
    if not inner:
        yield value
    for each in inner:
        yield from _within(each if isinstance(each, list) else [each])


def _call(span: Mapping[str, Any], path: Path, line: int | None, chars_per_token: float) -> _Call | None:
    """Read one span; None where it is no call to a model. Raises ConfigError for times or counts that are none."""
    attributes = _attributes(span.get("attributes") or {})
    usage = [_first(attributes, names) for names in (_INPUT, _OUTPUT)]
    model = _first(attributes, _MODEL)
    if all(each is None for each in (*usage, model)) or attributes.get("gen_ai.operation.name", "chat") not in _CALLS:
        return None
    try:
        start, end = (_time_ns(_first(span, names)) for names in (_START, _END))
        tokens = [NULL if each is None else int(each) for each in usage]
    except (TypeError, ValueError) as error:
        raise fault(path, line, f"span {clip(_first(span, _ID))}: {error}", "times and token counts") from None
    if end < start or any(each < 0 and each != NULL for each in tokens):
        raise fault(path, line, f"span {clip(_first(span, _ID))} ends before it starts", "times in order")
    texts = [None if (text := _first(attributes, names)) is None else said(text) for names in (_ASKED, _SAID)]
    estimated = [each for each in (0, 1) if tokens[each] == NULL and texts[each] is not None]
    for each in estimated:
        tokens[each] = math.ceil(len(texts[each] or "") / chars_per_token)
    status = span.get("status")
    code = status.get("code", status.get("status_code")) if isinstance(status, dict) else status
    session = attributes.get("gen_ai.conversation.id", _first(span, _TRACE))
    return _Call(
        session=None if session is None else str(session),
        start_ns=start,
        end_ns=end,
        failed=code in _ERRORS,
        model="" if model is None else str(model),
        input_tokens=tokens[0],
        output_tokens=tokens[1],
        estimated=bool(estimated),
        blocks=tuple(text_blocks(texts[0] or "", round(BLOCK_TOKENS * chars_per_token))),
    )


def _attributes(given: Any) -> Mapping[str, Any]:
    """Attributes as a mapping, also where they are OTLP's list of keys and typed values."""
    if isinstance(given, dict):
        return given
    if not isinstance(given, list):
        return {}
    pairs = [(str(each.get("key")), each.get("value")) for each in given if isinstance(each, dict)]
    return {key: next(iter(value.values()), None) if isinstance(value, dict) else value for key, value in pairs}


def said(messages: Any) -> str:
    """What the messages of a call say, one after the other: JSON text or values with `content` or `text` in them."""
    if isinstance(messages, str):
        try:
            found = orjson.loads(messages)
        except orjson.JSONDecodeError:
            return messages
        return said(found) if isinstance(found, list | dict) else messages
    if isinstance(messages, list):
        return "".join(each if isinstance(each, str) else said(each) for each in messages)
    if isinstance(messages, dict):
        parts = [messages[name] for name in ("content", "text", "parts", "arguments", "result") if name in messages]
        return "".join(each if isinstance(each, str) else said(each) for each in parts)
    return ""


def _time_ns(value: Any) -> int:
    """ns since 1970 of OTLP's integer (as text too) or of an ISO date and time."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{clip(value)} is no time")
    return int(value) if value.isdecimal() else iso_ns(value)


def _waits(session: IntArray, start: IntArray, end: IntArray) -> tuple[list[list[int]], IntArray]:
    """For each call, in order of start, the turns it waits for and what passes between the last of them and it.

    Those that had ended and after which no other had begun and ended: the ends of what came before.
    """
    after: list[list[int]] = []
    delay = np.full(len(start), NULL)
    done: dict[int, list[tuple[int, int]]] = {}
    for row, (number, begun, ended) in enumerate(zip(session.tolist(), start.tolist(), end.tolist(), strict=True)):
        if number == NULL:
            after.append([])
            continue
        before = done.setdefault(number, [])
        recent = [(turn, *before[turn]) for turn in range(max(0, len(before) - _FURTHEST), len(before))]
        over = [(turn, since, until) for turn, since, until in recent if until <= begun]
        latest = max((since for _, since, _ in over), default=0)
        last = [(turn, until) for turn, _, until in over if until >= latest]
        after.append([turn for turn, _ in last])
        if last:
            delay[row] = begun - max(until for _, until in last)
        before.append((begun, ended))
    return after, delay


def _first(values: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((values[name] for name in names if values.get(name) is not None), None)
