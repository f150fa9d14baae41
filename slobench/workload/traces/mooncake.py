"""Mooncake traces, and those of vLLM's `timed_trace`, which are alike: JSON lines with the hashes of prompt blocks.

Keys timestamp, input_length, output_length, hash_ids. Mooncake: ms, blocks of 512 tokens, ids of whole prefixes
[github.com/kvcache-ai/Mooncake; Qin et al. 2025, FAST]. timed_trace: s unless told otherwise, blocks of 16 tokens
unless told otherwise, and the names of the keys can be chosen [vLLM 0.32, benchmarks/datasets].
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from slobench.names import NULL
from slobench.workload.traces.files import fault
from slobench.workload.traces.lines import Key, Lines, read_lines
from slobench.workload.traces.schema import Trace, make_trace
from slobench.workload.variates import FloatArray, IntArray

KEYS = ("timestamp", "input_length", "output_length")
BLOCKS = "hash_ids"
_MS = 10**6
_SIZES = (512, 16, 32, 64, 128, 256, 1024, 8)  # tried in this order where nothing says which
_ENOUGH = 0.9


def read(path: Path, *, block_tokens: int | None = None) -> Trace:
    """Read a Mooncake trace; without `block_tokens` it is the size that the lengths agree with, 512 first."""
    sizes = _SIZES if block_tokens is None else (block_tokens,)
    return _read(path, (*KEYS, BLOCKS), unit_ns=_MS, sizes=sizes, format="mooncake")


def read_timed(
    path: Path, *, names: Sequence[str] = (*KEYS, BLOCKS), unit_s: float = 1.0, block_tokens: int | None = None
) -> Trace:
    """Read a trace of vLLM's timed_trace: the names of its four keys, the unit of its times, tokens of a block."""
    sizes = (16, *(size for size in _SIZES if size != 16)) if block_tokens is None else (block_tokens,)
    return _read(path, tuple(names), unit_ns=round(unit_s * 10**9), sizes=sizes, format="timed-trace")


def _read(
    path: Path,
    names: tuple[str, ...],
    *,
    unit_ns: int,
    sizes: Sequence[int],
    format: str,  # noqa: A002 (the word of the files)
) -> Trace:
    if len(names) != len(KEYS) + 1:
        raise fault(path, None, f"{len(names)} names of keys", "four: timestamp, input length, output length, hash ids")
    at, length, output, blocks = names
    lines = read_lines(
        path, [Key(at, "number", True), Key(length, "whole", True), Key(output, "whole", True), Key(blocks, "wholes")]
    )
    arrival = in_ns(lines.reals(at), unit_ns)
    inputs = lines.wholes(length)
    columns = {"arrival_ns": arrival, "input_tokens": inputs, "output_tokens": lines.wholes(output)}
    size = None
    if len(lines.lists(blocks)[1]):
        size = block_size(lines, blocks, inputs, sizes)
        columns["blocks"] = lines.list_column(blocks)
    bin_ns = bin_of(arrival, unit_ns if (arrival % unit_ns == 0).all() else 0)
    return make_trace(columns, format=format, block_tokens=size, bin_ns=bin_ns, notes=unused(lines))


def in_ns(times: FloatArray, unit_ns: int) -> IntArray:
    """Turn times in a unit into ns after the first whole unit before all of them, exact where they are whole."""
    origin = float(np.floor(times.min()))
    after: IntArray = np.rint((times - origin) * unit_ns).astype(np.int64)
    return after


def unused(lines: Lines) -> list[str]:
    """Word which keys of the file were passed over."""
    return [f"not used: {', '.join(lines.unused)}"] if lines.unused else []


def block_size(lines: Lines, name: str, input_tokens: IntArray, sizes: Sequence[int]) -> int:
    """Return the first of `sizes` with which the rows have one block for each so many tokens begun.

    Nine of ten rows must; with only one size to choose from, none may have more blocks than that.
    """
    counts = np.diff(lines.lists(name)[0])
    with_blocks = (counts > 0) & (input_tokens != NULL)
    counts, tokens = counts[with_blocks], input_tokens[with_blocks]
    if len(sizes) == 1:
        too_many = np.zeros(len(lines), dtype=np.bool_)
        too_many[with_blocks] = counts > -(-tokens // sizes[0])
        lines.refuse(too_many, f"more {name} than blocks of {sizes[0]} tokens in its prompt", "another block size")
        return sizes[0]
    for size in sizes:
        if (counts == -(-tokens // size)).mean() >= _ENOUGH:
            return size
    raise fault(
        lines.path, None, f"how many tokens each of {name} stands for cannot be told from the lengths", "a block size"
    )


def bin_of(arrival: IntArray, unit_ns: int) -> int:
    """Return the width of the bins that arrivals were rounded to, in ns; `unit_ns` where there are none.

    Bins are seen where at least 100 requests share far fewer times, all within 1 % of multiples of the usual gap.
    """
    times = np.unique(arrival)
    if len(arrival) < 100 or len(times) > len(arrival) / 2 or len(times) < 10:
        return unit_ns
    gaps = np.diff(times)
    usual = gaps[gaps < 1.5 * np.median(gaps)]
    step = max(unit_ns, 1)
    width = max(round(float(usual.mean()) / step), 1) * step
    off = np.abs(times - times[0] - np.rint((times - times[0]) / width).astype(np.int64) * width)
    return width if int(off.max()) <= width / 100 else unit_ns
