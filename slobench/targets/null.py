"""The null server in a process of its own: fixed replies at fixed times, and a log of when they truly left."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from slobench.config.target import NullTarget
from slobench.errors import TargetStartError
from slobench.targets.base import Launch, RunningTarget, endpoint, questions
from slobench.targets.failures import explain
from slobench.targets.probe import probe
from slobench.targets.process import LOG_BYTES, YIELDS, Command, GuardedServer
from slobench.targets.ready import HOST, asked, port

_START_S = 30.0
_STOP_NS = 5 * 10**9
_NAME = "the null server"


def truth_of(log: Path) -> Path:
    """Where the null server whose output goes to `log` keeps its own times."""
    return log.with_name("server-requests.csv")


def start_null(target: NullTarget, launch: Launch) -> RunningTarget:
    """Start it; it says its port when it listens. Raises TargetStartError where it does not."""
    schedule = {"first_ns": target.first_token, "gap_ns": target.gap, "step_ns": target.step}
    order = {
        **schedule,
        "host": HOST,
        "port": target.port and port(target.port),
        "model": target.talk.model or "null",
        "log": str(truth_of(launch.log).absolute()),
    }
    argv = [sys.executable, "-m", "slobench.targets.null_server"]
    command = Command(argv, {}, launch.log, _STOP_NS, stdin_line=json.dumps(order), first_line=True, nice=YIELDS)
    server = GuardedServer(command)
    number = asked(server, _NAME, lambda: _port(server))
    ask = questions(target.talk, f"http://{HOST}:{number}", launch.headers)
    probed = asked(server, _NAME, lambda: probe(ask, target.talk, own=True))
    observed = {**probed.observed, "schedule": schedule, "pid": server.pid, "nice": YIELDS, "log": launch.log.name}
    return RunningTarget(endpoint(target.talk, probed.found, launch), observed, server)


def _port(server: GuardedServer) -> int:
    line = server.first_line(_START_S)
    try:
        return int(json.loads(line or "null")["port"])
    except (ValueError, TypeError, KeyError):
        server.stop()
        text = explain(
            f"{_NAME} did not start",
            server.logged(LOG_BYTES),
            server.exit_code,
            path=str(server.log),
            tail=server.tail(),
        )
        raise TargetStartError(text) from None
