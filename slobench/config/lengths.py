"""Length distributions: how many tokens go in or come out of one request."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from slobench.config.base import Model

Tokens = Annotated[int, Field(ge=1, le=10_000_000)]
MeanTokens = Annotated[float, Field(gt=0, le=10_000_000, allow_inf_nan=False)]


class ConstantLength(Model):
    """The same length for every request."""

    dist: Literal["constant"] = "constant"
    value: Tokens


class UniformLength(Model):
    """Integers from low to high, both included."""

    dist: Literal["uniform"] = "uniform"
    low: Tokens
    high: Tokens

    @model_validator(mode="after")
    def _ordered(self) -> UniformLength:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) is above high ({self.high})")
        return self


class _Clipped(Model):
    min: Tokens = 1
    max: Tokens | None = None

    @model_validator(mode="after")
    def _min_below_max(self) -> _Clipped:
        if self.max is not None and self.min > self.max:
            raise ValueError(f"min ({self.min}) is above max ({self.max})")
        return self


class NormalLength(_Clipped):
    """Normal, rounded, then clipped to [min, max]; mean and std are those before clipping."""

    dist: Literal["normal"] = "normal"
    mean: MeanTokens
    std: Annotated[float, Field(ge=0, le=10_000_000, allow_inf_nan=False)]


class LognormalLength(_Clipped):
    """Lognormal, rounded, then clipped to [min, max]; mean is that before clipping."""

    dist: Literal["lognormal"] = "lognormal"
    mean: MeanTokens
    sigma: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]
    """Standard deviation of the logarithm."""


class WeibullLength(_Clipped):
    """Weibull, rounded, then clipped to [min, max]; the scale is that before clipping."""

    dist: Literal["weibull"] = "weibull"
    scale: MeanTokens
    """The length that a share 1 - 1/e does not exceed; with shape 1 the mean."""
    shape: Annotated[float, Field(ge=0.1, le=100, allow_inf_nan=False)] = 1.0
    """1 is exponential; below it a longer tail."""


class EmpiricalLength(Model):
    """Drawn with replacement from a list."""

    dist: Literal["empirical"] = "empirical"
    values: Annotated[tuple[Tokens, ...], Field(min_length=1)]


class PairedLength(Model):
    """The value at the same place of its list as that of the input: only for `output_tokens` beside `empirical`."""

    dist: Literal["paired"] = "paired"
    values: Annotated[tuple[Tokens, ...], Field(min_length=1)]
    """As many as the `values` of `input_tokens`: pairs are drawn, with what connects the two lengths."""


class NoTokens(Model):
    """None come out: the `output_tokens` of embeddings, and of nothing else."""

    dist: Literal["none"] = "none"


_Plain = ConstantLength | UniformLength | NormalLength | LognormalLength | WeibullLength | EmpiricalLength
PlainLengths = Annotated[_Plain, Field(discriminator="dist")]


class MixtureLength(Model):
    """Each request from one of several distributions, by their weights."""

    dist: Literal["mixture"] = "mixture"
    weights: Annotated[
        tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], Field(min_length=1, max_length=16)
    ]
    """Relative; they need not sum to 1."""
    parts: Annotated[tuple[PlainLengths, ...], Field(min_length=1, max_length=16)]

    @model_validator(mode="after")
    def _one_weight_each(self) -> MixtureLength:
        if len(self.weights) != len(self.parts):
            raise ValueError(f"{len(self.weights)} weights for {len(self.parts)} parts: expected one each")
        return self


Lengths = Annotated[_Plain | MixtureLength, Field(discriminator="dist")]
OutputLengths = Annotated[_Plain | MixtureLength | PairedLength | NoTokens, Field(discriminator="dist")]
