"""Servers of our own: started with what was asked, watched, told apart in their failures, stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from slobench.config.load import load_target
from slobench.config.target import CommandTarget, SimTarget, VllmTarget
from slobench.errors import ConfigError, TargetStartError
from slobench.targets.guard import marked
from slobench.targets.http import Server
from slobench.targets.launch import start
from slobench.targets.preflight import preflight

FAKE = Path(__file__).with_name("fake_vllm.py")


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment whose bin/vllm is the stand-in."""
    monkeypatch.delenv("SLOBENCH_VLLM_ENV", raising=False)
    binary = tmp_path / "env" / "bin" / "vllm"
    binary.parent.mkdir(parents=True)
    binary.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@"\n')
    binary.chmod(0o755)
    return tmp_path / "env"


def vllm(folder: Path, **values) -> VllmTarget:
    """A target that starts the stand-in."""
    return VllmTarget(**{"kind": "vllm", "env": str(folder), "serve": "some/model", **values})


def taken() -> socket.socket:
    """A socket that listens on a local port."""
    return socket.create_server(("127.0.0.1", 0))


def test_vllm_is_started_with_the_arguments_that_were_asked(env, tmp_path):
    """Options by name, true and false as flags; requested and observed settings are kept apart; stop ends it."""
    args = {"served-model-name": "tiny", "enforce_eager": True, "max-num-seqs": 8}
    said: list[str] = []
    running = start(vllm(env, args=args), log=tmp_path / "server.log", progress=said.append)
    try:
        argv = running.observed["argv"]
        assert argv[:4] == [str(env / "bin" / "vllm"), "serve", "some/model", "--host"]
        assert argv[7:] == ["--served-model-name", "tiny", "--enforce-eager", "--max-num-seqs", "8"]
        assert running.observed["requested"] == args
        assert running.observed["settings"] == {
            "non_default_args": {"model": "some/model"},
            "kv_cache_tokens": 262144,
            "cache_config": {"block_size": "16", "num_gpu_blocks": "8"},
        }
        assert (running.endpoint.model, running.endpoint.max_model_len) == ("tiny", 2048)
        assert running.endpoint.forces_length
        assert f"path {env / 'bin'}{os.pathsep}" in running.server.logged()
        assert running.alive()
        json.dumps(running.observed)
    finally:
        running.stop()
    assert not running.alive()
    assert not marked(running.server.mark)


def test_a_real_server_yields_to_the_generator(env, tmp_path):
    """A server beside the generator runs at a lower priority, and run.json says so; the simulated engine does not."""
    running = start(vllm(env), log=tmp_path / "vllm.log")
    try:
        assert os.getpriority(os.PRIO_PROCESS, running.pid) == running.observed["nice"] > 0
    finally:
        running.stop()
    simulated = start(load_target("sim").value, log=tmp_path / "sim.log")
    try:
        assert os.getpriority(os.PRIO_PROCESS, simulated.pid) == os.getpriority(os.PRIO_PROCESS, 0)
    finally:
        simulated.stop()


def test_a_death_during_the_run_is_explained(env, tmp_path):
    """A killed server is seen as dead, with the signal, the advice and the end of its log."""
    running = start(vllm(env), log=tmp_path / "server.log")
    os.kill(running.pid, signal.SIGKILL)
    while running.alive():
        time.sleep(0.01)
    text = running.failure()
    running.stop()
    assert text.startswith("the server ended during the run (killed by SIGKILL): killed")
    assert "GPU KV cache size" in text


@pytest.mark.parametrize(
    ("values", "cause", "line"),
    [
        ({"args": {"bogus": 3}}, "bad argument", "unrecognized arguments: --bogus 3"),
        ({"args": {"max-num-seqs": "many"}}, "bad argument", "argument --max-num-seqs: invalid int value"),
        ({"environ": {"FAKE": "oom"}}, "out of memory", "CUDA out of memory"),
    ],
)
def test_failed_starts_are_told_apart(env, tmp_path, values, cause, line):
    """A server that ends instead of becoming ready gives its cause, the line that shows it, and its log."""
    with pytest.raises(TargetStartError) as error:
        start(vllm(env, **values), log=tmp_path / "server.log")
    first, second, *_ = str(error.value).splitlines()
    assert first.startswith("vLLM did not start (exit code ")
    assert first.endswith(cause)
    assert line in second
    assert str(tmp_path / "server.log") in str(error.value)


