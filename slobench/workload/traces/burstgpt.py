"""BurstGPT traces, versions 1 to 3: CSV of requests to ChatGPT and GPT-4 with whole-second times.

Columns Timestamp, Model, Request tokens, Response tokens, Total tokens, Log Type; version 3 has Session ID and
Elapsed time among them, so columns go by their names. A response of 0 tokens is a failure
[github.com/HPMLL/BurstGPT; Wang et al. 2025, KDD].
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from slobench.names import NULL
from slobench.records.arrow import integers, text_array
from slobench.workload.traces.schema import Trace, make_trace
from slobench.workload.traces.table import read_table

COLUMNS = ("Timestamp", "Model", "Request tokens", "Response tokens", "Log Type")
_SECOND = 10**9


def read(path: Path) -> Trace:
    """Read a BurstGPT trace; its label is "MODEL/LOG TYPE", its history what the model was sent."""
    table = read_table(path, COLUMNS, optional=("Session ID", "Elapsed time"))
    times = table.numbers("Timestamp")
    origin = float(np.floor(times.min()))
    output = table.whole_numbers("Response tokens")
    columns = {
        "arrival_ns": np.rint((times - origin) * _SECOND).astype(np.int64),
        "input_tokens": table.whole_numbers("Request tokens"),
        "output_tokens": output,
        "class": pc.binary_join_element_wise(table.columns["Model"], table.columns["Log Type"], text_array(["/"])[0]),
        "failed": (output == 0).astype(np.int64),
    }
    if "Session ID" in table.columns:
        codes = table.texts("Session ID").dictionary_encode().indices
        columns["session"] = integers(codes)
    if "Elapsed time" in table.columns:
        elapsed = table.numbers("Elapsed time", empty=True)
        nothing = np.isnan(elapsed)
        ns = np.rint(np.where(nothing, 0, elapsed) * _SECOND).astype(np.int64)
        columns["elapsed_ns"] = np.where(nothing, NULL, ns)
    return make_trace(columns, format="burstgpt", bin_ns=_SECOND if (times % 1 == 0).all() else 0)
