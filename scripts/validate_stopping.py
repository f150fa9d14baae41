"""Do stopping rules hold what they promise: by simulation, into docs/validation.md.

python -m scripts.validate_stopping [--runs 200] [--processes 2]

Decisions of `--until-decided` at eight loads of the reference engine in virtual time, and the coverage of intervals at
the moment at which `--until-precision` stops. About 30 million requests (10 minutes of one core). Exit 1 where a claim
is refuted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing import get_context

import numpy as np

from scripts.validate_statistics import machine
from scripts.validation import PAGE, replaced
from tests.stats.binomial import most
from tests.validation.stopping import (
    ASKED,
    LOADS,
    RULE,
    STOPPED_CLAIM,
    WATCHED,
    Coverage,
    Decision,
    Load,
    coverage,
    decide,
    refuted_coverage,
    watched,
)


def decisions_table(found: dict[Load, Sequence[Decision]]) -> Iterator[str]:
    """Rows: the load, what was decided, when."""
    yield "| objective, load | attainment lies | met | missed | undecided | median time to a decision |"
    yield "|---|---|---|---|---|---|"
    for load, runs in found.items():
        said = [each.decided for each in runs]
        shares = (f"{said.count(each) / len(said):.1%}" for each in ("met", "missed", None))
        took = [each.after_s for each in runs if each.decided]
        when = f"{np.median(took):.0f} s" if took else "–"
        yield f"| {load.name} | {load.side} it | {' | '.join(shares)} | {when} of {load.bound_s:.0f} s |"


def coverage_table(found: dict[str, Sequence[Coverage]]) -> Iterator[str]:
    """Rows: the load and the metric, coverage at the stop and of runs of fixed length."""
    yield "| load | metric | stopped | median time | coverage at the stop | without widening | fixed length |"
    yield "|---|---|---|---|---|---|---|"
    for name, each in ((name, each) for name, table in found.items() for each in table):
        yield (
            f"| {name} | {each.metric} to {ASKED.within[each.metric]:.0%} | {each.stopped:.0%} | {each.median_s:.0f} s "
            f"| {each.at_stop:.1%} | {each.narrow:.1%} | {each.fixed:.1%} |"
        )


def refuted(found: dict[Load, Sequence[Decision]]) -> list[str]:
    """Loads at which more decisions were wrong than alpha allows (0.1 % point of the binomial)."""
    return [
        f"{load.name}: {wrong} in {sum(each.decided == wrong for each in runs)} of {len(runs)}"
        for load, runs in found.items()
        for wrong in load.wrong
        if sum(each.decided == wrong for each in runs) > most(len(runs), RULE.alpha)
    ]


def page(decided: dict[Load, Sequence[Decision]], covered: dict[str, Sequence[Coverage]], runs: int) -> str:
    """The stopping part of docs/validation.md."""
    return "\n".join(
        [
            f"""\
{time.strftime("%Y-%m-%d")}; {machine()}; `python -m scripts.validate_stopping --runs {runs}`, seeds 1 to {runs} a row.

`--until-decided`, alpha {RULE.alpha:.0%}: more than {most(runs, RULE.alpha)} wrong decisions of {runs} would refute it (0.1 % point of the binomial).
Where the attainment lies at the objective, neither side may be decided more often than that.
""",
            *decisions_table(decided),
            f"""
`--until-precision`, each metric by itself: how often the 95 % interval of the report holds the truth in the runs that a look has stopped (within 1,200 s), as printed and as it would be without the widening, and in all runs at the median time of the stops.
Where few runs are stopped, those are the ones whose spread happened to look small.
The value pooled over all runs is the truth.
Claim, where at least half of the runs are stopped: {STOPPED_CLAIM:.0%} (such intervals are labelled *stopped when precise*).
""",
            *coverage_table(covered),
        ]
    )


def main() -> None:
    """Simulate, count, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    seeds = range(1, args.runs + 1)
    decided: dict[Load, Sequence[Decision]] = {}
    covered: dict[str, Sequence[Coverage]] = {}
    with get_context("spawn").Pool(args.processes) as pool:
        for load in LOADS:
            decided[load] = pool.map(partial(decide, load), seeds, 5)
            print(*decisions_table({load: decided[load]}), sep="\n", flush=True)
        for name, watch in WATCHED.items():
            covered[name] = list(coverage(pool.map(partial(watched, watch), seeds, 5)))
            print(*coverage_table({name: covered[name]}), sep="\n", flush=True)
    PAGE.write_text(replaced(PAGE.read_text(), "stopping", page(decided, covered, args.runs)))
    bad: list[object] = [*refuted(decided)]
    bad += [each for table in covered.values() for each in refuted_coverage(table, args.runs)]
    for each in bad:
        print("REFUTED", each)
    if bad:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
