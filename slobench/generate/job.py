"""What the parent tells a worker: one JSON line on its standard input, secrets included, so not in argv."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import orjson

from slobench.wire.endpoint import Endpoint

Limits = Mapping[str, list[tuple[str, float, float]]]
"""Class name -> (metric, limit_s, per_token_s): what the live view judges by."""


@dataclass(frozen=True, slots=True)
class Job:
    """The share of a run that one worker generates."""

    worker: int
    workers: int
    plan: str  # path of the plan as an Arrow IPC file
    spool: str  # folder
    counters: str  # path of the counter file
    endpoint: Endpoint
    seed: int
    nonce: str
    shared_prefix_tokens: Mapping[str, int]
    limits: Limits
    closed: bool
    think_ns: int
    max_in_flight: int

    def to_json(self) -> bytes:
        """One line of JSON."""
        return orjson.dumps(asdict(self)) + b"\n"

    @classmethod
    def from_json(cls, line: bytes) -> Job:
        """Read `to_json` back."""
        raw: dict[str, Any] = orjson.loads(line)
        endpoint = raw.pop("endpoint")
        if endpoint["token_ids"] is not None:
            endpoint["token_ids"] = tuple(endpoint["token_ids"])
        known = {field.name for field in fields(Endpoint)}
        return cls(endpoint=Endpoint(**{key: endpoint[key] for key in known}), **raw)
