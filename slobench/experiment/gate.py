"""A gate over stored runs: pairs that were run in turn, or new runs against earlier ones of the same plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from slobench.config.margins import Margins
from slobench.errors import InvalidRunError, UsageError
from slobench.experiment.arms import find_arms
from slobench.experiment.baselines import changes_in, earlier_runs
from slobench.experiment.compare import refuse
from slobench.experiment.gated import Gated
from slobench.metrics.arm import Arm, Identity
from slobench.metrics.comparable import changed, differences
from slobench.metrics.gate import Terms, judge_pairs, pair_of, terms_of
from slobench.metrics.past import Past, past_of
from slobench.metrics.stored import LEAST_E2E, judge_stored
from slobench.stats.quantiles import FloatArray


def gate_stored(
    news: Sequence[str], baseline: str, margins: Margins, *, last: int | None = None, force: bool = False
) -> tuple[Gated, list[Arm]]:
    """Judge stored runs by a baseline; returns the result and the new runs.

    Runs of both sides that were made in turn, pair by pair, are judged as pairs. Else new runs of one plan are judged
    by earlier ones of the same. Raises UsageError where they are not comparable, InvalidRunError for an invalid new
    run.
    """
    new = [arm for spec in news for arm in find_arms(spec)]
    terms = terms_of(margins, streamed=any(streams(arm.requests.seconds.get("ttft")) for arm in new))
    names = (baseline, ", ".join(news))
    _refuse_invalid(new)
    files = Path(baseline).suffix in {".json", ".parquet"}
    base = [] if files else find_arms(baseline)
    partners = list(_partners(base, new))
    if len(partners) >= terms.looks[0].pairs:
        refuse(
            *names, () if force else differences([b.identity for b, _ in partners], [n.identity for _, n in partners])
        )
        turned = in_turn(partners)
        if turned or force:
            return _pairs(partners, terms, names, turned=turned), new
    plans = {arm.identity.digest for arm in new}
    if len(plans) > 1:
        return _undecided(names, terms, new, base, "runs of several plans that were not made in turn"), new
    earlier = earlier_runs(baseline, next(iter(plans)), terms.shown, last)
    return _stored(names, terms, new, earlier, force=force), new


def streams(values: FloatArray | None) -> bool:
    """Whether any reply had a first token of its own."""
    return values is not None and bool((values == values).any())  # noqa: PLR0124 (NaN is not itself)


def _refuse_invalid(new: Sequence[Arm]) -> None:
    for arm in new:
        if not arm.identity.valid:
            raise InvalidRunError(
                f"{arm.identity.name} is {arm.identity.verdict}\n  expected  a valid run: an invalid one cannot pass"
            )


def _partners(base: Sequence[Arm], new: Sequence[Arm]) -> Iterator[tuple[Arm, Arm]]:
    left = list(new)
    for arm in base:
        partner = next((each for each in left if each.identity.digest == arm.identity.digest), None)
        if partner is not None and arm.identity.digest is not None and arm.identity.valid:
            left.remove(partner)
            yield arm, partner


def in_turn(partners: Sequence[tuple[Arm, Arm]]) -> bool:
    """Whether the two runs of every pair followed each other, with no run of another pair between them."""
    runs = [(arm.identity.started_s, number) for number, pair in enumerate(partners) for arm in pair]
    if any(start is None for start, _ in runs):
        return False
    order = [number for _, number in sorted(runs, key=lambda run: run[0] or 0.0)]
    return all(one == other for one, other in zip(order[::2], order[1::2], strict=True))


def _pairs(partners: Sequence[tuple[Arm, Arm]], terms: Terms, names: tuple[str, str], *, turned: bool) -> Gated:
    pairs = tuple(pair_of(number, *both, terms) for number, both in enumerate(partners, 1))
    judged = judge_pairs(pairs, terms)
    if judged.decision is None:
        judged = replace(
            judged, decision="INCONCLUSIVE", reasons=(*judged.reasons, f"{judged.pairs} pairs decide nothing")
        )
    base, new = partners[-1][0].identity, partners[-1][1].identity
    drift = "the runs were not made in turn: what drifted between them is taken for a difference"
    return Gated(
        "pairs", names, judged, terms, base, new, changed(base, new), pairs, () if turned else (drift,),
        command="" if judged.decision != "INCONCLUSIVE" else _command(new),
    )  # fmt: skip


def _stored(names: tuple[str, str], terms: Terms, new: Sequence[Arm], earlier: Sequence[Past], *, force: bool) -> Gated:
    known = {(arm.identity.name, arm.identity.started_s) for arm in new}
    others = [past for past in earlier if (past.identity.name, past.identity.started_s) not in known]
    valid = [past for past in others if past.identity.valid]
    digest = new[0].identity.digest
    same = [past for past in valid if past.identity.digest == digest]
    if not same and valid and not force:
        refuse(*names, differences([past.identity for past in valid[:1]], [arm.identity for arm in new]))
    mine = [past_of(arm, terms.shown) for arm in new]
    short = [arm for arm in new if (arm.identity.window_of_e2e or 0.0) < LEAST_E2E]
    judged = judge_stored(same, mine, terms)
    notes = ["a stored baseline is weaker than pairs run in turn: what drifted since then is taken for a difference"]
    if len(valid) < len(others):
        notes.append(f"{len(others) - len(valid)} invalid runs of the baseline were left out")
    if len(same) < len(valid):
        notes.append(f"{len(valid) - len(same)} runs of other plans were left out")
    changes = tuple(changes_in([*same, *mine], terms.family))
    if changes:
        notes.append("the baseline changed its level: --last N takes only the runs since then")
    if short:
        notes.append(
            f"V08: the window of {short[0].identity.name} is shorter than {LEAST_E2E:g} mean E2E, too short to judge"
        )
    base = same[-1].identity if same else Identity(names[0])
    return Gated(
        "stored", names, judged, terms, base, new[0].identity,
        changed(base, new[0].identity) if base.settings else (), notes=tuple(notes), changes=changes,
        command="" if judged.decision != "INCONCLUSIVE" else _command(new[0].identity), invalid=bool(short),
    )  # fmt: skip


def _undecided(names: tuple[str, str], terms: Terms, new: Sequence[Arm], base: Sequence[Arm], why: str) -> Gated:
    judged = replace(judge_stored((), (), terms), reasons=(f"{why}; only pairs run in turn decide (or --force)",))
    first = base[0].identity if base else Identity(names[0])
    return Gated(
        "stored", names, judged, terms, first, new[0].identity, changed(first, new[0].identity),
        command=_command(new[0].identity),
    )  # fmt: skip


def _command(new: Identity) -> str:
    name = new.workload.get("name", "WORKLOAD")
    return f"slobench gate {name} --ab BASE_TARGET NEW_TARGET"


def new_runs(specs: Sequence[str]) -> list[Arm]:
    """Read the new runs where nothing is judged: for --save-baseline and --history."""
    found = [arm for spec in specs for arm in find_arms(spec)]
    if not found:
        raise UsageError("no new run\n  expected  a run folder")
    return found
