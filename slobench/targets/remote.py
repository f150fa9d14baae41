"""A server that runs already, ours or somebody else's."""

from __future__ import annotations

from slobench.config.target import RemoteTarget
from slobench.targets.base import Launch, RunningTarget, endpoint, questions
from slobench.targets.probe import probe


def reach_remote(target: RemoteTarget, launch: Launch) -> RunningTarget:
    """Ask the endpoint who it is.

    Raises TargetStartError with the root cause where it cannot be reached.
    """
    ask = questions(target.talk, target.url.rstrip("/").removesuffix("/v1"), launch.headers)
    probed = probe(ask, target.talk, own=False)
    return RunningTarget(endpoint(target.talk, probed.found, launch), probed.observed)
