"""A synthetic trace: what a workload plans, written down as if it had been recorded."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from slobench.config.workload import Workload
from slobench.errors import UsageError
from slobench.names import NULL
from slobench.plan import Plan, build_plan
from slobench.records.arrow import text_array
from slobench.workload.traces.blocks import blocks_of
from slobench.workload.traces.run import BLOCK_TOKENS
from slobench.workload.traces.schema import Trace, make_trace


def planned_trace(workload: Workload, *, seed: int, requests: int | None, duration_ns: int | None) -> Trace:
    """Plan a workload for so many requests, or so much time, and return the plan as a trace.

    None, None: as long as the workload says. Raises UsageError where requests have no times of their own: in a closed
    loop, and where turns follow replies.
    """
    plan = build_plan(_bounded(workload, requests, duration_ns), seed)
    scheduled = plan.scheduled_ns
    if scheduled is None or (scheduled == NULL).any():
        raise UsageError(
            f"workload {workload.name}: when its requests are due depends on replies\n"
            "  expected  open arrivals and no sessions; `slobench run` first, and its folder is a trace"
        )
    if duration_ns is not None or (requests is None and workload.duration is not None):
        rows = np.flatnonzero(scheduled < (duration_ns or workload.duration or 0))
        if not len(rows):
            raise UsageError("no request falls into this time\n  expected  a longer --duration")
        plan = plan.take(rows)
    return trace_of(plan)


def trace_of(plan: Plan) -> Trace:
    """Word a plan whose requests all have times as a trace; what prompts share is told in blocks of 16 tokens."""
    assert plan.scheduled_ns is not None
    columns: dict[str, object] = {
        "arrival_ns": plan.scheduled_ns,
        "input_tokens": plan.input_tokens,
        "output_tokens": plan.output_tokens,
        "class": pa.DictionaryArray.from_arrays(pa.array(plan.class_code), text_array(plan.class_names)),
    }
    if plan.images is not None:
        columns["images"] = plan.images.astype(np.int64)
    if plan.contents is not None:
        columns["blocks"] = blocks_of(plan.contents, plan.input_tokens, BLOCK_TOKENS)
    size = BLOCK_TOKENS if plan.contents is not None else None
    return make_trace(columns, format="slobench", block_tokens=size)


def _bounded(workload: Workload, requests: int | None, duration_ns: int | None) -> Workload:
    if requests is None and duration_ns is None:
        return workload
    bounds: Mapping[str, object] = {"requests": requests, "duration": duration_ns, "warmup": None, "until": None}
    return workload.model_copy(update=dict(bounds))
