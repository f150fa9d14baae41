"""What two runs must have in common before their numbers may be set side by side, and what else differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from slobench.metrics.arm import Identity

_WORDS = ("about", "source", "slo", "slo_presets", "validity", "name")  # of a workload: no part of what is offered


def differences(base: Sequence[Identity], new: Sequence[Identity]) -> tuple[str, ...]:
    """Name all that forbids a comparison of two sets of runs, gravest first; empty where there is nothing."""
    found: dict[str, None] = {f"{one.name} is {one.verdict}": None for one in (*base, *new) if not one.valid}
    alike = _one_plan(base, new)
    for one in (*base[1:], *new):
        found |= dict.fromkeys(_unlike(base[0], one, offered=not alike))
    if not alike and not any(each.startswith("workload") for each in found):
        found |= dict.fromkeys(_plans(base, new))
    return tuple(found)


def _one_plan(base: Sequence[Identity], new: Sequence[Identity]) -> bool:
    """Whether every run of one side has a run of the same plan on the other."""
    ours, theirs = ({one.digest for one in side} for side in (base, new))
    return None not in ours | theirs and (ours <= theirs or theirs <= ours)


def _unlike(base: Identity, new: Identity, *, offered: bool) -> Iterator[str]:
    if offered:  # of one plan two workloads say the same in other words
        apart = _apart(_offered(base.workload), _offered(new.workload), most=6)
        yield from (f"workload {key}: {seen}" for key, seen in apart)
    yield from (f"{key}: {seen}" for key, seen in _apart(base.manner, new.manner))
    if sorted(base.slo) != sorted(new.slo):
        yield f"SLO: {_clauses(base.slo)} and {_clauses(new.slo)}"


def _plans(base: Sequence[Identity], new: Sequence[Identity]) -> Iterator[str]:
    ours, theirs = ({one.digest: one for one in side if one.digest is not None} for side in (base, new))
    if ours and theirs:
        first = next(iter(ours.values()))
        other = next((one for digest, one in theirs.items() if digest not in ours), first)
        seeds = "" if first.seed == other.seed else f", seeds {first.seed} and {other.seed}"
        yield (f"plan: the same workload, other draws of it ({_short(first.digest)} and {_short(other.digest)}{seeds})")


def changed(base: Identity, new: Identity) -> tuple[tuple[str, str, str], ...]:
    """(setting, base, new) of all settings that differ: what may explain the difference."""
    keys = sorted({*base.settings, *new.settings})
    sides = ((key, base.settings.get(key, "–"), new.settings.get(key, "–")) for key in keys)
    return tuple(each for each in sides if each[1] != each[2])


def _offered(workload: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in workload.items() if key not in _WORDS}


def _apart(base: Mapping[str, Any], new: Mapping[str, Any], most: int = 20) -> Iterator[tuple[str, str]]:
    ours, theirs = (dict(_flat(side)) for side in (base, new))
    apart = [key for key in dict.fromkeys((*ours, *theirs)) if ours.get(key) != theirs.get(key)]
    for key in apart[:most]:
        yield key, f"{_told(ours.get(key))} and {_told(theirs.get(key))}"
    if len(apart) > most:
        yield "and more", f"{len(apart) - most} other settings"


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    elif value not in (None, (), [], {}):  # a key that is not set is one that an older run did not know
        yield prefix, list(value) if isinstance(value, tuple) else value


def _told(value: Any) -> str:
    return "none" if value is None else str(value)[:60]


def _short(digest: str | None) -> str:
    return str(digest).removeprefix("sha256:")[:12]


def _clauses(clauses: Sequence[str]) -> str:
    return ", ".join(clauses) or "none"
