"""Distributions of times: how long people think, tools take, users wait."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from slobench.config.base import DurationNs, Model, PositiveDurationNs


class ConstantTime(Model):
    """The same time always."""

    dist: Literal["constant"] = "constant"
    value: DurationNs


class UniformTime(Model):
    """Any time from low to high."""

    dist: Literal["uniform"] = "uniform"
    low: DurationNs
    high: DurationNs

    @model_validator(mode="after")
    def _ordered(self) -> UniformTime:
        if self.low > self.high:
            raise ValueError(f"low ({self.low} ns) is above high ({self.high} ns)")
        return self


class _Bounded(Model):
    max: PositiveDurationNs | None = None
    """Times above are set to it."""


class ExponentialTime(_Bounded):
    """Exponential: as likely to end at any moment; mean before it is bounded by max."""

    dist: Literal["exponential"] = "exponential"
    mean: PositiveDurationNs


class LognormalTime(_Bounded):
    """Lognormal: mostly short, sometimes very long; mean before it is bounded by max."""

    dist: Literal["lognormal"] = "lognormal"
    mean: PositiveDurationNs
    sigma: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]
    """Standard deviation of the logarithm."""


class WeibullTime(_Bounded):
    """Weibull; scale before it is bounded by max."""

    dist: Literal["weibull"] = "weibull"
    scale: PositiveDurationNs
    """The time that a share 1 - 1/e does not exceed; with shape 1 the mean."""
    shape: Annotated[float, Field(ge=0.1, le=100, allow_inf_nan=False)] = 1.0
    """1 is exponential; below it a longer tail."""


class EmpiricalTime(Model):
    """Drawn with replacement from a list."""

    dist: Literal["empirical"] = "empirical"
    values: Annotated[tuple[DurationNs, ...], Field(min_length=1)]


def _constant(value: object) -> object:
    return {"dist": "constant", "value": value} if isinstance(value, str | int | float) else value


_Distribution = Annotated[
    ConstantTime | UniformTime | ExponentialTime | LognormalTime | WeibullTime | EmpiricalTime,
    Field(discriminator="dist"),
]
Durations = Annotated[_Distribution, BeforeValidator(_constant, json_schema_input_type=str | float | _Distribution)]
"""A distribution, or one time as text (`5s`)."""
