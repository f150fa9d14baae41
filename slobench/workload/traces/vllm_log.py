"""The log of a vLLM server with --enable-log-requests: who asked when and, at level DEBUG, for what.

Lines "Received request ID: params: SamplingParams(…, max_tokens=N, …)", with --log-level DEBUG also "Request ID
details: …, prompt_token_ids: […]", and with --enable-log-outputs "Generated response ID …: output_token_ids: […]".
Times are whole seconds without a year [vLLM 0.32, entrypoints/serve/utils/request_logger.py; earlier versions have the
token ids in the first line].
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from slobench.names import NULL
from slobench.records.arrow import text_array
from slobench.workload.traces.blocks import pieces
from slobench.workload.traces.files import blocks_of_lines, fault
from slobench.workload.traces.schema import Trace, list_array, make_trace
from slobench.workload.variates import IntArray

MARK = re.compile(rb"\[[^\]]*:\d+\] (?:Received request|Request|Generated response) (\S+?):? ")
_STAMP = re.compile(rb"(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d) \[")
_TOKENS = re.compile(rb"token_ids: (\[[\d, ]*\])")
_MAX_TOKENS = re.compile(rb"\bmax_tokens=(\d+)")
_LORA = re.compile(rb"lora_name='([^']*)'")
_BLOCK = 16
_SECOND = 10**9
_YEAR, _HALF_A_YEAR_S = 2024, 180 * 86_400  # a leap year: the log names none


@dataclass(slots=True)
class _Request:
    """What the log says of one request; times in s."""

    asked_s: int | None = None
    ended_s: int | None = None
    input_tokens: int = NULL
    max_tokens: int = NULL
    output_tokens: int = NULL
    label: str = ""
    blocks: tuple[int, ...] = ()


def read(path: Path) -> Trace:
    """Read a vLLM log. Without output in it, the longest reply that was asked for stands for the reply's length.

    Raises ConfigError where no request is in it.
    """
    found: dict[bytes, _Request] = {}
    for name, kind, line, at_s in _lines(path):
        _note(found.setdefault(name, _Request()), kind, line, at_s)
    requests = [request for request in found.values() if request.asked_s is not None]
    if not requests:
        raise fault(path, None, "no request in this log", "the log of a vLLM server with --enable-log-requests")
    output, most = (_column(requests, name) for name in ("output_tokens", "max_tokens"))
    bounded = (output == NULL) & (most != NULL)
    asked = np.array([request.asked_s or 0 for request in requests], dtype=np.int64)
    ended = np.array([NULL if request.ended_s is None else request.ended_s for request in requests], dtype=np.int64)
    offsets = np.cumsum([0, *(len(request.blocks) for request in requests)])
    names = np.array([name for request in requests for name in request.blocks], dtype=np.int64)
    columns = {
        "arrival_ns": asked * _SECOND,
        "input_tokens": _column(requests, "input_tokens"),
        "output_tokens": np.where(bounded, most, output),
        "elapsed_ns": np.where(ended == NULL, NULL, (ended - asked) * _SECOND),
        "class": text_array([request.label for request in requests]),
        "blocks": list_array(offsets, names, np.diff(offsets) > 0),
    }
    notes = []
    if (columns["input_tokens"] == NULL).any():
        notes.append("prompts are not in this log: run the server with --log-level DEBUG")
    if bounded.any():
        notes.append(
            f"{bounded.sum()} replies are not in this log (--enable-log-outputs): as long as max_tokens allowed"
        )
    size = _BLOCK if len(names) else None
    return make_trace(columns, format="vllm-log", block_tokens=size, bin_ns=_SECOND, notes=notes)


def _lines(path: Path) -> Iterator[tuple[bytes, bytes, bytes, int]]:
    """Lines about requests: request, kind (first word), the line, and its time in s; years are counted up."""
    last_s, year = None, _YEAR
    for lines, _ in blocks_of_lines(path):
        for line in lines:
            mark, stamp = MARK.search(line), _STAMP.search(line)
            if mark is None or stamp is None:
                continue
            at_s = _seconds(year, [int(part) for part in stamp.groups()])
            if at_s is None:
                continue
            if last_s is not None and at_s < last_s - _HALF_A_YEAR_S:
                year += 1
                at_s = _seconds(year, [int(part) for part in stamp.groups()]) or at_s
            last_s = at_s
            yield mark[1], mark[0].partition(b"] ")[2].split()[0], line, at_s


def _seconds(year: int, stamp: list[int]) -> int | None:
    try:
        return int(datetime(year, *stamp, tzinfo=UTC).timestamp())  # type: ignore[misc,arg-type]  # five parts
    except ValueError:
        return None


def _note(request: _Request, kind: bytes, line: bytes, at_s: int) -> None:
    """Take over what a line says."""
    given = _TOKENS.findall(line)
    tokens = None if not given else np.array(given[-1].strip(b"[]").replace(b",", b" ").split(), dtype=np.int64)
    if kind == b"Generated":
        request.ended_s = at_s
        if tokens is not None:
            # Deltas of a stream add up; a whole reply comes once.
            request.output_tokens = max(request.output_tokens, 0) + len(tokens)
        return
    if tokens is not None:
        request.input_tokens = len(tokens)
        chunks = (tokens[at : at + _BLOCK].tobytes() for at in range(0, len(tokens) - _BLOCK + 1, _BLOCK))
        request.blocks = tuple(pieces(chunks))
    if kind == b"Received":
        request.asked_s = at_s
        most, lora = _MAX_TOKENS.search(line), _LORA.search(line)
        request.max_tokens = NULL if most is None else int(most[1])
        request.label = "" if lora is None else lora[1].decode("utf-8", "replace")


def _column(requests: list[_Request], name: str) -> IntArray:
    return np.array([getattr(request, name) for request in requests], dtype=np.int64)
