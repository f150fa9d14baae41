"""What the prompts of a class hold: beginnings that they share, text of a real corpus, images."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from slobench.config.base import Model
from slobench.config.lengths import Lengths

MOST_PREFIXES = 1_000_000


class Prefix(Model):
    """Beginnings that prompts share: each prompt, or session, begins with one of a pool, picked by popularity."""

    tokens: Lengths | None = None
    """Length of each beginning, drawn once for all runs; null: a constant that `hit_rate` asks for."""
    pool: Annotated[int, Field(ge=1, le=MOST_PREFIXES)] | None = None
    """How many beginnings there are; null: as many as `hit_rate` asks for, or 1 where it asks for nothing."""
    zipf: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = 0.0
    """Popularity: the kth beginning is picked in proportion to 1/k to this power; 0 is all alike."""
    hit_rate: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] | None = None
    """Share of the class's prompt tokens that a prefix cache without bounds is to find, in blocks of 16 tokens, over
    the plan, from empty; `tokens` or `pool` then follows from it."""

    @model_validator(mode="after")
    def _solvable(self) -> Prefix:
        if self.hit_rate is None and self.tokens is None:
            raise ValueError("expected `tokens`, how long the shared beginnings are, or the `hit_rate` they are for")
        if self.hit_rate is not None and (self.tokens is None) == (self.pool is None):
            given = "neither `tokens` nor `pool`" if self.tokens is None else "both `tokens` and `pool`"
            raise ValueError(f"hit_rate with {given}: expected one of the two, the other follows from it")
        return self


class Images(Model):
    """Images in the chat requests of a class: synthetic PNGs, of which no two are the same."""

    count: Annotated[int, Field(ge=1, le=100)] | Lengths | None = None
    """Images of a request; null: 1, in a recorded class as many as there were."""
    width: Annotated[int, Field(ge=8, le=4096)] = 512
    """Pixels."""
    height: Annotated[int, Field(ge=8, le=4096)] = 512
    """Pixels."""
