"""Parameters of the simulated continuous-batching engine (metrics.md §9)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from slobench.config.base import DurationNs, Model, PositiveDurationNs

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class StepTime(Model):
    """Iteration time in ms: base + token·new + kv·cached + sequence·running + attention·Σ chunk·context."""

    base_ms: NonNegative = 6.0
    token_ms: NonNegative = 0.035
    kv_token_ms: NonNegative = 4.5e-5
    sequence_ms: NonNegative = 0.02
    attention_ms: NonNegative = 0.0
    noise_cv: Annotated[float, Field(ge=0, le=2)] = 0.05
    """Coefficient of variation of the lognormal noise on each iteration; 0: none."""


class Stall(Model):
    """A pause of the whole engine: no step goes on while it lasts. Times count from the engine's start."""

    at: DurationNs
    """When it begins."""
    lasts: PositiveDurationNs
    """How long it is."""
    every: PositiveDurationNs | None = None
    """From one beginning to the next; null: it comes once."""

    @model_validator(mode="after")
    def _leaves_time(self) -> Stall:
        if self.every is not None and self.every <= self.lasts:
            raise ValueError("a stall that never ends: expected `every` longer than `lasts`")
        return self


class Engine(Model):
    """One engine: how long a step takes, how many may run, what the cache holds."""

    step: StepTime = StepTime()
    max_num_seqs: Annotated[int, Field(ge=1)] = 256
    max_num_batched_tokens: Annotated[int, Field(ge=1)] = 2048
    chunked_prefill: bool = True
    kv_tokens: Annotated[int, Field(ge=1)] = 400_000
    """Tokens that the KV cache holds."""
    admission: Literal["reserve", "preempt"] = "preempt"
    """reserve: prompt + output are reserved at admission; preempt: grow, and preempt the newest when full."""
    block_tokens: Annotated[int, Field(ge=1, le=4096)] = 16
    prefix_cache: bool = True
    policy: Literal["fcfs", "priority"] = "fcfs"
    max_model_len: Annotated[int, Field(ge=2)] = 32_768
    vocab: Annotated[int, Field(ge=256)] = 128_000
    adapters: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9._/-]+$")], ...] = ()
    """Names of LoRA adapters that are served besides the model, as fast as the model itself."""
    seed: int = 0
    stalls: tuple[Stall, ...] = ()
    """Pauses, e.g. `[{at: 30s, lasts: 3s, every: 60s}]`."""
