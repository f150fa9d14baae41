"""SLO clauses: `ttft<500ms`, `tpot:p99<50ms`, `attainment>=99%`, `class=chat e2e<5s`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, TypeVar, cast, get_args

from slobench.config.problems import clip, nearest, unknown
from slobench.errors import ConfigError

LimitMetric = Literal["ttft", "ttfo", "tpot", "max_gap", "e2e"]

METRICS: tuple[str, ...] = get_args(LimitMetric)
_OBJECTIVES = ("attainment", "error_rate")
_UNIT_S = {
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "min": Decimal(60),
}

_NUMBER = r"[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]{1,3})?"
_DURATION = re.compile(rf"({_NUMBER})\s*(us|µs|ms|s|min|m)?")
_CLASS = re.compile(r"class\s*=\s*([^\s,;]+)(?:\s+|$)")
_CLAUSE = re.compile(r"([A-Za-z0-9_]+)\s*(?::\s*p([0-9.]+)\s*)?(<=|>=|<|>|=|≤|≥)\s*(.+)", re.DOTALL)
_MAX_TEXT = 1000
_DEADLINE = re.compile(r"deadline\s*\((.*)\)", re.DOTALL)


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

    metric "attainment": at least `bound` of requests good; "error_rate": at most `bound` failed;
    a limit metric with `quantile`: that quantile at most `bound` seconds.
    """

    metric: str
    bound: float
    quantile: float | None = None


Clause = Limit | Deadline | Objective
C = TypeVar("C", bound=Limit | Deadline | Objective)


@dataclass(frozen=True, slots=True)
class ClassSlo:
    """All clauses that hold for one class ("" = every class)."""

    limits: tuple[Limit, ...] = ()
    deadline: Deadline | None = None
    objectives: tuple[Objective, ...] = ()

    @property
    def clauses(self) -> tuple[Clause, ...]:
        """Limits, deadline and objectives in one."""
        return (*self.limits, *((self.deadline,) if self.deadline else ()), *self.objectives)


@dataclass(frozen=True, slots=True)
class Slo:
    """The SLO of a run: clauses as written, and resolved by class name."""

    text: tuple[str, ...]
    common: ClassSlo
    by_class: tuple[tuple[str, ClassSlo], ...] = ()

    def for_class(self, name: str) -> ClassSlo:
        """Merge the common clauses with the class's own; an own one replaces the common one of the same quantity."""
        own = dict(self.by_class).get(name)
        if own is None:
            return self.common
        return ClassSlo(
            _merge(self.common.limits, own.limits),
            own.deadline or self.common.deadline,
            _merge(self.common.objectives, own.objectives),
        )

    @property
    def clauses(self) -> tuple[Clause, ...]:
        """Every clause of every class."""
        return tuple(clause for slo in (self.common, *(slo for _, slo in self.by_class)) for clause in slo.clauses)


def _quantity(clause: Clause) -> tuple[str, str, float | None]:
    """Return what a clause speaks of; two clauses of one class must not speak of the same."""
    if isinstance(clause, Deadline):
        return "deadline", "", None
    return type(clause).__name__, clause.metric, clause.quantile if isinstance(clause, Objective) else None


def _merge(common: tuple[C, ...], own: tuple[C, ...]) -> tuple[C, ...]:
    replaced = {_quantity(clause) for clause in own}
    return (*(clause for clause in common if _quantity(clause) not in replaced), *own)


def parse_slo(clauses: Sequence[str], class_names: Sequence[str] = ()) -> Slo:
    """Read SLO clauses, several in one text separated by `,` or `;`.

    `class=NAME` holds for the rest of its text, until another. With `class_names`, other names are refused.
    ConfigError for what cannot be read, or is said twice.
    """
    found: dict[str, list[Clause]] = {"": []}
    for text in clauses:
        if len(text) > _MAX_TEXT:
            raise _unreadable(text, f"longer than {_MAX_TEXT} characters")
        for name, part in _split(text, class_names):
            clause = parse_clause(part)
            held = found.setdefault(name, [])
            twice = next((each for each in held if _quantity(each) == _quantity(clause)), None)
            if twice is not None:
                raise ConfigError(
                    f"SLO says two things of one quantity: {format_limit(twice)} and {format_limit(clause)}\n"
                    "  expected  each once for a class"
                )
            held.append(clause)
    common = _class_slo(found.pop(""))
    return Slo(tuple(clauses), common, tuple((name, _class_slo(held)) for name, held in found.items()))


