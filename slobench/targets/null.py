"""The null server in a process of its own: fixed replies at fixed times, and a log of when they truly left."""

from __future__ import annotations

from slobench.config.target import NullTarget
from slobench.targets.base import Launch, RunningTarget
from slobench.targets.own import Own, start_own
from slobench.targets.process import YIELDS


def start_null(target: NullTarget, launch: Launch) -> RunningTarget:
    """Start it. Raises TargetStartError where it does not."""
    schedule = {"first_ns": target.first_token, "gap_ns": target.gap, "step_ns": target.step}
    observed = {"schedule": schedule, "nice": YIELDS}
    name, module = "the null server", "slobench.targets.null_server"
    return start_own(Own(name, module, schedule, observed, "null", target.port, YIELDS), target.talk, launch)
