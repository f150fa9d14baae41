"""Whether a target could be started or reached, without starting it or generating a token."""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from slobench.config.target import CommandTarget, NullTarget, RemoteTarget, SimTarget, VllmTarget
from slobench.errors import ConfigError
from slobench.targets.base import questions
from slobench.targets.launch import AnyTarget
from slobench.targets.probe import probe
from slobench.targets.ready import located, port
from slobench.targets.vllm import arguments, program


def preflight(target: AnyTarget, headers: Mapping[str, str]) -> str:
    """Say in a line what was found. Raises ConfigError or TargetStartError as `start` would."""
    match target:
        case RemoteTarget():
            silent = target.talk.model_copy(update={"token_ids": None})  # no token is asked for
            found = probe(questions(target.talk, target.url, headers), silent, own=False)
            return f"{target.url} answers and serves {found.found.model}"
        case VllmTarget():
            binary = program(target)
            arguments(target, port(target.port))
            return f"{binary} is there, and so is what it serves: {target.serve}"
        case CommandTarget():
            port(target.port)
            command = target.argv[0]
            if shutil.which(command) is None and located(command) is None:
                raise ConfigError(f"argv: no program {command}\n  expected  one on PATH, or a file")
            return f"{command} can be run"
        case SimTarget():
            port(target.port)
            return "the simulated engine needs nothing"
        case NullTarget():
            port(target.port)
            return "the null server needs nothing"
