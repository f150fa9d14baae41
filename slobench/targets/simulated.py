"""The embedded engine in a process of its own."""

from __future__ import annotations

from slobench.config.target import SimTarget
from slobench.targets.base import Launch, RunningTarget
from slobench.targets.own import Own, start_own


def start_simulated(target: SimTarget, launch: Launch) -> RunningTarget:
    """Start the simulated engine's server. Raises TargetStartError where it does not."""
    engine = {"engine": target.engine.model_dump(mode="json")}
    own = Own("the simulated engine", "slobench.engine.server", engine, engine, model="sim", port=target.port)
    return start_own(own, target.talk, launch)
