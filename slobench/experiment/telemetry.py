"""From a target's settings to what is sampled beside its load."""

from __future__ import annotations

import http.client
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from slobench.config.load import AnyTarget
from slobench.config.target import CommandTarget, NullTarget, RemoteTarget, SimTarget, VllmTarget
from slobench.config.telemetry import Telemetry
from slobench.errors import ConfigError
from slobench.experiment.setup import is_local
from slobench.records.schema import SERVER
from slobench.targets.base import RunningTarget, questions
from slobench.targets.http import Server, not_reached
from slobench.telemetry.gpu import Gpus, Nvml, find_gpus, load_nvml
from slobench.telemetry.host import HostSource
from slobench.telemetry.sampler import Sampler
from slobench.telemetry.scrape import Fetch, ServerSource
from slobench.telemetry.source import SampleError, Source
from slobench.workload.sharing import Cache

_ACCEPT = "text/plain;version=0.0.4"
_TIMEOUT_S = 5.0
_HINT = "; SGLang tells them with --enable-metrics; another address goes into telemetry.urls"


@dataclass(frozen=True, slots=True)
class Watching:
    """A sampler that has taken its first samples. notes: what is to be said of what cannot be sampled."""

    sampler: Sampler
    servers: Mapping[str, ServerSource]  # by address
    gpus: Gpus
    notes: tuple[str, ...]

    @property
    def cache(self) -> Cache | None:
        """The prefix cache that the servers tell of; of several, which share the requests, only their block size.

        None where they do not tell it, or differ.
        """
        caches = [cache for server in self.servers.values() for cache in server.caches]
        sizes = {cache.block_tokens for cache in caches}
        if len(sizes) != 1:
            return None
        return caches[0] if len(caches) == 1 else Cache(sizes.pop())

    def told(self) -> dict[str, Any]:
        """What run.json keeps of it."""
        servers = [{"source": s.name, "url": url, "kind": s.kind} for url, s in self.servers.items()]
        gpus = [{"source": gpu.name, "name": gpu.model} for gpu in self.gpus.sources]
        absent = {} if self.gpus.absent is None else {"gpus_absent": self.gpus.absent}
        return self.sampler.told() | {"servers": servers, "gpus": gpus, **absent}


def watch(target: AnyTarget, running: RunningTarget, spool: Path, nvml: Nvml | None = None) -> Watching:
    """Find what can be sampled of a running target, and take the first sample of all of it.

    Raises ConfigError where an address of metrics that the settings name does not answer.
    """
    endpoint = running.endpoint
    servers, notes = servers_of(target, endpoint.url, endpoint.headers, known="version" in running.observed)
    gpus = gpus_of(target, nvml)
    lanes: list[Sequence[Source]] = [*([server] for server in servers.values()), gpus.sources, [HostSource()]]
    sampler = Sampler(spool, lanes, _settings(target).interval)
    sampler.begin()
    return Watching(sampler, servers, gpus, notes)


def servers_of(
    target: AnyTarget, url: str, headers: Mapping[str, str], *, known: bool
) -> tuple[dict[str, ServerSource], tuple[str, ...]]:
    """The servers that tell something, by address, and a note where the target's own address tells nothing.

    url: of the running target; headers: its own, secrets included. known: it said what it is.
    Raises ConfigError where an address that the settings name does not answer.
    """
    settings = _settings(target)
    if settings.urls is None:
        own = f"{url}/metrics"
        source = ServerSource(SERVER, _fetch(target, own, url, headers))
        try:
            source.look()
        except SampleError as error:
            return {}, (f"no server metrics: {own}: {error}{'' if known else _HINT}",)
        return {own: source}, ()
    many = len(settings.urls) > 1
    found = {}
    for number, address in enumerate(settings.urls):
        source = ServerSource(f"{SERVER}-{number}" if many else SERVER, _fetch(target, address, url, headers))
        try:
            source.look()
        except SampleError as error:
            raise ConfigError(
                f"telemetry.urls: {address}: {error}\n"
                "  expected  the server's Prometheus metrics; leave it out for the target's own /metrics, [] for none"
            ) from None
        found[address] = source
    return found, ()


def _settings(target: AnyTarget) -> Telemetry:
    return Telemetry(urls=(), gpus=()) if isinstance(target, NullTarget) else target.telemetry


def _fetch(target: AnyTarget, address: str, url: str, headers: Mapping[str, str]) -> Fetch:
    """How to get one address. The target's headers go to its own host, under its own scheme, and nowhere else."""
    aim, own = urlsplit(address), urlsplit(url)
    same = (aim.scheme, aim.hostname) == (own.scheme, own.hostname)
    server = questions(target.talk, f"{aim.scheme}://{aim.netloc}", headers if same else {})
    return lambda: _text(server, aim.path)


def _text(server: Server, path: str) -> str:
    try:
        answer = server.get(path, timeout_s=_TIMEOUT_S, accept=_ACCEPT)
    except (OSError, http.client.HTTPException) as error:
        raise SampleError(str(not_reached(server.url, error)).splitlines()[0]) from None
    if answer.status != 200:
        raise SampleError(f"HTTP {answer.status}")
    return answer.body.decode(errors="replace")


def gpus_of(target: AnyTarget, nvml: Nvml | None = None) -> Gpus:
    """The GPUs of this machine, where the server is on it and could use one."""
    settings = _settings(target)
    if settings.gpus is None and not is_local(target):
        return Gpus((), "the server is on another machine")
    wanted = () if settings.gpus is None and isinstance(target, SimTarget) else settings.gpus
    environ = target.environ if isinstance(target, VllmTarget | CommandTarget) else {}
    inherited = None if isinstance(target, RemoteTarget) else os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = environ.get("CUDA_VISIBLE_DEVICES", inherited)
    return find_gpus(nvml or (load_nvml() if wanted != () else None), wanted, visible)
