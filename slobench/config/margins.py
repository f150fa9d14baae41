"""How much worse may be: the margins of a gate, as a file and as flags; a share, an absolute time, or the larger."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationError, WithJsonSchema

from slobench.config.base import Model
from slobench.config.document import finder, read_document, shown
from slobench.config.problems import clip, config_error
from slobench.errors import ConfigError
from slobench.units import format_duration_ns, parse_duration_ns

_SHARE = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*%\s*")
_OR = re.compile(r"\s+or\s+|\|")


def parse_percent(text: object, *, most: float = 10.0) -> float:
    """Return 0.05 for "5%"; ConfigError for anything that is no share in (0, most)."""
    match = _SHARE.fullmatch(str(text))
    if match is None or not 0 < float(match[1]) / 100 < most:
        raise ConfigError(f"cannot read the share {clip(text)}\n  expected  e.g. 5%, above 0 and below {most:.0%}")
    return float(match[1]) / 100


def _percent(value: object) -> float:
    if isinstance(value, float) and 0 <= value < 1:  # what was read once, or a share written as a number
        return value
    try:
        return parse_percent(value)
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _percent_text(share: float) -> str:
    return f"{share * 100:g}%"


Percent = Annotated[
    float,
    BeforeValidator(_percent),
    PlainSerializer(_percent_text, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9.]+\s*%$", "description": "A share: 5%."}),
]


class Margin(Model):
    """How much worse one metric may be: the larger of a share of the baseline and an absolute time."""

    relative: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.05
    absolute_ns: Annotated[int, Field(ge=0)] = 0

    @property
    def absolute_s(self) -> float:
        """The absolute part in seconds."""
        return self.absolute_ns / 1e9


def parse_margin(text: object) -> Margin:
    """Read `5%`, `10ms`, `5% or 10ms`; ConfigError for anything else."""
    parts = _OR.split(str(text).strip())
    shares = [part for part in parts if "%" in part]
    # A bare number would be seconds to one reader and a share to another.
    times = [part for part in parts if "%" not in part and re.search(r"[a-zµ]", part)]
    if len(shares) + len(times) < len(parts) or max(len(shares), len(times)) > 1:
        raise ConfigError(f"cannot read the margin {clip(text)}\n  expected  e.g. 5%, 10ms, or '5% or 10ms'")
    absolute = sum(parse_duration_ns(part) for part in times)
    if not shares and not absolute:
        raise ConfigError(f"a margin of nothing: {clip(text)}\n  expected  e.g. 5%, 10ms, or '5% or 10ms'")
    return Margin(relative=math.fsum(parse_percent(part) for part in shares), absolute_ns=absolute)


def format_margin(margin: Margin) -> str:
    """Word a margin as what `parse_margin` reads back."""
    parts = [_percent_text(margin.relative)] if margin.relative else []
    return " or ".join([*parts, *([format_duration_ns(margin.absolute_ns)] if margin.absolute_ns else [])])


def _margin(value: object) -> object:
    if isinstance(value, Margin):
        return value
    try:
        return parse_margin(value)
    except ConfigError as error:
        raise ValueError(str(error)) from None


MarginText = Annotated[
    Margin,
    BeforeValidator(_margin),
    PlainSerializer(format_margin, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "description": "5%, 10ms, or '5% or 10ms': the larger of the two."}),
]


class Margins(Model):
    """What a gate asks."""

    kind: Literal["margins"] = "margins"
    about: str = ""
    margin: MarginText = Margin()
    """How much worse each metric may be, 5% where nothing is given; a pass must rule more out."""
    metrics: dict[str, MarginText] = Field(default_factory=dict)
    """Margins of single metrics, e.g. `ttft:p90: 10% or 20ms`; one that is not in the family joins it."""
    family: tuple[str, ...] | None = None
    """Metrics that decide; null: `tpot:p50`, `tpot:p99`, `ttft:p90` (`e2e:p50`, `e2e:p90` without streaming)."""
    least: Percent = 0.02
    """No smaller change is a failure, however sure it is."""
    attainment: Percent = 0.01
    """No smaller drop of the attainment, in points, is a failure."""
    per_class: bool = False
    """Every class decides, not only all requests together."""
    pairs: Annotated[int, Field(ge=4, le=1000)] = 10
    """Most pairs of runs; looks are at 40, 70 and 100 % of them."""


def load_margins(path: Path) -> Margins:
    """Read a margins file; ConfigError with its place where it is not one."""
    document = read_document(path)
    where = finder(document.places(shown(path)), shown(path))
    try:
        return Margins.model_validate({} if document.value is None else document.value, strict=True)
    except ValidationError as error:
        raise config_error(error, data=document.value, schema=Margins, where=where) from None


def with_flags(margins: Margins, flags: Sequence[str], *, per_class: bool, pairs: int | None) -> Margins:
    """Put `--margin 5%`, `--margin ttft:p90=10%` and the like over a file's; ConfigError where one cannot be read."""
    common, single = margins.margin, dict(margins.metrics)
    for flag in flags:
        name, equals, value = flag.partition("=")
        if equals:
            single[name.strip()] = parse_margin(value)
        else:
            common = parse_margin(flag)
    return margins.model_copy(
        update={
            "margin": common,
            "metrics": single,
            "per_class": margins.per_class or per_class,
            "pairs": pairs or margins.pairs,
        }
    )
