"""Do intervals cover, and is the reference capacity right: by simulation, into docs/validation.md.

python -m scripts.validate_statistics [--runs 400] [--processes 2] [--keep build/statistics]

Runs of the reference engine in virtual time, about 53 million requests (15 minutes of one core). Simulated runs are
kept in the folder, so that an interrupted validation goes on where it was; remove it to simulate anew. Exit 1 where a
claim is refuted.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil

from scripts.validation import PAGE, replaced
from tests.validation.capacity import POINTS, SPREAD, Root, repeat, root
from tests.validation.coverage import CELLS, CLAIM, PARTS, Cell, Coverage, coverage, least_covered, measure, simulate
from tests.validation.reference import Latencies

BLOCK = 20  # runs in one file
REPEATS, SECONDS = 8, 400.0  # of each grid of rates
ROOTS = ((20.1, 0.90, 1), (18.5, 0.99, 1), (18.6, 0.90, 2), (15.4, 0.99, 2))
REFERENCE = {(0.90, 1): 20.1, (0.99, 1): 18.5}  # docs/metrics.md, Engine model, within 2 %
BELOW = "\\*"
NAMES = {"attainment": "attainment", "ttft": "TTFT", "tpot": "TPOT", "e2e": "E2E"}


def kept(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Read the arrays, or make them and write them whole or not at all."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            np.savez(file, **make())
        unfinished.rename(path)
    with np.load(path) as arrays:
        return dict(arrays)


def block(cell: Cell, folder: Path, first: int) -> list[Latencies]:
    """BLOCK runs, seeds from `first`; float32 but for the times of arrival."""

    def make() -> dict[str, np.ndarray]:
        runs = [simulate(cell, seed) for seed in range(first, first + BLOCK)]
        columns = {name: np.concatenate([getattr(run, name) for run in runs]) for name in Latencies.__slots__}
        small = {name: column.astype(np.float32) for name, column in columns.items() if name != "arrival_s"}
        return {**columns, **small, "ends": np.cumsum([len(run.arrival_s) for run in runs])}

    arrays = kept(folder / f"{cell.rate}-{cell.cv}-{first}.npz", make)
    pieces = {name: np.split(arrays[name], arrays["ends"][:-1]) for name in Latencies.__slots__}
    return [Latencies(**{name: pieces[name][k].astype(np.float64) for name in pieces}) for k in range(BLOCK)]


def measured(cell: Cell, folder: Path, first: int) -> list[object]:
    """Estimates of a block of runs."""
    return [measure(cell, seen) for seen in block(cell, folder, first)]


def located(folder: Path, ask: tuple[float, float, float], seed: int) -> np.ndarray:
    """One repeat of a grid of rates."""
    expected, _, cv = ask
    path = folder / f"grid-{expected}-{cv}-{seed}.npz"
    return kept(path, lambda: {"tally": repeat(expected, cv, SECONDS, seed)})["tally"]


def machine() -> str:
    """Processor, cores and versions."""
    model = next((x.split(":")[1].strip() for x in _cpuinfo() if x.startswith("model name")), platform.machine())
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB; Python {platform.python_version()}, numpy {np.__version__}"
    )


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def capacity_table(roots: list[Root]) -> Iterator[str]:
    """Rows of the capacity table."""
    yield "| arrivals | attainment | capacity, req/s | 95 % interval | reference | requests |"
    yield "|---|---|---|---|---|---|"
    for one in roots:
        expected = REFERENCE.get((one.target, int(one.cv)))
        beside = f"{expected} ({one.rate / expected - 1:+.1%})" if expected else "–"
        yield (
            f"| {process(one.cv)} | {one.target:.0%} | {one.rate:.2f} | {one.low:.2f} to {one.high:.2f} | {beside} "
            f"| {one.requests:,} |"
        )


def process(cv: float) -> str:
    """`Poisson` or `gamma cv 2`."""
    return "Poisson" if cv == 1 else f"gamma cv {cv:g}"


def words(quantity: str) -> str:
    """`TTFT p99`."""
    name, _, key = quantity.partition(" ")
    return f"{NAMES[name]} {key}".strip()


def coverage_table(results: dict[str, list[Coverage]], length: str) -> Iterator[str]:
    """Coverage by quantity and cell, marked where it was seen below the claim."""
    quantities = [each.quantity for each in next(iter(results.values())) if each.length == length]
    yield "| | " + " | ".join(results) + " |"
    yield "|---" * (len(results) + 1) + "|"
    for quantity in quantities:
        cells = []
        for found in results.values():
            (one,) = [each for each in found if (each.quantity, each.length) == (quantity, length)]
            half = f"±{one.half_width * 100:.2g}{' points' if quantity == 'attainment' else ' %'}"
            cells.append(f"{one.share:.1%}{'' if one.share >= CLAIM else BELOW} ({half})")
        mark = f" ({one.label})" if one.label else ""
        yield f"| {words(quantity)}{mark} | " + " | ".join(cells) + " |"


def page(results: dict[str, list[Coverage]], roots: list[Root], runs: int) -> str:
    """The statistics part of docs/validation.md."""
    claimed = [each for found in results.values() for each in found if each.claimed]
    weakest = min(claimed, key=lambda each: each.share)
    low = sum(each.share < CLAIM for each in claimed)
    refuted = sum(each.refuted for each in claimed)
    parts = [
        f"""\
{time.strftime("%Y-%m-%d")}; {machine()}; `python -m scripts.validate_statistics --runs {runs}`, seeds 1 to {runs} a cell.

