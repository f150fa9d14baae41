"""Distributions, arrival processes and drains on one line, as flags take them: `lognormal:mean=512,sigma=0.9`."""

from __future__ import annotations

import math
import re
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from slobench.config.arrivals import Arrivals, Process, at_rate
from slobench.config.lengths import PlainLengths
from slobench.config.problems import clip, config_error, unknown
from slobench.config.workload import Drain
from slobench.errors import ConfigError

T = TypeVar("T")

_LENGTHS = ("constant", "uniform", "normal", "lognormal", "weibull", "empirical")
_SHAPES = ("ramp", "steps", "spike", "sinusoid", "diurnal", "points")
_SCALED = ("on-off", "mmpp", *_SHAPES)  # those whose rates a mean rate multiplies
_PROCESSES = ("poisson", "constant", "gamma", "weibull", "hawkes", "pool", *_SCALED, "burst")
ARRIVALS_GRAMMAR = "poisson, constant, gamma:cv=2, hawkes:branching=0.5,decay=1, ramp:from=1,to=9,over=5m, …"
_LENGTHS_ADAPTER: TypeAdapter[PlainLengths] = TypeAdapter(PlainLengths)
_ARRIVALS_ADAPTER: TypeAdapter[Process] = TypeAdapter(Arrivals)


def parse_lengths(text: str, flag: str = "lengths") -> PlainLengths:
    """Read `512`, `uniform:low=8,high=64`, `lognormal:mean=512,sigma=0.9,max=4000`, `empirical:values=1|2|3`."""
    if re.fullmatch(r"\s*[-+]?[0-9]+\s*", text):
        return _checked(_LENGTHS_ADAPTER, {"dist": "constant", "value": _number(text, flag)}, PlainLengths, flag)
    name, fields = _name_and_fields(text, flag, "a number of tokens, or e.g. uniform:low=8,high=64")
    if name not in _LENGTHS:
        raise ConfigError(unknown(f"{flag}: no distribution", name, _LENGTHS))
    values: dict[str, Any] = {key: _number(value, flag) for key, value in fields.items() if key != "values"}
    if "values" in fields:
        values["values"] = tuple(_number(value, flag) for value in fields["values"].split("|"))
    return _checked(_LENGTHS_ADAPTER, {"dist": name, **values}, PlainLengths, flag)


def parse_arrivals(text: str, rate: float | None, flag: str = "--arrivals") -> Process:
    """Read a process of `ARRIVALS_GRAMMAR`; a rate, requests/s, is its mean rate, and needed where it has none.

    Raises ConfigError for what is none, for a burst with a rate, and where the rate is missing or given twice.
    """
    name, fields = _name_and_fields(text, flag, ARRIVALS_GRAMMAR)
    if name not in _PROCESSES:
        raise ConfigError(unknown(f"{flag}: no arrival process", name, _PROCESSES))
    values = {key: _arrival_value(value) for key, value in fields.items()}
    if name == "burst" and rate is not None:
        raise ConfigError(f"{flag}: a burst has no rate, it comes all at once\n  expected  --requests N without --rate")
    if rate is None and not names_its_rate(text) and name != "burst":
        raise ConfigError(f"{flag}: {name} arrivals need a rate\n  expected  --rate R, in requests/s")
    if name in _SCALED:
        if name == "on-off" and "on_rate" not in values:
            values["on_rate"] = 1.0
        process = _process(name, values, flag)
        return process if rate is None else at_rate(process, rate)
    if rate is not None:
        if "rate" in values:
            raise ConfigError(f"{flag}: the rate is given twice\n  expected  it in --rate only")
        values["rate"] = rate
    return _process(name, values, flag)


def names_its_rate(text: str) -> bool:
    """Whether a process on one line says how much load it is, so that no --rate is needed beside it."""
    name, _, fields = text.strip().lower().partition(":")
    return name in {*_SCALED, "pool"} and (name != "on-off" or "on_rate" in fields)


def _process(name: str, values: dict[str, Any], flag: str) -> Process:
    if name in _SHAPES:
        cv = {"cv": values.pop("cv")} if "cv" in values else {}
        if name == "steps":
            values = {"steps": _steps(values, flag)}
        values = {"process": "varying", "rate": {"shape": name, **values}, **cv}
    else:
        values = {"process": name, **values}
    return _checked(_ARRIVALS_ADAPTER, values, Arrivals, flag)


def _steps(values: dict[str, Any], flag: str) -> tuple[dict[str, Any], ...]:
    rates, times = (value if isinstance(value, tuple) else (value,) for value in map(values.get, ("rates", "for")))
    if values.keys() != {"rates", "for"} or len(rates) != len(times):
        raise ConfigError(
            f"{flag}: cannot read these steps\n  expected  a time for every rate: steps:rates=2|8,for=1m|30s"
        )
    return tuple({"rate": rate, "for": time} for rate, time in zip(rates, times, strict=True))


def _arrival_value(text: str) -> Any:
    """A number where it can be read as one, else text: a time or a file; several of them with | between."""
    if "|" in text:
        return tuple(map(_arrival_value, text.split("|")))
    try:
        return _number(text, "")
    except ConfigError:
        return text


def parse_drain(text: str, flag: str = "--drain") -> Drain:
    """Read `wait`, `cut` or `grace=30s`."""
    mode, equals, grace = text.strip().partition("=")
    if mode not in {"wait", "cut", "grace"} or bool(equals) != (mode == "grace"):
        raise ConfigError(f"{flag}: cannot read {clip(text)}\n  expected  wait, cut or grace=30s")
    values = {"mode": mode, "grace": grace} if equals else {"mode": mode}
    return _checked(TypeAdapter(Drain), values, Drain, flag)


def parse_rate(text: str | float, flag: str = "--rate") -> float:
    """Read a positive rate in requests/s, or `inf`."""
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not rate > 0:
        raise ConfigError(
            f"{flag}: cannot be {clip(text)}\n  expected  requests/s above 0, e.g. 8 or 0.5, or inf for all at once"
        )
    return rate


def _name_and_fields(text: str, flag: str, expected: str) -> tuple[str, dict[str, str]]:
    name, colon, rest = text.strip().partition(":")
    pairs = [part.partition("=") for part in rest.split(",")] if colon else []
    fields = {key.strip(): value.strip() for key, _, value in pairs}
    if not name or len(fields) < len(pairs) or any(not (key.strip() and equals) for key, equals, _ in pairs):
        raise ConfigError(f"{flag}: cannot read {clip(text)}\n  expected  {expected}")
    return name.lower(), fields


def _number(text: str, flag: str) -> int | float:
    """Read an int where it is written as one, so that 8.5 tokens is refused and 512 is not 512.0."""
    try:
        return int(text) if re.fullmatch(r"\s*[-+]?[0-9]+\s*", text) else float(text)
    except ValueError:
        raise ConfigError(f"{flag}: cannot read {clip(text)} as a number\n  expected  e.g. 512 or 0.9") from None


def _checked(adapter: TypeAdapter[T], values: dict[str, Any], schema: Any, flag: str) -> T:
    try:
        return adapter.validate_python(values, strict=True)
    except ValidationError as error:
        raise config_error(error, data=values, schema=schema, where=lambda _: flag) from None
