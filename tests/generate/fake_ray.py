"""As much of Ray as slobench uses, in this process: actors are objects, calls happen at once; nodes die when told."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class RayError(Exception):
    """What Ray raises of an actor that is gone."""


class GetTimeoutError(RayError):
    """An answer that never comes."""


@dataclass(eq=False)
class Ref:
    """A result, or why there is none."""

    value: Any = None
    error: Exception | None = None


@dataclass(eq=False)
class Actor:
    """An object on a node; calls come one after another, as Ray has it."""

    held: Any
    node: str
    dead: str = ""
    calls: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *args: self._call(name, args))

    def _call(self, name: str, args: tuple[Any, ...]) -> Ref:
        with self.lock:
            self.calls.append(name)
            if self.dead:
                return Ref(error=RayError(self.dead))
            try:
                given = [each.value if isinstance(each, Ref) else each for each in args]
                return Ref(getattr(self.held, name)(*given))
            except Exception as error:  # noqa: BLE001 (whatever it is, it comes out of `get`)
                return Ref(error=RayError(f"ray::{name}\n{type(error).__name__}: {error}"))

    def die(self, why: str) -> None:
        """End as a killed actor does: what it held ends with it, and nobody hears of it."""
        with self.lock:
            self.dead = self.dead or why
        self.held.close()


class FakeRay:
    """The module `ray`. started: the actors, in order; seen: what `init` was called with."""

    def __init__(self, cpus: Iterable[int] = (1, 1)) -> None:
        self.cpus = list(cpus)
        self.started: list[Actor] = []
        self.seen: list[dict[str, Any]] = []
        self.made: Callable[[Any], Any] = lambda held: held
        self.exceptions = SimpleNamespace(RayError=RayError, GetTimeoutError=GetTimeoutError)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Stand in for Ray."""
        module = ModuleType("ray")
        for name in ("init", "shutdown", "is_initialized", "nodes", "remote", "put", "get", "wait", "kill"):
            setattr(module, name, getattr(self, name))
        module.exceptions = self.exceptions  # type: ignore[attr-defined]
        strategies = ModuleType("ray.util.scheduling_strategies")
        strategies.NodeAffinitySchedulingStrategy = lambda node, soft: node  # type: ignore[attr-defined]
        patch.setitem(sys.modules, "ray", module)
        patch.setitem(sys.modules, "ray.util", ModuleType("ray.util"))
        patch.setitem(sys.modules, "ray.util.scheduling_strategies", strategies)

    def init(self, **settings: Any) -> None:
        self.seen.append(settings)

    def shutdown(self) -> None:
        self.seen.append({"shutdown": True})

    def is_initialized(self) -> bool:
        return False

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {
                "NodeID": f"node-{at}",
                "NodeManagerHostname": f"host-{at}",
                "Alive": True,
                "Resources": {"CPU": float(cpus)},
            }
            for at, cpus in enumerate(self.cpus)
        ]

    def remote(self, **_settings: Any) -> Callable[[type], Any]:
        def wrap(kind: type) -> Any:
            def options(scheduling_strategy: str) -> Any:
                def start() -> Actor:
                    self.started.append(Actor(self.made(kind()), scheduling_strategy))
                    return self.started[-1]

                return SimpleNamespace(remote=start)

            return SimpleNamespace(options=options)

        return wrap

    def put(self, value: Any) -> Ref:
        return Ref(value)

    def get(self, refs: Any, timeout: float | None = None) -> Any:
        if isinstance(refs, list):
            return [self.get(ref) for ref in refs]
        if refs.error is not None:
            raise refs.error
        return refs.value

    def wait(self, refs: list[Ref], num_returns: int, timeout: float) -> tuple[list[Ref], list[Ref]]:
        return refs, []

    def kill(self, actor: Actor) -> None:
        actor.die("killed by hand")
