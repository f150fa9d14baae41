"""Where requests go and how they are worded; knows no socket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server as the generator sees it: everything needed to word and send a request.

    `headers` may hold secrets: never stored, logged or put in an argument vector.
    Timeouts in ns, None = none.
    """

    url: str  # scheme://host[:port][/prefix], no /v1
    model: str
    api: Literal["completions", "chat"] = "completions"
    stream: bool = True
    transport: Literal["fast", "aiohttp"] = "fast"
    connection: Literal["pooled", "per-request", "per-session"] = "pooled"
    proxy: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    insecure: bool = False
    ca_bundle: str | None = None
    connect_timeout_ns: int | None = 10 * 10**9
    first_token_timeout_ns: int | None = None
    idle_timeout_ns: int | None = None
    total_timeout_ns: int = 120 * 10**9
    token_ids: tuple[int, int] | None = None
    forces_length: bool = False
    per_event_usage: bool = False
    return_token_ids: bool = False
    cache_salt: bool = False
    extra_body: Mapping[str, object] = field(default_factory=dict)
    max_model_len: int | None = None
