"""Rate functions: a load that is meant to change over time, as a value."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, model_validator

from slobench.config.base import DurationNs, FileName, Model, PositiveDurationNs, beside

Level = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
"""A rate that may be 0 for a while, requests/s."""

MAX_POINTS = 100_000


class Ramp(Model):
    """A straight line from one rate to another, which then holds on."""

    shape: Literal["ramp"] = "ramp"
    from_: Annotated[Level, Field(alias="from")]
    """Rate at the start, requests/s."""
    to: Level
    """Rate at the end and from then on, requests/s."""
    over: PositiveDurationNs
    """How long the way from one to the other takes."""


class Step(Model):
    """One stage of a load in steps."""

    rate: Level
    """Requests/s of this stage alone."""
    for_: Annotated[PositiveDurationNs, Field(alias="for")]
    """How long the stage lasts."""


class Steps(Model):
    """Stages of constant rate, one after another; the last one holds on."""

    shape: Literal["steps"] = "steps"
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=MAX_POINTS)]
    """The stages, e.g. [{rate: 2, for: 1m}, {rate: 8, for: 30s}]."""


class Spike(Model):
    """A base rate with one peak: it rises, holds and falls in straight lines."""

    shape: Literal["spike"] = "spike"
    base: Level
    """Rate before and after, requests/s."""
    peak: Level
    """Rate at the top, requests/s."""
    at: DurationNs
    """When the rise begins."""
    rise: DurationNs = 0
    """How long the rise takes; 0: a jump."""
    hold: PositiveDurationNs
    """How long the top lasts."""
    fall: DurationNs = 0
    """How long the way back takes; 0: a jump."""


class Sinusoid(Model):
    """mean + amplitude · sin(2π (t/period + phase))."""

    shape: Literal["sinusoid"] = "sinusoid"
    mean: Level
    """Rate in the middle, requests/s."""
    amplitude: Level
    """From the middle to the top, at most `mean`."""
    period: PositiveDurationNs
    """From one top to the next."""
    phase: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    """Where in the period the run starts: 0 rising through the middle, 0.25 at the top."""

    @model_validator(mode="after")
    def _never_negative(self) -> Sinusoid:
        if self.amplitude > self.mean:
            raise ValueError(
                f"amplitude {self.amplitude:g} takes the rate below 0; expected at most the mean, {self.mean:g}"
            )
        return self


class Diurnal(Model):
    """A day of users as one cosine, given by its mean and by how deep the night is."""

    shape: Literal["diurnal"] = "diurnal"
    mean: Level
    """Rate on average over a day, requests/s."""
    trough: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    """Lowest rate / highest rate."""
    peak_at: DurationNs = 0
    """When the highest rate comes, from the start of the run."""
    period: PositiveDurationNs = 24 * 3600 * 10**9
    """A shorter one is a day in fast motion."""


class Points(Model):
    """Straight lines between given points; before the first and after the last the rate holds on.

    Two points of the same time are a jump. `file` is read where there are no `points`: CSV with a head `t_s,rate`.
    """

    shape: Literal["points"] = "points"
    points: Annotated[tuple[tuple[DurationNs, Level], ...], Field(max_length=MAX_POINTS)] = ()
    """Pairs of time and requests/s, e.g. [[0s, 2], [10m, 8]]."""
    file: FileName | None = None
    """A CSV file of them; relative to the workload file, else to the working directory."""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any, info: ValidationInfo) -> Any:
        if isinstance(data, dict) and data.get("file") is not None and data.get("points") is None:
            return {**data, "points": _points_in(Path(beside(str(data["file"]), info)))}
        return data

    @model_validator(mode="after")
    def _in_order(self) -> Points:
        if not self.points:
            raise ValueError("neither points nor a file with some; expected at least one point")
        for (before, _), (after, _) in pairwise(self.points):
            if after < before:
                raise ValueError(f"point at {after / 1e9:g}s after one at {before / 1e9:g}s; expected times in order")
        return self


RateFunction = Annotated[Ramp | Steps | Spike | Sinusoid | Diurnal | Points, Field(discriminator="shape")]


@dataclass(frozen=True, slots=True)
class Lines:
    """A rate in straight lines: times in s, not descending, and requests/s at them; equal times are a jump."""

    at_s: tuple[float, ...]
    rate: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Wave:
    """mean + amplitude · cos(2π (t - peak_s) / period_s); requests/s and s."""

    mean: float
    amplitude: float
    period_s: float
    peak_s: float


def curve(function: RateFunction) -> Lines | Wave:
    """What a rate function looks like: lines, or one wave."""
    match function:
        case Ramp(from_=first, to=last, over=over):
            return Lines((0.0, over / 1e9), (first, last))
        case Steps(steps=steps):
            ends_ns = [0]
            for step in steps:
                ends_ns.append(ends_ns[-1] + step.for_)
            at = [ns / 1e9 for begin, end in pairwise(ends_ns) for ns in (begin, end)]
            return Lines(tuple(at), tuple(step.rate for step in steps for _ in range(2)))
        case Spike(base=base, peak=peak, at=at_ns, rise=rise, hold=hold, fall=fall):
            ends_ns = [0, at_ns, at_ns + rise, at_ns + rise + hold, at_ns + rise + hold + fall]
            return Lines(tuple(ns / 1e9 for ns in ends_ns), (base, base, peak, peak, base))
        case Points(points=points):
            return Lines(tuple(ns / 1e9 for ns, _ in points), tuple(rate for _, rate in points))
        case Sinusoid(mean=mean, amplitude=amplitude, period=period, phase=phase):
            return Wave(mean, amplitude, period / 1e9, (0.25 - phase) * (period / 1e9))
        case Diurnal(mean=mean, trough=trough, period=period, peak_at=peak_at):
            return Wave(mean, mean * (1 - trough) / (1 + trough), period / 1e9, peak_at / 1e9)


def mean_of(function: RateFunction, horizon_s: float | None = None) -> float:
    """Requests/s on average from the start to `horizon_s`; None: over the function's own length, or its period."""
    seen = curve(function)
    if isinstance(seen, Wave):
        if horizon_s is None or horizon_s <= 0:
            return seen.mean
        turn = 2 * math.pi / seen.period_s
        swing = math.sin(turn * (horizon_s - seen.peak_s)) - math.sin(-turn * seen.peak_s)
        return seen.mean + seen.amplitude * swing / (turn * horizon_s)
    end_s = seen.at_s[-1] if horizon_s is None else horizon_s
    return _area(seen, end_s) / end_s if end_s > 0 else seen.rate[-1]


