"""A small Ray cluster on this machine: nodes that can be killed, one of them in a time namespace of its own."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

MEMORY = 80 * 2**20  # of objects on each node: what is shipped is small
SHIFT_S = 100_000
PATIENCE_S = 60.0
WORKER = "slobench.generate.worker"


@dataclass
class Nodes:
    """A cluster whose head has no CPU to give. shifted: whether the clock of its second node could be moved."""

    cluster: Any
    client_port: int
    shifted: bool = False
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def add(self, cpus: int = 1) -> Any:
        """One more node; its handle."""
        with careless():
            return self.cluster.add_node(num_cpus=cpus, object_store_memory=MEMORY)

    def add_shifted(self, cpus: int = 1) -> None:
        """One more whose CLOCK_MONOTONIC is that of this machine and SHIFT_S; an ordinary one where that may not be."""
        probe = ["unshare", "--time", "--monotonic", str(SHIFT_S), "true"]
        try:
            self.shifted = subprocess.run(probe, check=False, capture_output=True).returncode == 0
        except FileNotFoundError:
            self.shifted = False
        if not self.shifted:
            self.add(cpus)
            return
        ray = Path(sys.executable).with_name("ray")
        start = [str(ray), "start", f"--address={self.address}", f"--num-cpus={cpus}", "--block"]
        command = [*probe[:-1], *start, f"--object-store-memory={MEMORY}", "--disable-usage-stats"]
        devnull = subprocess.DEVNULL
        self.started.append(subprocess.Popen(command, stdout=devnull, stderr=devnull, process_group=0))

    def kill(self, node: Any) -> list[psutil.Process]:
        """Kill a node as a power cut does: every process of it at once; the generator processes among them."""
        raylet = psutil.Process(next(each.process.pid for each in node.all_processes["raylet"]))
        family = [raylet, *raylet.children(recursive=True)]
        workers = [each for each in family if WORKER in " ".join(each.cmdline())]
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGKILL)
        with careless():
            self.cluster.remove_node(node, allow_graceful=False)
        return workers


@contextmanager
def ray_nodes() -> Iterator[Nodes]:
    """Start a head and two nodes; none of their processes is left in the end."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    port = 21000 + os.getpid() % 9000
    head = {"num_cpus": 0, "object_store_memory": MEMORY, "include_dashboard": False, "ray_client_server_port": port}
    # A node that was killed counts as dead after 3 s, not 20.
    head["_system_config"] = {"health_check_period_ms": 1000, "health_check_failure_threshold": 3}
    with careless():
        nodes = Nodes(Cluster(initialize_head=True, head_node_args=head), port)
        nodes.add()
    try:
        nodes.add_shifted()
        with careless():
            _await_nodes(nodes, 3)
        yield nodes
    finally:
        for process in nodes.started:
            family = psutil.Process(process.pid).children(recursive=True)
            for each in [process, *family]:
                with suppress(psutil.NoSuchProcess):
                    each.send_signal(signal.SIGKILL)
            process.wait()
        with careless():
            nodes.cluster.shutdown()


@contextmanager
def careless() -> Iterator[None]:
    """Where Ray opens its own log files and processes and leaves them to the garbage collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


def _await_nodes(nodes: Nodes, n: int) -> None:
    import ray

    ray.init(address=nodes.address, log_to_driver=False)
    give_up = time.monotonic() + PATIENCE_S
    while sum(each["Alive"] for each in ray.nodes()) < n:
        assert time.monotonic() < give_up, "the nodes never came"
        time.sleep(0.05)
    ray.shutdown()


def workers_alive() -> list[psutil.Process]:
    """Generator processes of this machine that Ray's actors hold."""
    found = []
    for each in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            parent = each.parent()
            if WORKER in " ".join(each.cmdline()) and parent is not None and "ray::" in " ".join(parent.cmdline()):
                found.append(each)
    return found
