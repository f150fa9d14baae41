"""Two targets in turn, pair by pair, until a gate can decide: yields frozen events, the last one is Gated."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from slobench.config.load import AnyTarget, public
from slobench.config.workers import Workers
from slobench.config.workload import Workload
from slobench.errors import ConfigError
from slobench.experiment.ab_file import FILE, load_pairs, save
from slobench.experiment.events import Event, Told
from slobench.experiment.gated import Gated, noise_of
from slobench.experiment.setup import Trial, secrets_of
from slobench.metrics.arm import Arm, Identity
from slobench.metrics.comparable import changed
from slobench.metrics.gate import Judgement, Pair, Terms, judge_pairs, pair_of
from slobench.records.provenance import redact
from slobench.units import format_s

ArmName = Literal["base", "new"]
FEW_REQUESTS = 600
"""Requests in the windows of a pair below which its noise is needlessly large."""
MOST_VOID = 2


@dataclass(frozen=True, slots=True)
class AbAsk:
    """What is compared. names: of the two targets, as given. aa: one target against itself, for its noise."""

    workload: Workload
    targets: Mapping[ArmName, AnyTarget]
    names: tuple[str, str]
    folder: Path
    terms: Terms
    seed: int = 0
    workers: Workers | None = None
    aa: bool = False
    resume: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Ran:
    """One arm has run. failure: how its target failed, None where it lived; interrupted: the user wants no more.

    arm: None where it never offered anything.
    """

    arm: Arm | None
    failure: str | None = None
    interrupted: bool = False


class Arms(Protocol):
    """How one arm is run: on a real server, or in virtual time."""

    def run(self, number: int, name: ArmName, seed: int) -> Iterator[Event | Ran]:
        """Run one arm of a pair; the last thing it yields is Ran."""


def run_ab(ask: AbAsk, arms: Arms) -> Generator[Event | Gated, None, None]:
    """Run pairs in the order ABBA until a look decides, and keep every pair in gate.json.

    Pair k has the seed `ask.seed + k - 1` in both arms: the same requests at the same times. A run that is INVALID on
    the instrument's side voids its pair; another takes its place, with another seed, at most twice.
    """
    told = fingerprint(ask)
    pairs = load_pairs(ask.folder, told) if ask.resume else []
    last: tuple[Identity, Identity] | None = None
    began_s, fresh = time.monotonic(), 0
    while (judged := _judged(ask, pairs)).decision is None and sum(bool(p.void) for p in pairs) <= MOST_VOID:
        number = len(pairs) + 1
        arms_of: dict[ArmName, Arm] = {}
        for name in order_of(number):
            each_s = (time.monotonic() - began_s) / fresh if fresh else None
            yield Told(_heading(ask, number, name, judged, each_s))
            for event in arms.run(number, name, ask.seed + number - 1):
                if not isinstance(event, Ran):
                    yield event
                elif event.interrupted or event.failure or event.arm is None:
                    yield _ended(ask, pairs, last, failed=(name, event.failure), interrupted=event.interrupted)
                    return
                else:
                    arms_of[name] = event.arm
        pair = pair_of(number, arms_of["base"], arms_of["new"], ask.terms)
        pairs.append(pair)
        fresh += 1
        last = (arms_of["base"].identity, arms_of["new"].identity)
        save(ask.folder, told, pairs)
        yield from _tell(ask, pair, pairs, arms_of)
    yield _ended(ask, pairs, last)


def ended_by_hand(ask: AbAsk) -> Gated:
    """Return what is known of a gate that was interrupted between two arms."""
    pairs = load_pairs(ask.folder, fingerprint(ask)) if (ask.folder / FILE).exists() else []
    return _ended(ask, pairs, None, interrupted=True)


def order_of(number: int) -> tuple[ArmName, ArmName]:
    """Base first in odd pairs, new first in even ones: ABBA."""
    return ("base", "new") if number % 2 else ("new", "base")


def fingerprint(ask: AbAsk) -> dict[str, Any]:
    """What must be alike for a gate to go on: pairs of another load or target are no pairs of this one."""
    return {
        "workload": public(ask.workload),
        "targets": {
            name: redact(public(target), secrets_of(Trial(ask.workload, target, ask.folder), target.talk.headers))
            for name, target in ask.targets.items()
        },
        "seed": ask.seed,
        "aa": ask.aa,
        "metrics": [each.key for each in ask.terms.shown],
    }


def _judged(ask: AbAsk, pairs: Sequence[Pair]) -> Judgement:
    """Judge the pairs; the noise of a target against itself takes all pairs, whatever they show."""
    if not ask.aa:
        return judge_pairs(pairs, ask.terms)
    done = sum(not pair.void for pair in pairs) >= ask.terms.looks[-1].pairs
    return replace(judge_all(pairs, ask.terms), decision="INCONCLUSIVE" if done else None)


def judge_all(pairs: Sequence[Pair], terms: Terms) -> Judgement:
    """Judge all pairs at once, at the last look's level: for a description, not for a decision."""
    counted = sum(not pair.void for pair in pairs)
    if counted < 2:
        return Judgement(None, (), pairs=counted)
    only = replace(terms.looks[-1], pairs=counted)
    return judge_pairs(pairs, replace(terms, looks=(only,)))