def _split(text: str, class_names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (class, clause) of one text; a comma inside parentheses belongs to its clause."""
    name = ""
    for each in re.split(r"[,;](?![^()]*\))", text):
        part = each.strip()
        if match := _CLASS.match(part):
            name, part = match[1], part[match.end() :].strip()
            if class_names and name not in class_names:
                raise ConfigError(unknown(f"SLO {clip(text)}: no class named", name, class_names))
        if not part:
            raise _unreadable(text, "an empty clause")
        yield name, part


def _class_slo(clauses: Iterable[Clause]) -> ClassSlo:
    limits, deadlines, objectives = [], [], []
    for clause in clauses:
        match clause:
            case Limit():
                limits.append(clause)
            case Deadline():
                deadlines.append(clause)
            case Objective():
                objectives.append(clause)
    return ClassSlo(tuple(limits), deadlines[0] if deadlines else None, tuple(objectives))


def parse_clause(text: str) -> Clause:
    """Read one clause without its class; ConfigError where it cannot be read."""
    if match := _DEADLINE.fullmatch(text.strip()):
        return _deadline(text, [part.strip() for part in match[1].split(",")])
    match = _CLAUSE.fullmatch(text.strip())
    if match is None:
        raise _unreadable(text)
    metric, percentile, operator, bound = match[1].lower(), match[2], match[3], match[4].strip()
    if metric in _OBJECTIVES:
        upper = metric == "error_rate"
        if percentile is not None or operator not in ({"<", "<=", "≤"} if upper else {">=", "≥"}):
            raise _unreadable(text, f"expected {metric}{'<0.1%' if upper else '>=99%'}")
        return Objective(metric, _share(text, bound, zero=upper))
    if metric not in METRICS:
        hint = (
            "use tpot, or max_gap for the largest gap" if metric in {"itl", "icl", "tbt"} else nearest(metric, METRICS)
        )
        raise _unreadable(text, f"no quantity {clip(match[1])}" + (f" (nearest: {hint})" if hint else ""))
    if operator not in {"<", "<=", "≤"}:
        raise _unreadable(text, f"a limit is an upper one: {metric}<{bound}")
    limit_s, per_token_s = _limit(text, bound)
    if percentile is None:
        return Limit(cast("LimitMetric", metric), limit_s, per_token_s)
    if per_token_s:
        raise _unreadable(text, "a limit that grows with the prompt holds for each request, not for a percentile")
    return Objective(metric, limit_s, _quantile(text, percentile))


def _deadline(text: str, parts: Sequence[str]) -> Deadline:
    if not 2 <= len(parts) <= 3:
        raise _unreadable(text, "expected deadline(FIRST, EACH, share=90%)")
    share = 0.9
    if len(parts) == 3:
        match = re.fullmatch(r"share\s*=\s*(.+)", parts[2])
        if match is None:
            raise _unreadable(text, "expected deadline(FIRST, EACH, share=90%)")
        share = _share(text, match[1], zero=False)
    return Deadline(_seconds(text, parts[0]), _seconds(text, parts[1]), share)


def _limit(text: str, bound: str) -> tuple[float, float]:
    fixed, plus, growing = bound.partition("+")
    if not plus:
        return _seconds(text, fixed), 0.0
    per_token, slash, token = growing.partition("/")
    if not slash or token.strip() not in {"token", "input_token"}:
        raise _unreadable(text, "expected ttft<200ms+0.5ms/token")
    return _seconds(text, fixed), _seconds(text, per_token)


def _seconds(text: str, bound: str) -> float:
    match = _DURATION.fullmatch(bound.strip())
    if match is None:
        raise _unreadable(text, f"no time {clip(bound.strip())}")
    if match[2] is None:
        raise _unreadable(text, f"{match[1]} needs a unit, e.g. {match[1]}ms")
    seconds = float(Decimal(match[1]) * _UNIT_S[match[2]])
    if not 0 < seconds < 1e9:
        raise _unreadable(text, f"{bound.strip()} is no limit that a request can meet or miss")
    return seconds


def _quantile(text: str, percentile: str) -> float:
    quantile = Decimal(percentile) / 100 if re.fullmatch(_NUMBER, percentile) else Decimal(0)
    if not 0 < quantile < 1:
        raise _unreadable(text, f"p{percentile} is no percentile between p0 and p100")
    return float(quantile)


def _share(text: str, bound: str, *, zero: bool) -> float:
    match = re.fullmatch(rf"({_NUMBER})\s*(%?)", bound)
    if match is None:
        raise _unreadable(text, f"no share {clip(bound)}")
    number = Decimal(match[1])
    if not match[2] and number >= 1:  # 1: all of them, or 1 %? 99: surely 99 %
        raise _unreadable(text, f"{match[1]} needs its unit: {match[1]}%")
    share = number / 100 if match[2] else number
    if share > 1 or (share == 0 and not zero):
        raise _unreadable(text, f"{bound} is no share between 0 % and 100 %")
    return float(share)


def _unreadable(text: str, reason: str = "") -> ConfigError:
    return ConfigError(
        f"cannot read SLO {clip(text)}{f': {reason}' if reason else ''}\n"
        "  expected  METRIC<LIMIT for each request, METRIC:pPERCENTILE<LIMIT, attainment>=SHARE or error_rate<SHARE,\n"
        "            e.g. ttft<500ms, tpot:p99<50ms, attainment>=99%, error_rate<0.1%, class=chat e2e<5s\n"
        f"  metrics   {', '.join(METRICS)}    units  us, ms, s, min"
    )


def parse_goodput(pairs: Sequence[str]) -> tuple[str, ...]:
    """Turn vLLM's `ttft:500 tpot:50 e2el:5000` (ms) into clauses for `parse_slo`."""
    clauses = []
    for pair in pairs:
        match = re.fullmatch(rf"\s*(ttft|tpot|e2el)\s*:\s*({_NUMBER})\s*", pair)
        if match is None or not 0 < float(match[2]) < 1e12:
            raise ConfigError(
                f"cannot read --goodput {clip(pair)}\n"
                "  expected  METRIC:MILLISECONDS, e.g. ttft:500 tpot:50\n"
                "  metrics   ttft, tpot, e2el"
            )
        clauses.append(f"{match[1].removesuffix('l')}<{match[2]}ms")
    return tuple(clauses)


def format_limit(clause: Clause) -> str:
    """Word a clause as `parse_clause` reads it back, exactly."""
    match clause:
        case Limit(metric, limit_s, per_token_s):
            return f"{metric}<{_ms(limit_s)}" + (f"+{_ms(per_token_s)}/token" if per_token_s else "")
        case Deadline(first_s, each_s, share):
            return f"deadline({_ms(first_s)}, {_ms(each_s)}, share={_percent(share)})"
        case Objective("attainment", bound):
            return f"attainment>={_percent(bound)}"
        case Objective("error_rate", bound):
            return f"error_rate<={_percent(bound)}"
        case Objective(metric, bound, quantile):
            return f"{metric}:p{_percent(quantile or 0.0).removesuffix('%')}<{_ms(bound)}"


def _ms(seconds: float) -> str:
    return f"{_plain(Decimal(repr(seconds)) * 1000)}ms" if seconds < 10 else f"{_plain(Decimal(repr(seconds)))}s"


def _percent(share: float) -> str:
    return f"{_plain(Decimal(repr(share)) * 100)}%"


def _plain(number: Decimal) -> str:
    text = f"{number:f}"  # never an exponent
    return text.rstrip("0").rstrip(".") if "." in text else text


def tightest_ttft_s(slo: Slo) -> float | None:
    """Return the smallest TTFT limit of any class in seconds (percentile and deadline limits too), None without one."""
    return min(_bounds(slo, {"ttft"}, first=True), default=None)


def tightest_gap_s(slo: Slo) -> float | None:
    """Return the smallest limit on TPOT, on a gap or on a deadline's pace in seconds, None without one."""
    return min(_bounds(slo, {"tpot", "max_gap"}, first=False), default=None)


def e2e_limit_s(slo: Slo) -> float | None:
    """Return the largest E2E limit of any class in seconds (a timeout below it would cut good replies), or None."""
    return max((bound for bound in _bounds(slo, {"e2e"}, first=None)), default=None)


def _bounds(slo: Slo, metrics: set[str], *, first: bool | None) -> Iterator[float]:
    for clause in slo.clauses:
        match clause:
            case Limit(metric, limit_s) if metric in metrics:
                yield limit_s
            case Objective(metric, bound) if metric in metrics:
                yield bound
            case Deadline(first_s, each_s) if first is not None:
                yield first_s if first else each_s
