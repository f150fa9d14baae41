"""A target: how to start or reach a server, and how to talk to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from slobench.config.base import DurationNs, Model, PositiveDurationNs
from slobench.config.engine import Engine
from slobench.config.telemetry import Telemetry
from slobench.config.wire import TAKES_IDS, ExtraBody, Headers
from slobench.names import Api

S, MS = 10**9, 10**6


class Timeouts(Model):
    """Each its own outcome; null: none."""

    connect: PositiveDurationNs | None = 10 * S
    first_token: PositiveDurationNs | None = None
    idle: PositiveDurationNs | None = None
    total: PositiveDurationNs | None = None
    """null: max(10 × E2E limit, 120 s)."""


class Talk(Model):
    """How requests are made and read; the same for every kind of target."""

    model: str | None = None
    """Model name in requests; null: the first of /v1/models."""
    api: Api = "completions"
    """Which call of the server; embeddings are not streamed and have no tokens to wait for."""
    stream: bool = True
    transport: Literal["fast", "aiohttp"] = "fast"
    receiver: Literal["auto", "native", "python"] = "auto"
    """What reads streams (transport fast): the module in C, its twin in Python, or the first where it was built."""
    connection: Literal["pooled", "per-request", "per-session"] = "pooled"
    proxy: str | None = None
    """HTTP proxy (transport aiohttp); the environment's proxy variables are never used."""
    headers: Headers = Field(default_factory=dict)
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
    extra_body: ExtraBody = Field(default_factory=dict)

    @model_validator(mode="after")
    def _can_be_done(self) -> Talk:
        if self.token_ids is not None:
            if self.api not in TAKES_IDS:
                raise ValueError(f"token_ids needs api: {' or '.join(TAKES_IDS)} ({self.api} takes text)")
            if self.token_ids[1] - self.token_ids[0] < 256:
                raise ValueError(f"token_ids {list(self.token_ids)}: expected a range [low, high) of at least 256 ids")
        if self.proxy and self.transport != "aiohttp":
            raise ValueError("proxy needs transport: aiohttp")
        if self.api_key_env and self.api_key_file:
            raise ValueError("two places of the API key: expected at most one of api_key_env and api_key_file")
        return self


def _over(**defaults: object) -> BeforeValidator:
    """Let a `talk` section change single keys of a target's own defaults, and keep the others."""

    def merge(given: object) -> object:
        if not isinstance(given, Mapping):
            return given
        takes_ids = given.get("api", "completions") in TAKES_IDS
        return {**{key: value for key, value in defaults.items() if takes_ids or key != "token_ids"}, **given}

    return BeforeValidator(merge)


def _base_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"not a URL: {error}") from None
    if not parts.hostname or port == 0 or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError("is no URL of a server: expected scheme://host[:port][/prefix]")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(
            "has a user, query or fragment: expected scheme://host[:port][/prefix]; a key belongs in talk.api_key_env"
        )
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


_SIM_TALK = {"token_ids": (100, 4000), "forces_length": True}
_VLLM_TALK = {**_SIM_TALK, "return_token_ids": True, "cache_salt": True}
BaseUrl = Annotated[str, Field(pattern=r"^https?://"), AfterValidator(_base_url)]


Gpus = Annotated[int, Field(ge=1)] | None
Price = Annotated[float, Field(gt=0, allow_inf_nan=False)] | None


class _Server(Model):
    """What is said of every target that serves tokens."""

    kind: str
    about: str = ""
    gpus: Gpus = None
    """GPUs behind the target; null: not known, and nothing is given per GPU."""
    price_per_hour: Price = None
    """What the whole target costs an hour, in $, for the cost of good tokens; null: not known."""
    telemetry: Telemetry = Telemetry()


class SimTarget(_Server):
    """The embedded simulated engine, started on a free local port."""

    kind: Literal["sim"]
    engine: Engine = Engine()
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """0: a free one."""
    talk: Annotated[Talk, _over(**_SIM_TALK)] = Talk(token_ids=(100, 4000), forces_length=True)


class NullTarget(Model):
    """The null server: it computes nothing and sends fixed replies at fixed times, to try this client itself."""

    kind: Literal["null-server"]
    about: str = ""
    first_token: DurationNs = 50 * MS
    """From a request to its first token, at the earliest."""
    gap: PositiveDurationNs = 20 * MS
    """Between the tokens of a reply; a multiple of `step`."""
    step: PositiveDurationNs = 20 * MS
    """Tokens that are due leave together at multiples of it, as those of a batch do."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """0: a free one."""
    talk: Annotated[Talk, _over(**_SIM_TALK)] = Talk(token_ids=(100, 4000), forces_length=True)

    @model_validator(mode="after")
    def _in_steps(self) -> NullTarget:
        if self.gap % self.step:
            raise ValueError("gap is no multiple of step: expected e.g. gap: 20ms with step: 5ms")
        if self.talk.api not in {"completions", "chat"}:
            raise ValueError(f"the null server has no api {self.talk.api}: expected completions or chat")
        return self


class RemoteTarget(_Server):
    """Any OpenAI-compatible endpoint that runs already."""

    kind: Literal["remote"]
    url: BaseUrl
    """scheme://host[:port][/prefix]; a /v1 at its end is left out."""
    talk: Talk = Talk()


class VllmTarget(_Server):
    """A vLLM server, started and stopped by us."""

    kind: Literal["vllm"]
    env: str | None = None
    """Folder of the environment that vLLM is installed in (its bin/vllm is run); null: vllm on PATH."""
    serve: str
    """The model that is served: a folder or a name."""
    args: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """`vllm serve` options by their long names; true: --name, false: --no-name."""
    environ: dict[str, str] = Field(default_factory=dict)
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """0: a free one."""
    ready_timeout: PositiveDurationNs = 600 * S
    stop_timeout: PositiveDurationNs = 20 * S
    talk: Annotated[Talk, _over(**_VLLM_TALK)] = Talk(
        token_ids=(100, 4000), forces_length=True, return_token_ids=True, cache_salt=True
    )


class CommandTarget(_Server):
    """Any other server that a command starts."""

    kind: Literal["command"]
    argv: Annotated[tuple[str, ...], Field(min_length=1)]
    """`{port}` is replaced by the port."""
    environ: dict[str, str] = Field(default_factory=dict)
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    ready_path: str = "/health"
    ready_timeout: PositiveDurationNs = 300 * S
    stop_timeout: PositiveDurationNs = 20 * S
    talk: Talk = Talk()


Target = Annotated[SimTarget | NullTarget | RemoteTarget | VllmTarget | CommandTarget, Field(discriminator="kind")]
