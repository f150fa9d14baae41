"""One clause of an SLO: `ttft<500ms`, `tpot:p99<50ms`, `attainment>=99%`, as a value and as text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, cast, get_args

from slobench.config.problems import clip, nearest
from slobench.errors import ConfigError

LimitMetric = Literal["ttft", "ttfo", "tpot", "max_gap", "e2e"]

CancelledAs = Literal["judged", "missed", "ignored"]

METRICS: tuple[str, ...] = get_args(LimitMetric)
_SHARES = {"attainment": ">=99%", "availability": ">=99.9%", "error_rate": "<0.1%"}  # objective -> an example
_UNIT_S = {
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "min": Decimal(60),
}

NUMBER = r"[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]{1,3})?"
_DURATION = re.compile(rf"({NUMBER})\s*(us|µs|ms|s|min|m)?")
_CLAUSE = re.compile(r"([A-Za-z0-9_]+)\s*(?::\s*p([0-9.]+)\s*)?(<=|>=|<|>|=|≤|≥)\s*(.+)", re.DOTALL)
_DEADLINE = re.compile(r"deadline\s*\((.*)\)", re.DOTALL)
_CANCELLED = re.compile(r"cancelled\s*=\s*(\w+)")


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit on a quantity of each request, in seconds, compared with <=.

    `per_token_s` grows the limit with the request's input tokens.
    """

    metric: LimitMetric
    limit_s: float
    per_token_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Deadline:
    """Token i is on time at scheduled + first_s + (i-1)*each_s; good where at least `share` are."""

    first_s: float
    each_s: float
    share: float = 0.9


