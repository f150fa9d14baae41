"""Servers that slobench brings along, each in a process of its own that says its port when it listens."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slobench.config.target import Talk
from slobench.errors import TargetStartError
from slobench.targets.base import Launch, RunningTarget, endpoint, questions
from slobench.targets.failures import explain
from slobench.targets.probe import probe
from slobench.targets.process import LOG_BYTES, Command, GuardedServer
from slobench.targets.ready import HOST, asked, port

_START_S = 30.0
_STOP_NS = 5 * 10**9


@dataclass(frozen=True, slots=True)
class Own:
    """Which server: its name in messages, its module, what is particular to its order and to what is observed."""

    name: str
    module: str
    order: Mapping[str, Any]
    observed: Mapping[str, Any]
    model: str
    port: int  # 0: a free one
    nice: int = 0


def truth_of(log: Path) -> Path:
    """Where a server whose output goes to `log` keeps its own times, to check a report against."""
    return log.with_name("server-requests.csv")


def start_own(own: Own, talk: Talk, launch: Launch) -> RunningTarget:
    """Start it and wait until it listens and answers. Raises TargetStartError where it does not."""
    order = {
        **own.order,
        "host": HOST,
        "port": own.port and port(own.port),
        "model": talk.model or own.model,
        "log": str(truth_of(launch.log).absolute()),
    }
    argv = [sys.executable, "-m", own.module]
    command = Command(argv, {}, launch.log, _STOP_NS, stdin_line=json.dumps(order), first_line=True, nice=own.nice)
    server = GuardedServer(command)
    number = asked(server, own.name, lambda: _port(server, own.name))
    ask = questions(talk, f"http://{HOST}:{number}", launch.headers)
    probed = asked(server, own.name, lambda: probe(ask, talk, own=True))
    observed = {**probed.observed, **own.observed, "pid": server.pid, "log": launch.log.name}
    return RunningTarget(endpoint(talk, probed.found, launch), observed, server)


def _port(server: GuardedServer, name: str) -> int:
    line = server.first_line(_START_S)
    try:
        return int(json.loads(line or "null")["port"])
    except (ValueError, TypeError, KeyError):
        server.stop()
        what = f"{name} did not start"
        text = explain(what, server.logged(LOG_BYTES), server.exit_code, path=str(server.log), tail=server.tail())
        raise TargetStartError(text) from None
