"""A vLLM server of our own: `vllm serve` in its own environment, never imported."""

from __future__ import annotations

import ast
import os
import re
import shutil
from pathlib import Path

from slobench.config.target import VllmTarget
from slobench.errors import ConfigError
from slobench.targets.base import Launch, RunningTarget, endpoint, questions
from slobench.targets.http import Server
from slobench.targets.probe import probe
from slobench.targets.process import YIELDS, Command, GuardedServer
from slobench.targets.ready import HOST, Readiness, asked, located, port, started

_OURS = {"host": "always 127.0.0.1", "port": "`port`", "model": "`serve`"}
_OUR_PYTHON = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")  # would lead its Python to our packages
_ARGS = re.compile(r"non-default args: (\{.*\})")
_SEEN = {  # what the engine made of the arguments, as its log says it
    "max_model_len": re.compile(r"Using max model len (\d+)"),
    "max_num_batched_tokens": re.compile(r"max_num_batched_tokens=(\d+)"),
    "kv_cache_tokens": re.compile(r"KV cache size: ([\d,]+) tokens"),
}
_CACHE_CONFIG = re.compile(r"^vllm:cache_config_info\{(.*)\}", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def start_vllm(target: VllmTarget, launch: Launch) -> RunningTarget:
    """Start `vllm serve` and wait for /health and /v1/models.

    Raises ConfigError for settings that cannot work, TargetStartError where it does not become ready.
    """
    binary = program(target)
    number = port(target.port)
    argv = [str(binary), *arguments(target, number)]
    url = f"http://{HOST}:{number}"
    ask = questions(target.talk, url, launch.headers)
    command = Command(argv, _environ(target, binary), launch.log, target.stop_timeout, nice=YIELDS)
    server = started(command, Readiness("vLLM", "/health", target.ready_timeout), ask, launch)
    probed = asked(server, "vLLM", lambda: probe(ask, target.talk, own=True))
    observed = {
        **probed.observed,
        "argv": argv,
        "requested": dict(target.args),
        "settings": asked(server, "vLLM", lambda: _settings(server, ask)),
        "pid": server.pid,
        "nice": YIELDS,
        "log": launch.log.name,
    }
    return RunningTarget(endpoint(target.talk, probed.found, launch), observed, server)


def program(target: VllmTarget) -> Path:
    """Find the `vllm` to run. Raises ConfigError where there is none."""
    if target.env is None:
        found = shutil.which("vllm")
        if found is None:
            raise ConfigError("no `vllm` on PATH\n  expected  it installed, or `env:` in the target: its environment")
        return Path(found)
    # An environment of 4 GB is often kept elsewhere: the variable moves the one that a shipped target names.
    folder = os.environ.get("SLOBENCH_VLLM_ENV") or target.env
    env = located(folder)
    binary = env / "bin" / "vllm" if env else None
    if binary is None or not binary.is_file():
        raise ConfigError(
            f"no vLLM in the environment {folder}\n"
            f"  expected  {folder}/bin/vllm: `make vllm-cpu` builds one in a checkout, or set SLOBENCH_VLLM_ENV"
        )
    return binary


def arguments(target: VllmTarget, number: int) -> list[str]:
    """Word the arguments of `vllm`. Raises ConfigError for a model that is not there or an option that is ours."""
    model = located(target.serve)
    looks_like_path = target.serve.startswith((".", "/", "~")) or target.serve.count("/") > 1
    if model is None and looks_like_path:
        raise ConfigError(
            f"serve: no folder {target.serve}\n"
            "  expected  a folder with a model's config.json, or a name; `make vllm-cpu` writes .cache/vllm-tiny"
        )
    serve = str(model) if model is not None and model.is_dir() else target.serve
    arguments = ["serve", serve, "--host", HOST, "--port", str(number)]
    for key, value in target.args.items():
        name = key.lstrip("-").replace("_", "-")
        if name in _OURS:
            raise ConfigError(f"args.{key}: not an argument of the target\n  expected  {_OURS[name]}")
        match value:
            case True:
                arguments.append(f"--{name}")
            case False:
                arguments.append(f"--no-{name}")
            case _:
                arguments += [f"--{name}", str(value)]
    return arguments


def _environ(target: VllmTarget, binary: Path) -> dict[str, str | None]:
    # vLLM compiles with tools of its environment; usage statistics would be traffic of their own.
    path = f"{binary.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {"PATH": path, "VLLM_NO_USAGE_STATS": "1", **dict.fromkeys(_OUR_PYTHON), **target.environ}


def _settings(server: GuardedServer, ask: Server) -> dict[str, object]:
    """Return the arguments as the server understood them, from its log and /metrics."""
    log = server.logged()
    seen: dict[str, object] = {}
    if match := _ARGS.search(log):
        try:
            seen["non_default_args"] = ast.literal_eval(match[1])
        except (ValueError, SyntaxError):  # a value that only prints
            seen["non_default_args"] = match[1]
    for name, pattern in _SEEN.items():
        if match := pattern.search(log):
            seen[name] = int(match[1].replace(",", ""))
    try:
        metrics = ask.get("/metrics")
    except OSError:
        return seen
    if match := _CACHE_CONFIG.search(metrics.body.decode(errors="replace")):
        seen["cache_config"] = dict(_LABEL.findall(match[1]))
    return seen
