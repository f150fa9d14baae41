"""What the parent tells a worker: one JSON line on its standard input, secrets included, so not in argv."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import orjson

from slobench.generate.tally import Share
from slobench.wire.endpoint import Endpoint

Limits = Mapping[str, list[tuple[str, float, float]]]
"""Class name -> (metric, limit_s, per_token_s): what requests are judged by, live.

A class that is in neither this nor the deadlines is not judged where another one is.
"""
Deadlines = Mapping[str, tuple[float, float, float]]
"""Class name -> (first_s, each_s, share), config.slo.Deadline."""


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
    deadlines: Deadlines = field(default_factory=dict)
    grows: bool = False  # the plan is only the beginning: more comes by "extend", and only "stop" ends the offer
    shares: tuple[Share, ...] = ()  # what is counted of each probe of a plan that grows
    cancelled: Mapping[str, str] = field(default_factory=dict)  # class -> config.slo.CancelledAs, where not "judged"
    goes_on: tuple[str, ...] = ()  # classes whose sessions go on after a failure
    until_first_token: tuple[str, ...] = ()  # classes whose users wait for the first token only
    endpoints: tuple[Endpoint, ...] = ()  # by class code; empty: every class goes to `endpoint`
    texts: Mapping[str, str] = field(default_factory=dict)  # class -> text file that its prompts are made of
    images: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # class -> width and height of its images

    def endpoints_of(self, classes: int) -> tuple[Endpoint, ...]:
        """Where the requests of each of so many classes go, by class code."""
        return self.endpoints or (self.endpoint,) * classes

    def to_json(self) -> bytes:
        """One line of JSON."""
        return orjson.dumps(asdict(self)) + b"\n"

    @classmethod
    def from_json(cls, line: bytes) -> Job:
        """Read `to_json` back."""
        raw: dict[str, Any] = orjson.loads(line)
        raw["endpoint"] = _endpoint(raw["endpoint"])
        raw["endpoints"] = tuple(map(_endpoint, raw["endpoints"]))
        raw |= {name: tuple(raw[name]) for name in ("goes_on", "until_first_token")}
        raw["images"] = {name: tuple(size) for name, size in raw["images"].items()}
        raw["shares"] = tuple(Share.from_dict(share) for share in raw["shares"])
        return cls(**raw)


def _endpoint(raw: Mapping[str, Any]) -> Endpoint:
    values = {field.name: raw[field.name] for field in fields(Endpoint)}
    if values["token_ids"] is not None:
        values["token_ids"] = tuple(values["token_ids"])
    return Endpoint(**values)
