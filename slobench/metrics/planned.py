"""Whether the load itself was planned to change over the window."""

from __future__ import annotations

import numpy as np

from slobench.errors import ConfigError
from slobench.metrics.case import Case
from slobench.metrics.columns import seconds
from slobench.metrics.window import BATCHES
from slobench.workload.moments import rate_at

_LEVEL = 1.02  # highest over lowest; less does not make a queue drift that V07 would see
_POINTS = 50  # of each tenth at which λ(t) is looked at


def planned_change(case: Case) -> tuple[float, float] | None:
    """Lowest and highest planned requests/s among tenths of the window; None where the load was to be level.

    By λ(t) of processes, which says nothing of the bursts that a process makes by chance, and by the plan's own counts
    of classes whose arrivals are recorded, or whose pool cannot be read any more.
    """
    window, ask = case.window, case.ask
    at_s = window.start_s + (np.arange(BATCHES * _POINTS) + 0.5) / (BATCHES * _POINTS) * window.length_s
    rates, counted = np.zeros(BATCHES), set(ask.recorded)
    for name, process in ask.processes.items():
        try:
            rates += rate_at(process, at_s).reshape(BATCHES, _POINTS).mean(axis=1)
        except ConfigError:
            counted.add(name)
    if counted:
        due_s = seconds(case.requests, "scheduled_ns")[case.main & np.isin(case.requests["class"], list(counted))]
        rates += np.bincount(window.batch(due_s), minlength=BATCHES) / (window.length_s / BATCHES)
    low, high = float(rates.min()), float(rates.max())
    return (low, high) if high > _LEVEL * low else None
