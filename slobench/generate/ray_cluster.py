"""Joining a Ray cluster, and which of its nodes a worker goes to; the only module that imports Ray."""

from __future__ import annotations

import logging
import os
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from slobench.config.workers import OnRay
from slobench.errors import UsageError

_INSTALL = "--workers ray needs Ray\n  expected  pip install 'slobench[ray]'"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_START = "ray start --head on one host and `ray start --address=HOST:6379` on the others"


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the cluster that has CPUs to give."""

    id: str
    host: str
    cpus: int


def import_ray() -> ModuleType:
    """Return Ray. Raises UsageError where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read as it is imported
    try:
        import ray
    except ImportError as error:
        raise UsageError(_INSTALL) from error
    found: ModuleType = ray
    return found


def join(asked: OnRay) -> bool:
    """Connect to the cluster; whether that was done here, and is ours to end. Raises UsageError where there is none."""
    ray = import_ray()
    if ray.is_initialized():
        return False
    where = asked.address or os.environ.get("RAY_ADDRESS") or "auto"
    try:
        with _own_signals():
            _silence()
            _init(ray, where)
    except ImportError as error:  # Ray Client is an extra of its own
        raise UsageError(_INSTALL) from error
    except Exception as error:
        raise UsageError(
            f"cannot join a Ray cluster at {where}: {_on_one_line(error) or type(error).__name__}\n"
            f"  expected  a running one of the same Python and Ray: {_START}; else RAY_ADDRESS or ray://HOST:10001"
        ) from error
    return True


def _init(ray: ModuleType, where: str) -> None:
    with suppress(ConnectionAbortedError):
        ray.init(address=where, log_to_driver=False, logging_level=logging.CRITICAL)
        return
    # Ray Client starts a server for each driver, which may die as it forks beside gRPC's threads; the next is another.
    ray.init(address=where, log_to_driver=False, logging_level=logging.CRITICAL)


def _silence() -> None:
    """Keep what Ray prints of raylets off standard output, which is the report's; no setting of `init` does it."""
    with suppress(ImportError):
        from ray._private import worker

        worker._worker_logs_enabled = False  # noqa: SLF001


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handlers that are set: Ray puts its own for SIGTERM in their place."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        with suppress(ValueError):  # not in the main thread: Ray left them alone too
            for number, handler in before.items():
                signal.signal(number, handler)


def nodes() -> list[Node]:
    """Return the nodes that have a CPU to give, by host and id."""
    ray = import_ray()
    found = [
        Node(str(each["NodeID"]), str(each["NodeManagerHostname"]), int(each["Resources"].get("CPU", 0)))
        for each in ray.nodes()
        if each["Alive"]
    ]
    return sorted((node for node in found if node.cpus), key=lambda node: (node.host, node.id))


def place(found: Sequence[Node], workers: int | None, most: int) -> list[Node]:
    """Return the node of each worker, dealt out in turn, a CPU each; None: one on each node, but no more than `most`.

    Raises UsageError where there are too few CPUs.
    """
    free = {node.id: node.cpus for node in found}
    wanted = min(len(found), most) if workers is None else workers
    cpus = sum(free.values())
    if not cpus or wanted > cpus:
        raise UsageError(
            f"{max(wanted, 1)} workers need as many CPUs; the nodes of this Ray cluster have {cpus}\n"
            f"  expected  {f'--workers ray/{cpus} or less, or ' if cpus else ''}nodes started with --num-cpus"
        )
    placed: list[Node] = []
    while len(placed) < wanted:
        for node in found:
            if free[node.id] and len(placed) < wanted:
                free[node.id] -= 1
                placed.append(node)
    return placed


def actor(kind: type, node: Node) -> Any:
    """Start an actor on a node; it takes one of its CPUs."""
    ray = import_ray()
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    strategy = NodeAffinitySchedulingStrategy(node.id, soft=False)
    return ray.remote(num_cpus=1, max_restarts=0)(kind).options(scheduling_strategy=strategy).remote()


def why_gone(error: BaseException) -> str:
    """Word what Ray says of an actor that is gone, on one line."""
    text = str(error)
    if "ModuleNotFoundError" in text:
        return "slobench is not installed on its node: pip install 'slobench[ray]' there, as here"
    if re.search(r"node (died|has died|is dead|was dead|has been marked dead)", text):
        return "its node died"
    told = _on_one_line(error)
    return f"its Ray actor ended: {told}" if told else "its Ray actor ended"


def _on_one_line(error: BaseException) -> str:
    """What Ray says first, or at last where a traceback stands between: the exception of the other side."""
    lines = [line.strip() for line in _COLOURS.sub("", str(error)).splitlines() if line.strip()]
    if not lines:
        return ""
    if lines[0].startswith("ray::"):
        return lines[-1]
    return f"{lines[0]} {lines[-1]}" if lines[0].endswith(":") and len(lines) > 1 else lines[0]
