"""When and why a run ended, in words: its stopping rule, its looks, what they found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from slobench.metrics.ask import Stopped
from slobench.report import words

_BY_RULE: Mapping[str, Stopped] = {"met": "stopped when decided", "missed": "stopped when decided",
                                   "precise": "stopped when precise"}  # fmt: skip

_NOT_YET = {"decided": "undecided", "precision": "not narrow enough"}


def ended_early(run: Mapping[str, Any]) -> Stopped:
    """Return how a run ended whose end was not the planned one; "" where it was, or where it was killed."""
    how, rule = _section(run, "run"), _section(run, "stopping")
    if how.get("stop") == "interrupted":
        return "stopped by hand"
    return _BY_RULE.get(str(rule.get("reason")), "")


def looked(run: Mapping[str, Any]) -> tuple[tuple[str, float], ...]:
    """Return, of a run stopped when precise, (metric, largest half-width x sqrt(s) of its looks)."""
    rule = _section(run, "stopping")
    largest: dict[str, float] = {}
    for look in rule.get("looks") or () if rule.get("reason") == "precise" else ():
        for name, each in _section(look, "metrics").items():
            if look.get("long") and each.get("spread_counts"):
                spread = each["half_width"] * math.sqrt(look["settled_s"])
                largest[name] = max(largest.get(name, 0.0), spread)
    return tuple(largest.items())


def undecided(run: Mapping[str, Any]) -> bool:
    """Whether a run was to decide its SLO and reached its bound without."""
    rule = _section(run, "stopping")
    return rule.get("rule") == "decided" and rule.get("reason") == "bound" and rule.get("found") is None


def in_words(run: Mapping[str, Any]) -> str:
    """`until decided: met after 41 s, look 3 of 12 planned; attainment>=99% in [99.1 %, 100 %]`; "" without a rule."""
    rule = _section(run, "stopping")
    if rule.get("rule") not in {"decided", "precision"}:
        return ""
    looks = [each for each in rule.get("looks") or () if isinstance(each, Mapping)]
    name = "until decided" if rule["rule"] == "decided" else "until precise"
    ends = {
        "met": "the SLO is met",
        "missed": "the SLO is missed",
        "precise": "as narrow as asked",
        "bound": "its full length",
        "interrupted": "stopped by hand",
    }
    reason = str(rule.get("reason") or "cut short")
    text = f"{name}: {ends.get(reason, reason)}"
    if reason == "bound":
        text += f", {ends.get(str(rule.get('found')), _NOT_YET[rule['rule']])}"
    at = rule.get("stopped_s")
    text += f" at {at:.1f} s" if isinstance(at, int | float) else ""
    text += f", {len(looks)} look{'' if len(looks) == 1 else 's'}"
    seen = looks[-1] if looks else {}
    told = [*_objectives(seen), *_metrics(seen)]
    return text + (f"; {', '.join(told)}" if told else "")


def _objectives(look: Mapping[str, Any]) -> list[str]:
    """`attainment>=99% in [98.2 %, 100 %]`: the confidence sequence, which holds at every look."""
    return [
        f"{text} in [{words.percent(each['low'])}, {words.percent(each['high'])}]"
        for text, each in _section(look, "objectives").items()
        if isinstance(each, Mapping) and each.get("low") is not None
    ]


def _metrics(look: Mapping[str, Any]) -> list[str]:
    """`ttft:p90 ±4.1 % (5 % asked)`."""
    return [
        f"{name} ±{words.percent(each['half_width'])} ({words.percent(each['wanted'])} asked)"
        for name, each in _section(look, "metrics").items()
        if isinstance(each, Mapping) and each.get("half_width") is not None
    ]


def _section(run: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = run.get(key)
    return value if isinstance(value, Mapping) else {}
