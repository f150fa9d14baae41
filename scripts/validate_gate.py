"""Does a gate err as seldom as it promises: by simulation, into docs/validation.md.

python -m scripts.validate_gate [--same 1000] [--slower 400] [--processes 2] [--keep build/gate]

Simulated servers against themselves, against a version whose steps take 5 % longer, and with one metric worse by the
margin. About 55 million requests (an hour of one core). Pairs are kept in the folder, so that an interrupted validation
goes on where it was; remove it to simulate anew. Exit 1 where a claim is refuted.
"""

from __future__ import annotations

import argparse
import pickle
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from scripts.validate_statistics import machine
from scripts.validation import PAGE, replaced
from slobench.metrics.gate import Judgement, Pair
from slobench.stats.intervals import exact_binomial
from tests.stats.binomial import fewest, most
from tests.validation.gate import PAIRS, SYSTEMS, TERMS, System, as_run, decide, experiment, worse_by_the_margin

MOST_FALSE, BOUND, LEAST_FOUND, MOST_PASSED = 0.01, 0.019, 0.95, 0.10
BLOCK = 20  # experiments in one file
WHOLE = 400  # experiments that run all ten pairs


@dataclass(frozen=True, slots=True)
class Seen:
    """The decisions of one system."""

    system: System
    same: Sequence[Judgement]
    slower: Sequence[Judgement]
    passed: dict[str, int]  # metric that is worse by the margin -> experiments that passed
    sd: dict[str, float]  # metric -> sd of one pair

    @property
    def false(self) -> int:
        """How often a server failed against itself."""
        return sum(each.decision == "FAIL" for each in self.same)

    @property
    def found(self) -> int:
        """How often slower steps failed."""
        return sum(each.decision == "FAIL" for each in self.slower)

    def refuted(self) -> Iterator[str]:
        """Yield the claims that do not hold."""
        n, upper = len(self.same), exact_binomial(self.false, len(self.same), 0.98)[1]
        whole = self.system.part == 1 and n >= 1000
        if self.false > (MOST_FALSE * n if whole else most(n, MOST_FALSE)) or (whole and upper > BOUND):
            yield f"{self.system.name}: {self.false} of {n} fail against themselves (up to {upper:.1%})"
        if self.found < (LEAST_FOUND * len(self.slower) if whole else fewest(len(self.slower), LEAST_FOUND)):
            yield f"{self.system.name}: {self.found} of {len(self.slower)} slower ones are found"
        for key, count in self.passed.items():
            asked = _whole(self.system)
            if count > (MOST_PASSED * asked if whole else most(asked, MOST_PASSED)):
                yield f"{self.system.name}: {count} of {_whole(self.system)} pass with {key} worse by the margin"


def block(keep: Path, system: System, slower: float, first: int) -> list[list[Pair]]:
    """BLOCK experiments, seeds from `first`; read back where they were made before.

    The first `WHOLE` of a server with itself run all ten pairs, for the claim about the margin; the rest end as a gate
    would.
    """
    whole = slower == 1 and first <= round(WHOLE * system.part)
    name = f"{system.rate}-{system.cv}-{system.tail}-{system.run_noise}-{slower}-{first}"
    path = keep / f"{name}.pickle"
    if not whole and not path.exists():
        path = keep / f"{name}-as-run.pickle"
    if not path.exists():
        run = experiment if whole else as_run
        made = [run(system, slower, seed) for seed in range(first, first + BLOCK)]
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        unfinished.write_bytes(pickle.dumps(made))
        unfinished.rename(path)
    found: list[list[Pair]] = pickle.loads(path.read_bytes())
    return found


