"""The embedded engine in a process of its own."""

from __future__ import annotations

import json
import sys

from slobench.config.target import SimTarget
from slobench.errors import TargetStartError
from slobench.targets.base import Launch, RunningTarget, endpoint, questions
from slobench.targets.failures import explain
from slobench.targets.probe import probe
from slobench.targets.process import LOG_BYTES, Command, GuardedServer
from slobench.targets.ready import HOST, asked, port

_START_S = 30.0
_STOP_NS = 5 * 10**9


def start_simulated(target: SimTarget, launch: Launch) -> RunningTarget:
    """Start the simulated engine's server; it says its port when it listens.

    Raises TargetStartError where it does not.
    """
    requests_log = launch.log.with_name("server-requests.csv").absolute()  # its own truth, to check a report against
    engine = target.engine.model_dump(mode="json")
    order = {
        "engine": engine,
        "host": HOST,
        "port": target.port and port(target.port),
        "model": target.talk.model or "sim",
        "log": str(requests_log),
    }
    argv = [sys.executable, "-m", "slobench.engine.server"]
    command = Command(argv, {}, launch.log, _STOP_NS, stdin_line=json.dumps(order), first_line=True)
    server = GuardedServer(command)
    number = asked(server, "the simulated engine", lambda: _port(server))
    ask = questions(target.talk, f"http://{HOST}:{number}", launch.headers)
    probed = asked(server, "the simulated engine", lambda: probe(ask, target.talk, own=True))
    observed = {**probed.observed, "engine": engine, "pid": server.pid, "log": launch.log.name}
    return RunningTarget(endpoint(target.talk, probed.found, launch), observed, server)


def _port(server: GuardedServer) -> int:
    line = server.first_line(_START_S)
    try:
        return int(json.loads(line or "null")["port"])
    except (ValueError, TypeError, KeyError):
        server.stop()
        what = "the simulated engine did not start"
        text = explain(what, server.logged(LOG_BYTES), server.exit_code, path=str(server.log), tail=server.tail())
        raise TargetStartError(text) from None
