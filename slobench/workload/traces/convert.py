"""A trace changed and written in another form."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson

from slobench.config.problems import clip, unknown
from slobench.errors import RecordsError, UsageError
from slobench.records.arrow import text_array, text_values
from slobench.workload.traces.ops import labels, looped, scaled_tokens, sped_up, spread_in_bins, thinned
from slobench.workload.traces.own import write_jsonl
from slobench.workload.traces.prompts import cumulative
from slobench.workload.traces.schema import Trace
from slobench.workload.variates import child

FORMS = ("jsonl", "csv", "mooncake")


@dataclass(frozen=True, slots=True)
class Changes:
    """What is done to a trace, in this order. rename: LABEL=NEW."""

    keep: float = 1.0
    speed: float = 1.0
    spread: bool = False
    scale_tokens: float = 1.0
    block_tokens: int | None = None
    loop: int = 1
    rename: tuple[str, ...] = ()


def changed(trace: Trace, changes: Changes, seed: int) -> Trace:
    """Rename, thin, spread, speed up, scale, loop. Raises UsageError for values that make no sense."""
    if not 0 < changes.keep <= 1:
        raise UsageError(f"--keep {changes.keep:g}\n  expected  a share above 0, at most 1")
    if not (changes.speed > 0 and changes.scale_tokens > 0):
        raise UsageError("a speed or scale that is not above 0\n  expected  e.g. --speed 2, --scale-tokens 0.5")
    trace = thinned(_renamed(trace, changes.rename), changes.keep, child(seed, "keep"))
    if not len(trace):
        raise UsageError(f"no request is left of --keep {changes.keep:g}\n  expected  a larger share")
    if changes.spread:
        trace = spread_in_bins(trace, child(seed, "spread"))
    trace = sped_up(trace, changes.speed)
    return looped(scaled_tokens(trace, changes.scale_tokens, changes.block_tokens), changes.loop)


def write(trace: Trace, form: str, path: Path) -> list[str]:
    """Write a trace in one of FORMS; return what that form has no place for. Raises RecordsError of the disk's."""
    if form not in FORMS:
        raise UsageError(unknown("no form named", form, list(FORMS)))
    if form == "jsonl":
        write_jsonl(trace, path)
        return []
    whole = cumulative(trace)
    kept = whole.there("input_tokens") & whole.there("output_tokens") & (whole.numbers("failed") == 0)
    gone = [] if kept.all() else [f"{int((~kept).sum())} requests without both lengths, or failed, are left out"]
    lost = [name for name in ("class", "session", "images", "text") if trace.has(name)]
    if form == "csv" and trace.has("blocks"):
        lost.append("blocks")
    gone += [f"not in this form: {', '.join(lost)}"] if lost else []
    text = _csv(whole.take(kept)) if form == "csv" else _mooncake(whole.take(kept))
    try:
        path.write_bytes(text)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise RecordsError(f"cannot write {path}: {reason}\n  expected  a folder that exists, with room") from None
    return gone


def _renamed(trace: Trace, rename: Sequence[str]) -> Trace:
    if not rename:
        return trace
    names = text_values(trace.table["class"].combine_chunks()).astype(np.str_).tolist()
    known = labels(trace)
    new = {}
    for text in rename:
        label, equals, name = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--rename: cannot read {clip(text)}\n  expected  LABEL=NEW")
        if label not in known:
            raise UsageError(unknown("--rename: no label", label, [*known]))
        new[label] = name
    column = text_array([new.get(name, name) for name in names])
    return trace.with_column("class", column)


def _csv(trace: Trace) -> bytes:
    """Vidur's columns: seconds, tokens in, tokens out."""
    rows = zip(*(trace.numbers(name).tolist() for name in ("arrival_ns", "input_tokens", "output_tokens")), strict=True)
    lines = [f"{at // 10**9}.{at % 10**9:09d},{given},{made}" for at, given, made in rows]
    return ("arrived_at,num_prefill_tokens,num_decode_tokens\n" + "\n".join(lines) + "\n").encode()


def _mooncake(trace: Trace) -> bytes:
    """Mooncake's keys; the times are whole ms, as there."""
    if not trace.has("blocks"):
        raise UsageError("a trace without prefix blocks\n  expected  one with blocks, or --to jsonl")
    offsets, ids = trace.lists("blocks")
    _, short = np.unique(ids, return_inverse=True)  # small numbers in their place
    flat = short.tolist()
    rows = zip(
        *(trace.numbers(name).tolist() for name in ("arrival_ns", "input_tokens", "output_tokens")),
        pairwise(offsets.tolist()),
        strict=True,
    )
    lines = [
        orjson.dumps(
            {"timestamp": at // 10**6, "input_length": given, "output_length": made, "hash_ids": flat[low:high]}
        )
        for at, given, made, (low, high) in rows
    ]
    return b"\n".join(lines) + b"\n"