def _whole(system: System) -> int:
    """How many experiments run all ten pairs."""
    return -(-round(WHOLE * system.part) // BLOCK) * BLOCK


def seen_of(system: System, same: Sequence[Sequence[Pair]], slower: Sequence[Sequence[Pair]]) -> Seen:
    """Let the gate decide all of them."""
    whole = [pairs for pairs in same if len(pairs) == PAIRS]
    passed = {
        each.key: sum(
            decide(worse_by_the_margin(pairs, each.key)).decision == "PASS" for pairs in whole[: _whole(system)]
        )
        for each in TERMS.family
    }
    changes = {
        each.key: [pair.new["all"][each.key] - pair.base["all"][each.key] for pairs in same for pair in pairs]
        for each in TERMS.family
    }
    sd = {key: float(np.std(values)) for key, values in changes.items()}
    return Seen(system, [decide(pairs) for pairs in same], [decide(pairs) for pairs in slower], passed, sd)


def table(found: Sequence[Seen]) -> Iterator[str]:
    """Rows: the server and its load; what was decided."""
    yield (
        "| server and load | against itself: FAIL (99 % bound) | PASS | pairs | steps 5 % longer: FAIL | pairs "
        "| PASS with one metric worse by 5 %: TPOT p50, p99, TTFT p90 | sd of a pair: the same |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for one in found:
        upper = exact_binomial(one.false, len(one.same), 0.98)[1]
        n, m = len(one.same), len(one.slower)
        passed = sum(each.decision == "PASS" for each in one.same)
        pairs = [f"{np.mean([each.pairs for each in side]):.1f}" for side in (one.same, one.slower)]
        yield (
            f"| {one.system.name} | {one.false} of {n:,} ({upper:.1%}) | {passed / n:.1%} | {pairs[0]} "
            f"| {one.found / m:.1%} of {m} | {pairs[1]} | {', '.join(f'{k / _whole(one.system):.1%}' for k in one.passed.values())} "
            f"| {', '.join(f'{sd:.1%}' for sd in one.sd.values())} |"
        )


def page(found: Sequence[Seen], same: int, slower: int) -> str:
    """The gate's part of docs/validation.md."""
    return "\n".join(
        [
            f"""\
{time.strftime("%Y-%m-%d")}; {machine()}; `python -m scripts.validate_gate --same {same} --slower {slower}`.

Each experiment is a gate of up to ten pairs on the reference engine in virtual time, by the product's own plans, windows, checks and looks; about {SYSTEMS[0].requests:,} requests a run, of which some 720 are in the windows.
The speed of the engine differs from run to run (0.5 % where nothing is said) and drifts from one run to the next (0.5 %, of which 80 % is kept).
Claims: at most {MOST_FALSE:.0%} of a server against itself fail (99 % bound at most {BOUND:.1%}); steps that take 5 % longer fail in at least {LEAST_FOUND:.0%}; with one metric truly worse by the margin at most {MOST_PASSED:.0%} pass (of the experiments that run all ten pairs, {WHOLE} of {same}).
Rows with fewer experiments are held to the same claims but for one case in a thousand.
""",
            *table(found),
            "",
            "Heavy tails make a pair of percentiles vary so much that many gates cannot decide: they end INCONCLUSIVE, with the number of pairs it would take, and not in a false verdict.",
        ]
    )


def main() -> None:
    """Simulate, decide, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--same", type=int, default=1000)
    parser.add_argument("--slower", type=int, default=400)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--keep", type=Path, default=Path("build/gate"))
    args = parser.parse_args()
    found: list[Seen] = []
    with get_context("spawn").Pool(args.processes) as pool:
        for system in SYSTEMS:
            runs = []
            for slower, asked in ((1.0, args.same), (1.05, args.slower)):
                count = round(asked * system.part)
                blocks = pool.map(partial(block, args.keep, system, slower), range(1, count + 1, BLOCK), 1)
                runs.append([pairs for each in blocks for pairs in each][:count])
            found.append(seen_of(system, runs[0], runs[1]))
            print(*table(found[-1:]), sep="\n", flush=True)
    PAGE.write_text(replaced(PAGE.read_text(), "gate", page(found, args.same, args.slower)))
    bad = [each for one in found for each in one.refuted()]
    for each in bad:
        print("REFUTED", each)
    if bad:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
