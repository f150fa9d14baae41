"""CSV traces of two simulators: Vidur's lengths, with or without times, and splitwise-sim's requests.

Vidur: [arrived_at (s),] num_prefill_tokens, num_decode_tokens [github.com/microsoft/vidur]. splitwise-sim: request_id,
request_type, application_id, arrival_timestamp (s), batch_size, prompt_size, token_size
[github.com/Mutinifni/splitwise-sim].
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from slobench.workload.traces.schema import Trace, make_trace
from slobench.workload.traces.table import read_table
from slobench.workload.variates import FloatArray, IntArray

VIDUR = ("num_prefill_tokens", "num_decode_tokens")
SPLITWISE = ("arrival_timestamp", "prompt_size", "token_size")
UNTIMED = "no arrival times in this file: give `arrivals` a process"


def read(path: Path) -> Trace:
    """Read a trace of Vidur; without arrived_at it has lengths only."""
    table = read_table(path, VIDUR, optional=("arrived_at",))
    timed = "arrived_at" in table.columns
    arrival = in_ns(table.numbers("arrived_at")) if timed else np.zeros(len(table), dtype=np.int64)
    columns = {
        "arrival_ns": arrival,
        "input_tokens": table.whole_numbers(VIDUR[0]),
        "output_tokens": table.whole_numbers(VIDUR[1]),
    }
    return make_trace(columns, format="vidur", timed=timed, notes=() if timed else (UNTIMED,))


def read_splitwise(path: Path) -> Trace:
    """Read a trace of splitwise-sim; its label is the type of the request."""
    table = read_table(path, SPLITWISE, optional=("request_type",))
    columns = {
        "arrival_ns": in_ns(table.numbers(SPLITWISE[0])),
        "input_tokens": table.whole_numbers(SPLITWISE[1]),
        "output_tokens": table.whole_numbers(SPLITWISE[2]),
    }
    if "request_type" in table.columns:
        columns["class"] = table.texts("request_type")
    return make_trace(columns, format="splitwise")


def in_ns(times_s: FloatArray) -> IntArray:
    """Turn seconds into ns after the first whole second before all of them."""
    after: IntArray = np.rint((times_s - float(np.floor(times_s.min()))) * 1e9).astype(np.int64)
    return after
