"""A target: how to start or reach a server, and how to talk to it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from slobench.config.base import DurationNs, Model
from slobench.config.engine import Engine

S = 10**9


class Timeouts(Model):
    """Each its own outcome; null: none."""

    connect: DurationNs | None = 10 * S
    first_token: DurationNs | None = None
    idle: DurationNs | None = None
    total: DurationNs | None = None
    """null: max(10 × E2E limit, 120 s)."""


class Talk(Model):
    """How requests are made and read; the same for every kind of target."""

    model: str | None = None
    """Model name in requests; null: the first of /v1/models."""
    api: Literal["completions", "chat"] = "completions"
    stream: bool = True
    transport: Literal["fast", "aiohttp"] = "fast"
    connection: Literal["pooled", "per-request", "per-session"] = "pooled"
    proxy: str | None = None
    """HTTP proxy (transport aiohttp); the environment's proxy variables are never used."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Extra request headers. Values never reach a file: put secrets in `api_key_env`."""
    api_key_env: str | None = None
    api_key_file: str | None = None
    insecure: bool = False
    """Do not verify TLS certificates."""
    ca_bundle: str | None = None
    timeouts: Timeouts = Timeouts()
    token_ids: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]] | None = None
    """Prompts as token ids from [low, high), exact in length; null: as text."""
    forces_length: bool = False
    """The server honours `ignore_eos`: send it, and count a shorter reply as truncated."""
    per_event_usage: bool = False
    return_token_ids: bool = False
    cache_salt: bool = False
    """The server takes `cache_salt`: send the run's nonce, so that no earlier run's cache is met."""
    extra_body: dict[str, object] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _can_be_done(self) -> Talk:
        if self.token_ids is not None:
            if self.api != "completions":
                raise ValueError("token_ids needs api: completions (chat takes text)")
            if self.token_ids[1] - self.token_ids[0] < 256:
                raise ValueError(f"token_ids {list(self.token_ids)}: expected a range [low, high) of at least 256 ids")
        if self.proxy and self.transport != "aiohttp":
            raise ValueError("proxy needs transport: aiohttp")
        if self.api_key_env and self.api_key_file:
            raise ValueError("expected at most one of api_key_env and api_key_file")
        return self


class SimTarget(Model):
    """The embedded simulated engine, started on a free local port."""

    kind: Literal["sim"]
    about: str = ""
    engine: Engine = Engine()
    talk: Talk = Talk(token_ids=(100, 4000), forces_length=True)


class RemoteTarget(Model):
    """Any OpenAI-compatible endpoint that runs already."""

    kind: Literal["remote"]
    about: str = ""
    url: Annotated[str, Field(pattern=r"^https?://")]
    talk: Talk = Talk()


class VllmTarget(Model):
    """A vLLM server, started and stopped by us."""

    kind: Literal["vllm"]
    about: str = ""
    env: str | None = None
    """Folder of the environment that vLLM is installed in (its bin/vllm is run); null: vllm on PATH."""
    serve: str
    """The model that is served: a folder or a name."""
    args: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """`vllm serve` options by their long names; true: --name, false: --no-name."""
    environ: dict[str, str] = Field(default_factory=dict)
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """0: a free one."""
    ready_timeout: DurationNs = 600 * S
    stop_timeout: DurationNs = 20 * S
    talk: Talk = Talk(token_ids=(100, 4000), forces_length=True, return_token_ids=True, cache_salt=True)


class CommandTarget(Model):
    """Any other server that a command starts."""

    kind: Literal["command"]
    about: str = ""
    argv: Annotated[tuple[str, ...], Field(min_length=1)]
    """`{port}` is replaced by the port."""
    environ: dict[str, str] = Field(default_factory=dict)
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    ready_path: str = "/health"
    ready_timeout: DurationNs = 300 * S
    stop_timeout: DurationNs = 20 * S
    talk: Talk = Talk()


Target = Annotated[SimTarget | RemoteTarget | VllmTarget | CommandTarget, Field(discriminator="kind")]
