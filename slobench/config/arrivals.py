"""Arrival processes as values: when the requests of a class come, and at which rate on average."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, model_validator

from slobench.config.base import DurationNs, FileName, Model, PositiveDurationNs, beside
from slobench.config.pool import recorded_rate
from slobench.config.rates import Level, RateFunction, mean_of, scaled
from slobench.errors import ConfigError
from slobench.units import format_s, parse_duration_ns

Rate = Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False)]
GapCv = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class Constant(Model):
    """Evenly spaced arrivals."""

    process: Literal["constant"] = "constant"
    rate: Rate
    """Offered load, requests/s."""


class Poisson(Model):
    """Memoryless arrivals, exact: gaps are never rescaled to hit the nominal rate."""

    process: Literal["poisson"] = "poisson"
    rate: Rate
    """Offered load, requests/s."""


class Gamma(Model):
    """Renewal arrivals with gamma gaps: cv 0 is constant, 1 Poisson, above 1 bursty [vLLM's --burstiness, as 1/cv²]."""

    process: Literal["gamma"] = "gamma"
    rate: Rate
    """Offered load, requests/s."""
    cv: GapCv = 1.0
    """Coefficient of variation of the gaps."""


class Weibull(Model):
    """Renewal arrivals with Weibull gaps: like gamma, with longer tails above cv 1 [ServeGen, arXiv:2505.09999]."""

    process: Literal["weibull"] = "weibull"
    rate: Rate
    """Offered load, requests/s."""
    cv: Annotated[float, Field(ge=0.01, le=100, allow_inf_nan=False)] = 1.0
    """Coefficient of variation of the gaps; 1 is Poisson."""


class OnOff(Model):
    """Bursts with silence between them, as of a client that works for a while and then rests.

    Gaps while on are gamma and their clock stands still while off. On-times are exponential, off-times gamma
    [an interrupted process: Kuczura, Bell System Technical Journal 52, 1973].
    """

    process: Literal["on-off"] = "on-off"
    on_rate: Rate
    """Requests/s while on."""
    on_cv: GapCv = 1.0
    """Coefficient of variation of the gaps while on."""
    mean_on: PositiveDurationNs
    """How long it is on, on average (exponential)."""
    mean_off: PositiveDurationNs
    """How long it is off, on average (gamma)."""
    off_cv: GapCv = 1.0
    """Coefficient of variation of the off-times; 1: exponential."""
    off_rate: Level = 0.0
    """Requests/s while off (Poisson)."""


class Mmpp(Model):
    """Markov-modulated Poisson arrivals: states in turn, each with a rate and an exponential stay.

    [Fischer and Meier-Hellstern, The MMPP cookbook, Performance Evaluation 18, 1993]
    """

    process: Literal["mmpp"] = "mmpp"
    rates: Annotated[tuple[Level, ...], Field(min_length=2, max_length=100)]
    """Requests/s in each state."""
    mean_stay: Annotated[tuple[PositiveDurationNs, ...], Field(min_length=2, max_length=100)]
    """How long it stays in each, on average; the next state is the next in the list, after the last the first."""

    @model_validator(mode="after")
    def _paired(self) -> Mmpp:
        if len(self.rates) != len(self.mean_stay):
            raise ValueError(
                f"{len(self.rates)} rates and {len(self.mean_stay)} stays; expected one each for every state"
            )
        if not any(self.rates):
            raise ValueError("every rate is 0; expected one above 0")
        return self


class Hawkes(Model):
    """Self-exciting arrivals: each makes more likely that others follow soon, by an exponential kernel.

    [Hawkes, Biometrika 58, 1971]
    """

    process: Literal["hawkes"] = "hawkes"
    rate: Rate
    """Offered load on average, followers included, requests/s."""
    branching: Annotated[float, Field(ge=0, le=0.99, allow_inf_nan=False)]
    """How many others one arrival brings about directly, on average; 0 is Poisson."""
    decay: Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False)]
    """How fast an arrival's influence fades, 1/s: it lasts 1/decay seconds on average."""


class Varying(Model):
    """A load that is meant to change: Poisson or gamma arrivals at a rate that is a function of time.

    Between two arrivals passes an exponential or gamma amount of the integrated rate [Gerhardt and Nelson, INFORMS
    Journal on Computing 21, 2009].
    """

    process: Literal["varying"] = "varying"
    rate: RateFunction
    """Offered load over time, requests/s."""
    cv: GapCv = 1.0
    """1: Poisson. Else gaps are gamma with this coefficient of variation where the rate stands still; 0: even."""

    @model_validator(mode="after")
    def _some(self) -> Varying:
        if mean_of(self.rate) <= 0:
            raise ValueError("the rate is 0 all the time; expected one above 0")
        return self


