"""The prompt sharing of a run as it went: of what was sent, in the order in which it was sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from slobench.config.workload import Workload
from slobench.plan import Plan
from slobench.plan_sharing import told_sharing
from slobench.records.schema import Columns
from slobench.workload.sharing import Cache


def sharing_as_sent(
    planned: Mapping[str, Any], requests: Columns, plan_table: pa.Table, workload: Workload
) -> Mapping[str, Any] | None:
    """Reckon run.json's plan.sharing again without the requests that were never sent, in the order of sending.

    A session that the end of the run cut, or that sent its turns later than others came, shares less than its plan.
    """
    started = np.asarray(requests["started_ns"], dtype=np.float64)
    sent = np.flatnonzero(~np.isnan(started))
    rows = sent[np.argsort(started[sent], kind="stable")]
    if len(rows) == 0 or np.array_equal(rows, np.arange(len(plan_table))):
        return planned
    blocks = planned.get("cache_blocks")
    cache = Cache(int(planned["block_tokens"]), None if blocks is None else int(blocks))
    return told_sharing(Plan.from_arrow(plan_table).take(rows), workload, cache)
