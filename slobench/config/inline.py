"""Distributions, arrival processes and drains on one line, as flags take them: `lognormal:mean=512,sigma=0.9`."""

from __future__ import annotations

import math
import re
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from slobench.config.arrivals import Arrivals, Burst, Constant, Gamma, Poisson
from slobench.config.lengths import (
    ConstantLength,
    EmpiricalLength,
    LognormalLength,
    NormalLength,
    PlainLengths,
    UniformLength,
    WeibullLength,
)
from slobench.config.problems import clip, config_error, unknown
from slobench.config.workload import Drain
from slobench.errors import ConfigError

AnyLengths = ConstantLength | UniformLength | NormalLength | LognormalLength | WeibullLength | EmpiricalLength
AnyArrivals = Constant | Poisson | Gamma | Burst
T = TypeVar("T")

_LENGTHS = ("constant", "uniform", "normal", "lognormal", "weibull", "empirical")
_PROCESSES = ("poisson", "constant", "gamma", "burst")
_LENGTHS_ADAPTER: TypeAdapter[AnyLengths] = TypeAdapter(PlainLengths)
_ARRIVALS_ADAPTER: TypeAdapter[AnyArrivals] = TypeAdapter(Arrivals)


def parse_lengths(text: str, flag: str = "lengths") -> AnyLengths:
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


def format_lengths(lengths: AnyLengths) -> str:
    """Word a distribution as `parse_lengths` reads it back."""
    if isinstance(lengths, ConstantLength):
        return str(lengths.value)
    fields = lengths.model_dump(exclude={"dist"}, exclude_defaults=True)
    if isinstance(lengths, EmpiricalLength):
        fields = {"values": "|".join(str(value) for value in lengths.values)}
    return f"{lengths.dist}:" + ",".join(f"{key}={value}" for key, value in fields.items())


def parse_arrivals(text: str, rate: float | None, flag: str = "--arrivals") -> AnyArrivals:
    """Read `poisson`, `constant`, `gamma:cv=2` (each with `rate`, requests/s) or `burst` (without)."""
    name, fields = _name_and_fields(text, flag, "poisson, constant, gamma:cv=2 or burst")
    if name not in _PROCESSES:
        raise ConfigError(unknown(f"{flag}: no arrival process", name, _PROCESSES))
    values = {key: _number(value, flag) for key, value in fields.items()}
    if name == "burst":
        if rate is not None:
            raise ConfigError(
                f"{flag}: a burst has no rate, it comes all at once\n  expected  --requests N without --rate"
            )
    elif rate is None:
        raise ConfigError(f"{flag}: {name} arrivals need a rate\n  expected  --rate R, in requests/s")
    elif "rate" in values:
        raise ConfigError(f"{flag}: the rate is given twice\n  expected  it in --rate only")
    else:
        values["rate"] = rate
    return _checked(_ARRIVALS_ADAPTER, {"process": name, **values}, Arrivals, flag)


def format_arrivals(arrivals: AnyArrivals) -> str:
    """Word an arrival process as `parse_arrivals` takes it, without its rate."""
    return f"gamma:cv={arrivals.cv}" if isinstance(arrivals, Gamma) else arrivals.process


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