def _heading(ask: AbAsk, number: int, name: ArmName, judged: Judgement, each_s: float | None) -> str:
    following = ask.terms.looks[-1].pairs if ask.aa else judged.next_look or ask.terms.looks[0].pairs
    left = "" if each_s is None else f", about {format_s((following - judged.pairs) * each_s)} to it"
    target = ask.names[0 if name == "base" else 1]
    return f"pair {number}, {name} ({target}), seed {ask.seed + number - 1}; look at {following} pairs{left}"


def _tell(ask: AbAsk, pair: Pair, pairs: Sequence[Pair], both: Mapping[ArmName, Arm]) -> Iterator[Event]:
    if pair.void:
        yield Told(f"pair {pair.number} does not count: {pair.void}")
        return
    changes = [
        f"{each.key} {pair.new['all'][each.key] - pair.base['all'][each.key]:+.1%}"
        for each in ask.terms.family
        if each.key in pair.base.get("all", {}) and each.key in pair.new.get("all", {})
    ]
    yield Told(f"pair {pair.number}: {', '.join(changes)}")
    counted = [each for each in pairs if not each.void]
    n = min(len(arm.requests.index) for arm in both.values())
    if len(counted) == 1 and n < FEW_REQUESTS:
        yield Told(
            f"{n} requests in the windows: with 600 to 800 fewer pairs would do (--requests, or a longer duration)"
        )
    if len(counted) == 1 and "V07" in both["base"].identity.server:
        yield Told("the base is overloaded by this load: offer 60 to 75 % of its capacity")
    if len(counted) in {look.pairs for look in ask.terms.looks} and not ask.aa:
        judged = judge_pairs(pairs, ask.terms)
        decision = judged.decision or f"no decision, next at {judged.next_look} pairs"
        yield Told(f"look at {len(counted)} pairs (alpha {judged.alpha:g}): {decision}")


def _ended(
    ask: AbAsk,
    pairs: Sequence[Pair],
    last: tuple[Identity, Identity] | None,
    *,
    failed: tuple[ArmName, str | None] = ("base", None),
    interrupted: bool = False,
) -> Gated:
    void = sum(bool(pair.void) for pair in pairs)
    judged = _judged(ask, pairs)
    if ask.aa:
        judged = noise_of(judged, ask.terms)
    base, new = last or (Identity(ask.names[0]), Identity(ask.names[1]))
    side, failure = failed
    if failure is not None and side == "new":
        judged = replace(judged, decision="FAIL", reasons=(f"the new target failed: {failure}", *judged.reasons))
    return Gated(
        mode="aa" if ask.aa else "pairs",
        names=ask.names,
        judgement=judged,
        terms=ask.terms,
        base=base,
        new=new,
        settings=() if last is None else changed(*last),
        pairs=tuple(pairs),
        notes=ask.notes,
        failure=f"{side}: {failure}" if failure else "",
        interrupted=interrupted,
        invalid=judged.decision is None and void > MOST_VOID,
        command=_command(ask, judged, interrupted=interrupted),
    )


def _command(ask: AbAsk, judged: Judgement, *, interrupted: bool) -> str:
    """What goes on, or would decide."""
    if interrupted:
        return f"the same command with --out {ask.folder} --resume"
    needed = [test.needed for test in judged.tests if test.decides and test.outcome == "open"]
    if judged.decision != "INCONCLUSIVE" or not needed:
        return ""
    known = [each for each in needed if each is not None]
    pairs = (
        f"--pairs {max(*known, ask.terms.looks[-1].pairs + 1)}"
        if len(known) == len(needed)
        else "runs ten times as long"
    )
    return f"the same command with {pairs} and another --out, or with longer runs"


def refuse_ab(ask: AbAsk) -> None:
    """Raise ConfigError where pairs would say nothing."""
    if ask.workload.until is not None:
        raise ConfigError(
            "a run that ends when it is sure has another length in every arm\n  expected  a workload without `until`"
        )
