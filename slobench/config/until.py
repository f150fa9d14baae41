"""When a run stops before its length is reached: once the SLO is decided, or once its intervals are narrow enough."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from slobench.config.base import DurationNs, Model, PositiveDurationNs
from slobench.config.clause import METRICS
from slobench.config.problems import clip, unknown
from slobench.errors import ConfigError

ATTAINMENT = "attainment"
DEFAULT_METRICS = ("ttft:p90", "tpot:p50", ATTAINMENT)
"""What `--until-precision 5%` is about; attainment only where there are limits."""

_METRIC = re.compile(rf"({'|'.join(METRICS)}):p([0-9]+(?:\.[0-9]+)?)")
_SHARE = re.compile(r"([0-9]*\.?[0-9]+)\s*%")
Growth = Annotated[float, Field(gt=1, le=10, allow_inf_nan=False)]


class Decided(Model):
    """Stop when every objective is met, or one is missed, whatever more requests would show."""

    rule: Literal["decided"] = "decided"
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """How often the decision may be wrong."""
    batch: DurationNs = 10 * 10**9
    """Shortest batch of requests whose outcome counts as one value; 10 mean E2E where those are longer."""
    first_look: PositiveDurationNs = 30 * 10**9
    """Time of the first look at what has come until then."""
    growth: Growth = 1.1
    """Each look comes at this multiple of the time of the one before."""


class Precise(Model):
    """Stop when the 95 % intervals of these metrics are narrow enough."""

    rule: Literal["precision"] = "precision"
    within: Annotated[dict[str, Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)]
    """Metric, `ttft:p99` or `attainment` -> half-width of its interval over its value."""
    first_look: PositiveDurationNs = 30 * 10**9
    """Time of the first look at what has come until then."""
    growth: Growth = 1.25
    """Each look comes at this multiple of the time of the one before."""

    @field_validator("within")
    @classmethod
    def _known(cls, within: dict[str, float]) -> dict[str, float]:
        for name in within:
            try:
                metric_of(name)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return within


Until = Annotated[Decided | Precise, Field(discriminator="rule")]


def metric_of(name: str) -> tuple[str, float | None]:
    """(metric, quantile) of `ttft:p99`; ("attainment", None). ConfigError where it names none."""
    if name == ATTAINMENT:
        return ATTAINMENT, None
    match = _METRIC.fullmatch(name)
    if match is None or not 0 < float(match[2]) < 100:
        known = [f"{metric}:p99" for metric in METRICS]
        raise ConfigError(unknown("no metric with an interval named", name, [ATTAINMENT, *known]))
    return match[1], float(match[2]) / 100


def parse_precision(text: str, flag: str = "--until-precision") -> dict[str, float]:
    """Read `5%`, or `ttft:p99=5%,attainment=1%`, as relative half-widths by metric."""
    if match := _SHARE.fullmatch(text.strip()):
        return dict.fromkeys(DEFAULT_METRICS, _share(match[1], flag, text))
    within: dict[str, float] = {}
    for part in text.split(","):
        name, equals, width = (each.strip() for each in part.partition("="))
        match = _SHARE.fullmatch(width)
        if not equals or match is None or name in within:
            raise ConfigError(f"{flag}: cannot read {clip(text)}\n  expected  5%, or ttft:p99=5%,attainment=1%")
        metric_of(name)
        within[name] = _share(match[1], flag, text)
    return within


def _share(percent: str, flag: str, text: str) -> float:
    share = float(percent) / 100
    if not 0 < share < 1:
        raise ConfigError(f"{flag}: cannot be {clip(text)}\n  expected  more than 0 % and less than 100 %")
    return share
