"""Where generator processes run: on this machine, or on the hosts of a Ray cluster."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from slobench.config.problems import clip
from slobench.errors import ConfigError

MOST = 256
_RAY = re.compile(r"(?P<where>ray(?:://[^/\s]+)?)(?:/(?P<workers>[0-9]{1,4}))?")
_EXPECTED = f"a number from 1 to {MOST}, ray, ray/8, ray://HOST:10001 or ray://HOST:10001/8"


@dataclass(frozen=True, slots=True)
class OnRay:
    """Workers on a Ray cluster.

    address: of its Ray Client server, `ray://HOST:PORT`; None: the cluster that RAY_ADDRESS names or that this
    machine belongs to. workers: in all; None: one on each node that has a CPU to give.
    """

    address: str | None = None
    workers: int | None = None

    def __str__(self) -> str:
        count = "" if self.workers is None else f"/{self.workers}"
        return (self.address or "ray") + count


Workers = int | OnRay
"""So many processes on this machine, or workers on the nodes of a cluster."""


def parse_workers(text: str | int) -> Workers:
    """Read the value of `--workers`. Raises ConfigError."""
    said = str(text).strip()
    if said.isascii() and said.isdigit() and 1 <= int(said) <= MOST:
        return int(said)
    found = _RAY.fullmatch(said)
    count = None if found is None or found["workers"] is None else int(found["workers"])
    if found is None or (count is not None and not 1 <= count <= MOST):
        raise ConfigError(f"cannot use --workers {clip(said)}\n  expected  {_EXPECTED}")
    return OnRay(None if found["where"] == "ray" else found["where"], count)


def _given(value: object) -> object:
    if isinstance(value, OnRay) or (isinstance(value, int | str) and not isinstance(value, bool)):
        try:
            return value if isinstance(value, OnRay) else parse_workers(value)
        except ConfigError:
            pass
    raise ValueError(f"expected {_EXPECTED}")


WorkersField = Annotated[
    Workers,
    BeforeValidator(_given),
    PlainSerializer(lambda value: value if isinstance(value, int) else str(value)),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MOST},
                {"type": "string", "pattern": r"^ray(://[^/\s]+)?(/[0-9]{1,4})?$"},
            ]
        }
    ),
]
"""A setting that says so in a file."""