class Pool(Model):
    """Clients of a recorded pool (ServeGen), each with its own rate and gaps for each window, all together."""

    process: Literal["pool"] = "pool"
    folder: FileName
    """Its files chunk-N-trace.csv; relative to the workload file, else to the working directory."""
    from_: Annotated[DurationNs, Field(alias="from")] = 0
    """Time of the record at which the run starts."""
    to: DurationNs | None = None
    """End of the part over which `rate` is the average; null: the record's. Later arrivals go on as recorded."""
    rate: Rate = 0.0
    """Requests/s on average from `from` to `to`: every client's rate is scaled alike. Left out: as recorded."""

    @model_validator(mode="before")
    @classmethod
    def _as_recorded(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, dict) or data.get("rate") is not None or not isinstance(data.get("folder"), str):
            return data
        begin, end = data.get("from", 0), data.get("to")
        try:
            from_ns, to_ns = parse_duration_ns(begin), None if end is None else parse_duration_ns(end)
            rate = recorded_rate(beside(data["folder"], info), from_ns / 1e9, None if to_ns is None else to_ns / 1e9)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return {**data, "rate": rate}


class Burst(Model):
    """All requests at once, at the start."""

    process: Literal["burst"] = "burst"


Process = Constant | Poisson | Gamma | Weibull | OnOff | Mmpp | Hawkes | Varying | Pool | Burst
Arrivals = Annotated[Process, Field(discriminator="process")]


def mean_rate(arrivals: Arrivals, horizon_ns: int | None = None) -> float:
    """Requests/s on average in the long run; 0 for a burst.

    Of a load that is meant to change: over the first `horizon_ns` (None: over the length of its shape). Of a pool: over
    the part of the record that it names.
    """
    match arrivals:
        case OnOff(on_rate=on_rate, off_rate=off_rate, mean_on=mean_on, mean_off=mean_off):
            return (on_rate * mean_on + off_rate * mean_off) / (mean_on + mean_off)
        case Mmpp(rates=rates, mean_stay=stays):
            return sum(rate * stay for rate, stay in zip(rates, stays, strict=True)) / sum(stays)
        case Varying(rate=function):
            return mean_of(function, None if horizon_ns is None else horizon_ns / 1e9)
        case Burst():
            return 0.0
        case _:
            return arrivals.rate


def at_rate(arrivals: Arrivals, rate: float) -> Arrivals:
    """The same process at another mean rate (that of `mean_rate` without a horizon): every rate in it times a factor.

    Lengths of time stay as they are: how long it is on, how fast influence fades, how a day goes. A burst has no rate
    and stays what it is.
    """
    match arrivals:
        case OnOff(on_rate=on_rate, off_rate=off_rate):
            factor = rate / mean_rate(arrivals)
            return arrivals.model_copy(update={"on_rate": on_rate * factor, "off_rate": off_rate * factor})
        case Mmpp(rates=rates):
            factor = rate / mean_rate(arrivals)
            return arrivals.model_copy(update={"rates": tuple(each * factor for each in rates)})
        case Varying(rate=function):
            return arrivals.model_copy(update={"rate": scaled(function, rate / mean_of(function))})
        case Burst():
            return arrivals
        case _:
            return arrivals.model_copy(update={"rate": rate})


def is_level(arrivals: Arrivals) -> bool:
    """Whether the load is meant to be the same all the time, so that it could be held."""
    return not isinstance(arrivals, Varying | Pool | Burst)


def traits(arrivals: Arrivals) -> dict[str, str]:
    """What sets a process apart from others of its kind, without its rate: {"cv": "2"}; {} where nothing does."""
    match arrivals:
        case Gamma(cv=cv) | Weibull(cv=cv):
            return {"cv": f"{cv:g}"}
        case OnOff(mean_on=on, mean_off=off):
            return {"on": format_s(on / 1e9), "off": format_s(off / 1e9)}
        case Mmpp(rates=rates):
            return {"states": str(len(rates))}
        case Hawkes(branching=branching, decay=decay):
            return {"branching": f"{branching:g}", "decay": f"{decay:g}/s"}
        case Varying(rate=function, cv=cv):
            return {"shape": function.shape} | ({} if cv == 1 else {"cv": f"{cv:g}"})
        case Pool(folder=folder):
            return {"folder": Path(folder).name}
        case _:
            return {}
