"""Traces of all kinds, for property tests."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from slobench.names import NULL
from slobench.workload.traces.schema import Trace, list_array, make_trace

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@st.composite
def traces(draw: st.DrawFn, *, sessions: bool = True, blocks: bool = True, least: int = 1) -> Trace:
    """Sorted or not, with ties, with and without each optional column."""
    n = draw(st.integers(least, 25))
    columns: dict[str, object] = {
        "arrival_ns": np.array(draw(st.lists(st.integers(0, 10**12), min_size=n, max_size=n)))
    }
    for name in ("input_tokens", "output_tokens"):
        columns[name] = np.array(draw(st.lists(st.integers(0, 5000), min_size=n, max_size=n)), dtype=np.int64)
    if draw(st.booleans()):
        columns["class"] = pa.array(draw(st.lists(st.none() | TEXT, min_size=n, max_size=n)), pa.string())
    if draw(st.booleans()):
        columns["failed"] = np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)), dtype=np.int64)
    if draw(st.booleans()):
        columns["elapsed_ns"] = np.array(draw(st.lists(st.just(NULL) | st.integers(0, 10**11), min_size=n, max_size=n)))
    if sessions and draw(st.booleans()):
        columns["session"] = np.array(draw(st.lists(st.just(NULL) | st.integers(0, 5), min_size=n, max_size=n)))
        if draw(st.booleans()):
            columns["delay_ns"] = np.array(
                draw(st.lists(st.just(NULL) | st.integers(0, 10**10), min_size=n, max_size=n))
            )
    size = None
    if blocks and draw(st.booleans()):
        size = draw(st.sampled_from([1, 16, 512]))
        lists = [_chain(draw, tokens, size) for tokens in columns["input_tokens"].tolist()]  # type: ignore[attr-defined]
        offsets = np.cumsum([0, *map(len, lists)])
        ids = np.array([each for one in lists for each in one], dtype=np.int64)
        columns["blocks"] = list_array(offsets, ids, np.diff(offsets) > 0)
    return make_trace(
        columns,  # type: ignore[arg-type]
        format=draw(st.sampled_from(["azure", "mooncake"])),
        block_tokens=size,
        bin_ns=draw(st.sampled_from([0, 10**9])),
    )


def _chain(draw: st.DrawFn, tokens: int, size: int) -> list[int]:
    """Blocks named by a tree with two branches at each of its first levels, as hashes of prefixes are."""
    names, name = [], 1
    for level in range(min(-(-tokens // size), 12)):
        name = 2 * name + (draw(st.integers(0, 1)) if level < 4 else 0)
        names.append(name)
    return names
