"""A target that runs: where requests go, what was observed of it, whether it lives, how it is stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from slobench.config.target import Talk
from slobench.targets.failures import explain
from slobench.targets.http import Server
from slobench.targets.process import LOG_BYTES, GuardedServer
from slobench.wire.endpoint import Endpoint

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Launch:
    """What a start needs besides the target's own settings.

    `headers` hold the resolved secrets. `e2e_limit_s`: the tightest E2E limit of the SLO, for the total timeout.
    """

    log: Path
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    e2e_limit_s: float | None = None
    progress: Progress = lambda _: None


@dataclass(slots=True, eq=False)
class RunningTarget:
    """A server that answers. `observed` goes into run.json as it is; no secret is in it."""

    endpoint: Endpoint
    observed: dict[str, object]
    server: GuardedServer | None = None  # None: not ours to watch or stop
    lent: bool = False
    """Another one's, who will stop it."""

    @property
    def pid(self) -> int | None:
        """The server's process on this host; None for a remote one."""
        return self.server.pid if self.server else None

    def alive(self) -> bool:
        """Whether the server process runs; a remote one is taken to."""
        return self.server is None or self.server.alive()

    def failure(self) -> str | None:
        """Why it ended, with the end of its log; None while it is alive."""
        if self.server is None or self.server.alive():
            return None
        return explain(
            "the server ended during the run",
            self.server.logged(LOG_BYTES),
            self.server.exit_code,
            path=str(self.server.log),
            tail=self.server.tail(),
        )

    def stop(self) -> None:
        """End the server and everything it started; nothing for a remote or a lent one."""
        if self.server is not None and not self.lent:
            self.server.stop()


def questions(talk: Talk, url: str, headers: Mapping[str, str]) -> Server:
    """Return the way to ask the server at `url`, under the same TLS and proxy settings as the requests."""
    return Server(url, headers, talk.insecure, talk.ca_bundle, talk.proxy)


@dataclass(frozen=True, slots=True)
class Found:
    """What a probe of the running server found."""

    url: str
    model: str
    max_model_len: int | None = None
    forces_length: bool = False


def total_timeout_ns(talk: Talk, e2e_limit_s: float | None) -> int:
    """How long a whole request may take: as set, else by the SLO's tightest E2E limit."""
    return talk.timeouts.total or round(max(10 * (e2e_limit_s or 0), 120) * 1e9)


def lent(running: RunningTarget, talk: Talk, e2e_limit_s: float | None) -> RunningTarget:
    """Return a target that runs already, to one who does not stop it; its total timeout follows from another SLO."""
    known = replace(running.endpoint, total_timeout_ns=total_timeout_ns(talk, e2e_limit_s))
    return replace(running, endpoint=known, lent=True)


def endpoint(talk: Talk, found: Found, launch: Launch) -> Endpoint:
    """Where and how requests go: the settings as asked, completed by what was found."""
    times = talk.timeouts
    return Endpoint(
        url=found.url,
        model=found.model,
        api=talk.api,
        stream=talk.stream and talk.api != "embeddings",
        transport=talk.transport,
        receiver=talk.receiver,
        connection=talk.connection,
        proxy=talk.proxy,
        headers=dict(launch.headers),
        insecure=talk.insecure,
        ca_bundle=talk.ca_bundle,
        connect_timeout_ns=times.connect,
        first_token_timeout_ns=times.first_token,
        idle_timeout_ns=times.idle,
        total_timeout_ns=total_timeout_ns(talk, launch.e2e_limit_s),
        token_ids=talk.token_ids,
        forces_length=talk.forces_length or found.forces_length,
        per_event_usage=talk.per_event_usage,
        return_token_ids=talk.return_token_ids,
        cache_salt=talk.cache_salt,
        extra_body=dict(talk.extra_body),
        max_model_len=found.max_model_len,
    )
