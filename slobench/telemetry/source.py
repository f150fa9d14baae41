"""What can be sampled: a server, a GPU, this host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Reading:
    """One value under its name in records.schema; labels as in an exposition, without braces."""

    name: str
    labels: str
    value: float


class SampleError(Exception):
    """A source could not be sampled this time; the text says why, on one line and without secrets."""


class Source(Protocol):
    """One source of samples."""

    @property
    def name(self) -> str:
        """The source's name in telemetry.parquet: "server", "gpu-0", "host"."""
        ...

    def sample(self) -> Sequence[Reading]:
        """Read it now. Raises SampleError where it does not answer."""
        ...
