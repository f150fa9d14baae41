"""Any other server that a command starts."""

from __future__ import annotations

from slobench.config.target import CommandTarget
from slobench.targets.base import Launch, RunningTarget, endpoint, questions
from slobench.targets.probe import probe
from slobench.targets.process import YIELDS, Command
from slobench.targets.ready import HOST, Readiness, asked, located, port, started


def start_command(target: CommandTarget, launch: Launch) -> RunningTarget:
    """Start the command and wait until its ready path answers 200.

    Raises TargetStartError where it does not, ConfigError where the settings do not fit it.
    """
    number = port(target.port)
    argv = [part.replace("{port}", str(number)) for part in target.argv]
    if "/" in argv[0] and (program := located(argv[0])) is not None:
        argv[0] = str(program)
    ask = questions(target.talk, f"http://{HOST}:{number}", launch.headers)
    environ = {name: value.replace("{port}", str(number)) for name, value in target.environ.items()}
    command = Command(argv, environ, launch.log, target.stop_timeout, nice=YIELDS)
    server = started(command, Readiness(argv[0], target.ready_path, target.ready_timeout), ask, launch)
    probed = asked(server, argv[0], lambda: probe(ask, target.talk, own=True))
    observed = {**probed.observed, "argv": argv, "pid": server.pid, "nice": YIELDS, "log": launch.log.name}
    return RunningTarget(endpoint(target.talk, probed.found, launch), observed, server)
