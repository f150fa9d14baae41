"""The load generators that the ladder measures: one small module each, and what they have in common."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("PEERS", ROOT / ".cache" / "peers"))
"""Where scripts/peers.sh puts an environment a peer; the tokenizer and a Hugging Face cache that holds it."""

TOKENIZER = FOLDER / "tokenizer"
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Load:
    """Poisson arrivals of equal requests: prompts of about 64 tokens, replies of `tokens`."""

    rate: float
    requests: int
    tokens: int


@dataclass(frozen=True)
class Said:
    """What a tool reports of each request that went well, in any order; times of one row belong together.

    start_s: when it was sent, on the tool's own clock. lag_ms: how long after its due time, where the tool says so.
    due_span_s: from the first to the last due time of all requests, where the tool keeps its schedule. verdict: its
    own judgement of the run, where it has one.
    """

    start_s: Floats
    ttft_ms: Floats
    tpot_ms: Floats
    lag_ms: Floats | None = None
    due_span_s: float | None = None
    verdict: str | None = None


Arguments = Callable[[Load, str, Path], list[str]]
"""Of the load, the server's URL and a folder of the run."""


@dataclass(frozen=True)
class Tool:
    """One load generator. read: of the folder of the run."""

    name: str
    program: Path
    arguments: Arguments
    read: Callable[[Path], Said]
    distribution: str | None = None
    first: int = 0  # where its ladder begins

    def version(self) -> str | None:
        """What its environment says; None for what is built here."""
        packages = [str(each) for each in self.program.parent.parent.glob("lib/python3*/site-packages")]
        wanted = self.distribution
        found = [each for each in distributions(path=packages) if wanted and each.name == wanted]
        return found[0].version if found else None


def only(folder: Path, pattern: str) -> Path:
    """Return the one file of that name; an error says what the tool left instead."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise FileNotFoundError(f"{len(found)} files {pattern}")
    return found[0]


def peer(name: str, program: str) -> Path:
    """Return where scripts/peers.sh puts a program."""
    return FOLDER / name / "bin" / program