### Capacity of the reference engine

Attainment at {POINTS} rates within {SPREAD:.0%} of the expected one, {REPEATS} repeats of {SECONDS:g} s each; a parabola through its logits says where it crosses.
Nothing of it is shared with `slobench capacity`.
""",
        *capacity_table(roots),
        f"""
### Coverage of 95 % intervals

{runs} runs a cell on the reference engine, evaluated as `slobench run` does it: ten windows of 30 mean E2E after a warm-up of 2 × p99 E2E.
The truth for a run is the value pooled over all other runs of its cell.
In brackets: the median half-width.
Claim: at least {CLAIM:.0%} where an interval is neither *optimistic* nor *approximate* nor *thin*; fewer than {least_covered(runs)} of {runs} would refute it (0.1 % point of the binomial).
{len(claimed)} claims, {low} of them seen below {CLAIM:.0%} (marked \\*), {refuted} refuted; the lowest is {words(weakest.quantity)} with {weakest.share:.1%}.
""",
        *coverage_table(results, "30"),
    ]
    for length in list(PARTS)[1:]:
        parts += [f"\n*Optimistic* intervals, ten windows of {length} mean E2E:\n", *coverage_table(results, length)]
    return "\n".join(parts)


def main() -> None:
    """Simulate, count, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--keep", type=Path, default=Path("build/statistics"))
    args = parser.parse_args()
    blocks = range(1, args.runs + 1, BLOCK)
    results = {}
    with get_context("spawn").Pool(args.processes) as pool:
        roots = [
            root(ask[0], ask[1], ask[2], pool.map(partial(located, args.keep, ask), range(REPEATS))) for ask in ROOTS
        ]
        print(*capacity_table(roots), sep="\n", flush=True)
        for cell in CELLS:
            runs = [one for some in pool.map(partial(measured, cell, args.keep), blocks, 1) for one in some]
            results[cell.name] = list(coverage(runs))
            print(*coverage_table({cell.name: results[cell.name]}, "30"), sep="\n", flush=True)
            PAGE.write_text(replaced(PAGE.read_text(), "statistics", page(results, roots, len(blocks) * BLOCK)))
    off = [one for one in roots if abs(one.rate / REFERENCE.get((one.target, int(one.cv)), one.rate) - 1) > 0.02]
    bad = [each for found in results.values() for each in found if each.claimed and each.refuted]
    for each in [*off, *bad]:
        print("REFUTED", each)
    if off or bad:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