def test_a_server_that_is_never_ready_is_stopped(env, tmp_path):
    """After the ready time the start fails, and the server is gone."""
    with pytest.raises(TargetStartError, match=r"not ready after 500 ms"):
        start(vllm(env, environ={"FAKE": "slow"}, ready_timeout="500ms"), log=tmp_path / "server.log")
    assert not [pid for pid in _children() if b"fake_vllm" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def _children() -> list[int]:
    from slobench.targets.guard import descendants

    return descendants(os.getpid())


@pytest.mark.parametrize(
    "make", [lambda port, env: vllm(env, port=port), lambda port, _: SimTarget(kind="sim", port=port)]
)
def test_a_port_in_use_is_found_before_the_start(env, tmp_path, make):
    """Where the wanted port is taken nothing is started: readiness would be asked of whoever has it."""
    with taken() as other, pytest.raises(TargetStartError, match="port in use"):
        start(make(other.getsockname()[1], env), log=tmp_path / "server.log")
    assert not (tmp_path / "server.log").exists()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"env": "nowhere"}, "make vllm-cpu"),
        ({"serve": "./no/folder"}, r"serve: no folder \./no/folder"),
        ({"args": {"port": 8000}}, r"args\.port: not an argument of the target\n  expected  `port`"),
        ({"args": {"--host": "0.0.0.0"}}, r"args\.--host"),
    ],
)
def test_settings_that_cannot_work(env, tmp_path, values, text):
    """What is wrong with the settings is said before anything starts, as a usage error."""
    with pytest.raises(ConfigError, match=text):
        start(vllm(env, **values), log=tmp_path / "server.log")
    with pytest.raises(ConfigError, match=text):
        preflight(vllm(env, **values), {})


def test_the_environment_can_be_elsewhere(env, tmp_path, monkeypatch):
    """SLOBENCH_VLLM_ENV moves the environment that a target names."""
    monkeypatch.setenv("SLOBENCH_VLLM_ENV", str(env))
    assert str(env / "bin" / "vllm") in preflight(vllm(Path("nowhere")), {})


def test_any_command(tmp_path):
    """A command gets the port in its arguments and environment, and is ready when its path answers."""
    argv = (sys.executable, str(FAKE), "serve", "m", "--host", "127.0.0.1", "--port", "{port}")
    target = CommandTarget(kind="command", argv=argv, environ={"ITS_PORT": "{port}"}, ready_path="/v1/models")
    running = start(target, log=tmp_path / "server.log")
    try:
        port = running.endpoint.url.rpartition(":")[2]
        assert running.observed["argv"][-1] == port
        assert running.endpoint.model == "served"
        assert f"ITS_PORT={port}".encode() in Path(f"/proc/{running.pid}/environ").read_bytes()
    finally:
        running.stop()


def test_the_simulated_engine(tmp_path):
    """The embedded engine starts, says what it serves, and ends in order when stopped."""
    running = start(load_target("sim").value, log=tmp_path / "server.log")
    try:
        assert running.endpoint.max_model_len == running.observed["engine"]["max_model_len"]
        assert running.endpoint.token_ids == (100, 4000)
        assert Server(running.endpoint.url).get("/health").status == 200
    finally:
        running.stop()
    assert running.server.exit_code == 0
    assert running.failure().startswith("the server ended during the run (exit code 0)")


def test_token_ids_that_the_engine_does_not_have(tmp_path):
    """A range outside the vocabulary is a usage error that names the key; the server is stopped."""
    target = load_target("sim", ["engine.vocab=1000"]).value
    with pytest.raises(ConfigError, match=r"talk\.token_ids: \[100, 4000\)"):
        start(target, log=tmp_path / "server.log")


def test_an_interrupt_while_it_starts_leaves_nothing(env, tmp_path):
    """Ctrl-C during the wait for readiness ends the server before it is passed on."""

    def interrupt(_text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(vllm(env, environ={"FAKE": "slow"}), log=tmp_path / "server.log", progress=interrupt)
    assert not [pid for pid in _children() if b"fake_vllm" in Path(f"/proc/{pid}/cmdline").read_bytes()]