def _area(lines: Lines, end_s: float) -> float:
    """Requests from 0 to end_s."""
    total = lines.rate[0] * min(lines.at_s[0], end_s)
    for (begin, end), (first, last) in zip(pairwise(lines.at_s), pairwise(lines.rate), strict=True):
        if begin >= end_s or begin == end:
            continue
        upto = min(end, end_s)
        there = first + (last - first) * ((upto - begin) / (end - begin))
        total += (first + there) / 2 * (upto - begin)
    return total + lines.rate[-1] * max(end_s - lines.at_s[-1], 0.0)


def scaled(function: RateFunction, factor: float) -> RateFunction:
    """The same shape, every rate times `factor`."""
    match function:
        case Ramp(from_=first, to=last):
            return function.model_copy(update={"from_": first * factor, "to": last * factor})
        case Steps(steps=steps):
            louder = tuple(step.model_copy(update={"rate": step.rate * factor}) for step in steps)
            return function.model_copy(update={"steps": louder})
        case Spike(base=base, peak=peak):
            return function.model_copy(update={"base": base * factor, "peak": peak * factor})
        case Points(points=points):
            return function.model_copy(update={"points": tuple((ns, rate * factor) for ns, rate in points)})
        case Sinusoid(mean=mean, amplitude=amplitude):
            return function.model_copy(update={"mean": mean * factor, "amplitude": amplitude * factor})
        case Diurnal(mean=mean):
            return function.model_copy(update={"mean": mean * factor})


def _points_in(path: Path) -> tuple[tuple[str, float], ...]:
    """Read `t_s,rate` rows; ValueError, as a validator raises it, with the line that is wrong."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            head = [cell.strip() for cell in next(rows, [])]
            if head != ["t_s", "rate"]:
                raise ValueError(f"{path}: the first line is {','.join(head)!r}\n  expected  t_s,rate")
            return tuple(_point(row, f"{path}:{line}") for line, row in enumerate(rows, 2) if row)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ValueError(f"cannot read {path}: {reason}\n  expected  a CSV file with the head t_s,rate") from None


def _point(row: list[str], place: str) -> tuple[str, float]:
    try:
        at_text, rate_text = row
        at_s, rate = float(at_text), float(rate_text)
    except ValueError:
        at_s = rate = math.nan
    if not (0 <= at_s < math.inf and 0 <= rate < math.inf):
        raise ValueError(f"{place}: {','.join(row)!r}\n  expected  two numbers from 0 up: seconds, requests/s")
    return f"{at_s!r}s", rate