@dataclass(frozen=True, slots=True)
class Objective:
    """What must hold over a class: a percentile limit, an attainment or an error rate.

    metric "attainment": at least `bound` of requests good; "availability": at least `bound` got a whole reply;
    "error_rate": at most `bound` failed (1 - availability); a limit metric with `quantile`: that quantile at most
    `bound` seconds.
    """

    metric: str
    bound: float
    quantile: float | None = None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What a request counts as whose user disconnected before it ended.

    missed: not good; judged: by the limits that were due by then; ignored: neither good nor bad.
    """

    counts: CancelledAs


Clause = Limit | Deadline | Objective | Cancelled


def quantity(clause: Clause) -> tuple[str, str, float | None]:
    """Return what a clause speaks of; two clauses of one class must not speak of the same."""
    if isinstance(clause, Deadline | Cancelled):
        return type(clause).__name__.lower(), "", None
    metric = "error_rate" if clause.metric == "availability" else clause.metric  # each is 1 minus the other
    return type(clause).__name__, metric, clause.quantile if isinstance(clause, Objective) else None


def parse_clause(text: str) -> Clause:
    """Read one clause without its class; ConfigError where it cannot be read."""
    if match := _DEADLINE.fullmatch(text.strip()):
        return _deadline(text, [part.strip() for part in match[1].split(",")])
    if match := _CANCELLED.fullmatch(text.strip()):
        if match[1] not in get_args(CancelledAs):
            raise unreadable(text, f"cancelled={match[1]} is none of {', '.join(get_args(CancelledAs))}")
        return Cancelled(cast("CancelledAs", match[1]))
    match = _CLAUSE.fullmatch(text.strip())
    if match is None:
        raise unreadable(text)
    metric, percentile, operator, bound = match[1].lower(), match[2], match[3], match[4].strip()
    if metric in _SHARES:
        upper = metric == "error_rate"
        if percentile is not None or operator not in ({"<", "<=", "≤"} if upper else {">=", "≥"}):
            raise unreadable(text, f"expected {metric}{_SHARES[metric]}")
        return Objective(metric, _share(text, bound, zero=upper))
    if metric not in METRICS:
        gap = metric in {"itl", "icl", "tbt"}
        hint = "tpot, or max_gap for the largest gap" if gap else nearest(metric, (*METRICS, *_SHARES))
        raise unreadable(text, f"no quantity {clip(match[1])}" + (f" (nearest: {hint})" if hint else ""))
    if operator not in {"<", "<=", "≤"}:
        raise unreadable(text, f"a limit is an upper one: {metric}<{bound}")
    limit_s, per_token_s = _limit(text, bound)
    if percentile is None:
        return Limit(cast("LimitMetric", metric), limit_s, per_token_s)
    if per_token_s:
        raise unreadable(text, "a limit that grows with the prompt holds for each request, not for a percentile")
    return Objective(metric, limit_s, _quantile(text, percentile))


def _deadline(text: str, parts: Sequence[str]) -> Deadline:
    if not 2 <= len(parts) <= 3:
        raise unreadable(text, "expected deadline(FIRST, EACH, share=90%)")
    share = 0.9
    if len(parts) == 3:
        match = re.fullmatch(r"share\s*=\s*(.+)", parts[2])
        if match is None:
            raise unreadable(text, "expected deadline(FIRST, EACH, share=90%)")
        share = _share(text, match[1], zero=False)
    return Deadline(_seconds(text, parts[0]), _seconds(text, parts[1]), share)


def _limit(text: str, bound: str) -> tuple[float, float]:
    fixed, plus, growing = bound.partition("+")
    if not plus:
        return _seconds(text, fixed), 0.0
    per_token, slash, token = growing.partition("/")
    if not slash or token.strip() not in {"token", "input_token"}:
        raise unreadable(text, "expected ttft<200ms+0.5ms/token")
    return _seconds(text, fixed), _seconds(text, per_token)


def _seconds(text: str, bound: str) -> float:
    match = _DURATION.fullmatch(bound.strip())
    if match is None:
        raise unreadable(text, f"no time {clip(bound.strip())}")
    if match[2] is None:
        raise unreadable(text, f"{match[1]} needs a unit, e.g. {match[1]}ms")
    seconds = float(Decimal(match[1]) * _UNIT_S[match[2]])
    if not 0 < seconds < 1e9:
        raise unreadable(text, f"{bound.strip()} is no limit that a request can meet or miss")
    return seconds


def _quantile(text: str, percentile: str) -> float:
    quantile = Decimal(percentile) / 100 if re.fullmatch(NUMBER, percentile) else Decimal(0)
    if not 0 < quantile < 1:
        raise unreadable(text, f"p{percentile} is no percentile between p0 and p100")
    return float(quantile)


def _share(text: str, bound: str, *, zero: bool) -> float:
    match = re.fullmatch(rf"({NUMBER})\s*(%?)", bound)
    if match is None:
        raise unreadable(text, f"no share {clip(bound)}")
    number = Decimal(match[1])
    if not match[2] and number >= 1:  # 1: all of them, or 1 %? 99: surely 99 %
        raise unreadable(text, f"{match[1]} needs its unit: {match[1]}%")
    share = number / 100 if match[2] else number
    if share > 1 or (share == 0 and not zero):
        raise unreadable(text, f"{bound} is no share between 0 % and 100 %")
    return float(share)


def unreadable(text: str, reason: str = "") -> ConfigError:
    """Word what is wrong with a clause, and what could stand there."""
    return ConfigError(
        f"cannot read SLO {clip(text)}{f': {reason}' if reason else ''}\n"
        "  expected  METRIC<LIMIT for each request, METRIC:pPERCENTILE<LIMIT, attainment>=SHARE, availability>=SHARE,\n"
        "            error_rate<SHARE, cancelled=missed (or judged, ignored),\n"
        "            e.g. ttft<500ms, tpot:p99<50ms, attainment>=99%, class=chat e2e<5s,\n"
        "            or the name of a preset: slobench config show --slo chat\n"
        f"  metrics   {', '.join(METRICS)}    units  us, ms, s, min"
    )


def format_limit(clause: Clause) -> str:
    """Word a clause as `parse_clause` reads it back, exactly."""
    match clause:
        case Limit(metric, limit_s, per_token_s):
            return f"{metric}<{_ms(limit_s)}" + (f"+{_ms(per_token_s)}/token" if per_token_s else "")
        case Deadline(first_s, each_s, share):
            return f"deadline({_ms(first_s)}, {_ms(each_s)}, share={_percent(share)})"
        case Objective("attainment" | "availability" as metric, bound):
            return f"{metric}>={_percent(bound)}"
        case Objective("error_rate", bound):
            return f"error_rate<={_percent(bound)}"
        case Cancelled(counts):
            return f"cancelled={counts}"
        case Objective(metric, bound, quantile):
            return f"{metric}:p{_percent(quantile or 0.0).removesuffix('%')}<{_ms(bound)}"


def _ms(seconds: float) -> str:
    return f"{_plain(Decimal(repr(seconds)) * 1000)}ms" if seconds < 10 else f"{_plain(Decimal(repr(seconds)))}s"


def _percent(share: float) -> str:
    return f"{_plain(Decimal(repr(share)) * 100)}%"


def _plain(number: Decimal) -> str:
    text = f"{number:f}"  # never an exponent
    return text.rstrip("0").rstrip(".") if "." in text else text
