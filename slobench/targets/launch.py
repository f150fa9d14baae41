"""Start or reach whatever a target describes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from slobench.config.target import CommandTarget, NullTarget, RemoteTarget, SimTarget, VllmTarget
from slobench.targets.base import Launch, Progress, RunningTarget

AnyTarget = SimTarget | NullTarget | RemoteTarget | VllmTarget | CommandTarget


def start(
    target: AnyTarget,
    *,
    log: Path,
    headers: Mapping[str, str] | None = None,
    e2e_limit_s: float | None = None,
    progress: Progress = lambda _: None,
) -> RunningTarget:
    """Start the server or reach it, wait until it is ready, and ask it what it serves.

    `log` receives the server's output. `headers` are sent with every request, secrets included.
    `e2e_limit_s` is the SLO's tightest E2E limit: the total timeout follows from it where none is set.
    `progress` gets one line a second while it starts. Call it from the main thread: a server that another
    thread started outlives us where we are killed while a child of ours holds the pipe to its guard.
    Raises TargetStartError where the server cannot be had, ConfigError where the settings do not fit it.
    """
    launch = Launch(log, headers or {}, e2e_limit_s, progress)
    match target:
        case SimTarget():
            from slobench.targets.simulated import start_simulated

            return start_simulated(target, launch)
        case NullTarget():
            from slobench.targets.null import start_null

            return start_null(target, launch)
        case VllmTarget():
            from slobench.targets.vllm import start_vllm

            return start_vllm(target, launch)
        case CommandTarget():
            from slobench.targets.command import start_command

            return start_command(target, launch)
        case RemoteTarget():
            from slobench.targets.remote import reach_remote

            return reach_remote(target, launch)
