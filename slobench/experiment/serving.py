"""A target kept running for as long as the user wants it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import orjson

from slobench.config.load import load_target
from slobench.config.secrets import resolve_secrets
from slobench.config.target import RemoteTarget
from slobench.errors import TargetDiedError, UsageError
from slobench.targets.base import RunningTarget
from slobench.targets.launch import start

_WATCH_S = 0.5


def serve(
    name: str,
    sets: Sequence[str],
    log: Path,
    *,
    say: Callable[[str], None],
    show: Callable[[str], None],
    as_json: bool = False,
) -> None:
    """Start a target and watch it until SIGINT or SIGTERM, which end it in order.

    `say` gets progress, `show` what was asked for. Raises TargetStartError where it does not start,
    TargetDiedError where it ends by itself, UsageError for a target that is not ours to start.
    """
    target = load_target(name, sets).value
    if isinstance(target, RemoteTarget):
        raise UsageError(f"{name} runs already, at {target.url}\n  expected  a target of kind sim, vllm or command")
    with _told_to_stop():
        try:
            running = start(target, log=log, headers=resolve_secrets(target.talk), progress=say)
        except KeyboardInterrupt:  # while it starts: `start` has ended the server
            return
        try:
            show(_shown(running, as_json=as_json))
            say(f"log  {log}\nCtrl-C ends it.")
            while running.alive():
                time.sleep(_WATCH_S)
            raise TargetDiedError(running.failure() or "the server ended")
        except KeyboardInterrupt:
            say("stopping")
        finally:
            running.stop()


def _shown(running: RunningTarget, *, as_json: bool) -> str:
    if as_json:
        return orjson.dumps(running.observed, option=orjson.OPT_INDENT_2).decode()
    facts = running.observed
    lines = [f"url    {running.endpoint.url}", f"model  {running.endpoint.model}"]
    lines += [f"{key}  {facts[key]}" for key in ("version", "max_model_len", "pid") if key in facts]
    return "\n".join(lines)


@contextmanager
def _told_to_stop() -> Iterator[None]:
    """Let SIGTERM interrupt as SIGINT does, so that either ends the server too."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
