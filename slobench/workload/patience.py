"""How long each request is waited for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from slobench.config.workload import Workload
from slobench.names import NULL
from slobench.workload.durations import draw_ns
from slobench.workload.rows import Rows
from slobench.workload.variates import IntArray, child, uniforms


def with_patience(rows: Rows, codes: IntArray, workload: Workload, seed: int) -> Rows:
    """The rows of a plan, each with the patience that its class draws; codes: the class of each."""
    patience_ns = rows.patience_ns
    for code, (name, spec) in enumerate(workload.classes.items()):
        patience = spec.patience
        if patience is None:
            continue
        mine = np.flatnonzero(codes == code)
        wait_ns = draw_ns(patience.wait, len(mine), child(seed, "patience", name))
        if patience.share < 1:
            wait_ns[uniforms(len(mine), child(seed, "patient", name)) >= patience.share] = NULL
        patience_ns = patience_ns.copy()
        patience_ns[mine] = wait_ns
    return replace(rows, patience_ns=patience_ns)
