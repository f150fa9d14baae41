"""ServeGen client pools: requests sampled from what is published of each client, with its lengths.

Files chunk-N-trace.csv (config/pool.py) and chunk-N-dataset.json: {window start in s: {field: "{value: probability,
…}"}}, fields input_tokens and output_tokens, or text_tokens, image_tokens, … and their counts
[github.com/alibaba/ServeGen, data/; Xiang and others, arXiv:2505.09999].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from slobench.config.arrivals import Pool
from slobench.config.pool import read_pool, recorded_rate
from slobench.config.problems import clip
from slobench.names import NULL
from slobench.records.arrow import arrow_array, text_array
from slobench.units import format_duration_ns
from slobench.workload.bounds import Bounds
from slobench.workload.pools import pool_ns
from slobench.workload.traces.files import fault, whole
from slobench.workload.traces.schema import Trace, make_trace
from slobench.workload.variates import FloatArray, IntArray, child, uniforms

_INPUT = ("input_tokens", "text_tokens")
_OUTPUT = ("output_tokens",)
_IMAGES = ("image_count",)


@dataclass(frozen=True, eq=False)
class _Values:
    """A distribution: values and, for each, the probability of it or a smaller one."""

    values: FloatArray
    upto: FloatArray


def read(path: Path, *, seed: int = 0, from_ns: int = 0, to_ns: int | None = None) -> Trace:
    """Sample a pool from one time of its record to another (None: to its end); the label of a row is its client.

    Arrivals are those of the process `pool`. Each length is drawn by a uniform of its own from its client's window.
    Raises ConfigError for files that cannot be read, and for a pool without lengths.
    """
    rate = recorded_rate(str(path), from_ns / 1e9, None if to_ns is None else to_ns / 1e9)
    end_ns = round(max(client.end_s for client in read_pool(str(path))) * 1e9) if to_ns is None else to_ns
    bounds = {"from": format_duration_ns(from_ns), "to": None if to_ns is None else format_duration_ns(to_ns)}
    pool = Pool.model_validate({"folder": str(path), "rate": rate, **bounds})
    due_ns, client = pool_ns(pool, Bounds(None, end_ns - from_ns), child(seed, "pool", path.name))
    columns, without = _lengths(path, due_ns / 1e9 + from_ns / 1e9, client, seed)
    kept = columns["input_tokens"] != NULL
    notes = ["sampled from a client pool: another seed gives other requests"]
    if without:
        share = 1 - kept.mean()
        notes.append(f"{share:.1%} of the requests are left out: no lengths of clients {', '.join(map(str, without))}")
    if not kept.any():
        raise fault(path, None, "no client of the pool has lengths", "files chunk-N-dataset.json")
    if (columns["images"] == NULL).all():
        del columns["images"]
    labels = pa.DictionaryArray.from_arrays(
        arrow_array(client[kept], pa.int32()), text_array([f"chunk-{n}" for n in range(int(client.max()) + 1)])
    )
    given: dict[str, Any] = {name: column[kept] for name, column in columns.items()}
    trace = make_trace(given | {"arrival_ns": due_ns[kept], "class": labels}, format="servegen", notes=notes)
    return trace.with_numbers(arrival_ns=due_ns[kept])  # times from the start of the part, not from its first request


def _lengths(path: Path, at_s: FloatArray, client: IntArray, seed: int) -> tuple[dict[str, IntArray], list[int]]:
    """Lengths and images of each row, NULL where none are known, and the clients without."""
    fields = {"input_tokens": _INPUT, "output_tokens": _OUTPUT, "images": _IMAGES}
    columns = {name: np.full(len(at_s), NULL) for name in fields}
    u = {name: uniforms(len(at_s), child(seed, "pool", name)) for name in fields}
    without = []
    for number in np.unique(client).tolist():
        mine = np.flatnonzero(client == number)
        windows = _windows(path / f"chunk-{number}-dataset.json")
        if not windows:
            without.append(number)
            continue
        starts = np.array(list(windows))
        window = np.maximum(np.searchsorted(starts, at_s[mine], side="right") - 1, 0)
        for at in np.unique(window).tolist():
            rows = mine[window == at]
            for name, names in fields.items():
                found = _drawn(path / f"chunk-{number}-dataset.json", windows[float(starts[at])], names)
                if found is not None:
                    place = np.searchsorted(found.upto, u[name][rows] * found.upto[-1])
                    columns[name][rows] = np.rint(found.values[place]).astype(np.int64)
    return columns, without


def _windows(path: Path) -> Mapping[float, Mapping[str, str]]:
    """The windows of a client that have something in them, by their start in s, ascending."""
    if not path.exists():
        return {}
    try:
        found = orjson.loads(whole(path))
        windows = {float(start): dict(fields) for start, fields in found.items()}
    except (orjson.JSONDecodeError, ValueError, TypeError, AttributeError) as error:
        raise fault(path, None, f"cannot be read: {error}", "{window start: {field: distribution}}") from None
    there = {start: fields for start, fields in windows.items() if any(len(str(each)) > 2 for each in fields.values())}
    return dict(sorted(there.items()))


def _drawn(path: Path, window: Mapping[str, str], names: tuple[str, ...]) -> _Values | None:
    """The distribution of the first of these fields that a window has; None where it has none."""
    text = next((str(window[name]) for name in names if len(str(window.get(name, ""))) > 2), None)
    if text is None:
        return None
    pairs = [pair.partition(":") for pair in text.strip(" {}").split(",")]
    try:
        values = np.array([float(value) for value, _, _ in pairs])
        weights = np.array([float(weight) for _, _, weight in pairs])
    except ValueError:
        values, weights = np.empty(0), np.empty(0)
    if not len(values) or not (np.isfinite(values) & (values >= 0) & (weights >= 0)).all() or weights.sum() <= 0:
        raise fault(path, None, f"cannot read {clip(text)}", "{value: probability, …}")
    order = np.argsort(values, kind="stable")
    return _Values(values[order], np.cumsum(weights[order]))
