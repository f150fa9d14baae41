"""How good is a capacity in sessions: many searches in virtual time against long runs, into docs/validation.md.

python -m scripts.validate_sessions [--searches 40] [--processes 2]

About 10 million requests (15 minutes of one core).
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from multiprocessing import get_context

from scripts.validate_statistics import machine
from scripts.validation import PAGE, replaced
from tests.validation.sessions import Accuracy, accuracy, search, truth

GUESS, TRUTH_N, TRUTH_SEEDS = 11.7, 12_000, range(24)


def page(found: Accuracy) -> str:
    """What is written of it."""
    return "\n".join(
        (
            f"{time.strftime('%Y-%m-%d')}; {machine()}; `python -m scripts.validate_sessions --searches {found.n}`.",
            "",
            (
                "Searches over sessions/s with the default precision of 3 % at a target of 90 %, on the reference engine in "
                "virtual time: 2 to 6 turns of 256 tokens in and 100 out, 20 s of thinking."
            ),
            f"The truth is that of {len(TRUTH_SEEDS)} runs of {TRUTH_N:,} requests at each of three rates around it.",
            "",
            "| truth, sessions/s | searches | bias | rmse | over by 5 % | cover | requests | certified | above 1.02 |",
            "|---|---|---|---|---|---|---|---|---|",
            (
                f"| {found.truth:.2f} | {found.n} | {found.bias:+.2%} ± {found.bias_se:.2%} | {found.rmse:.2%} "
                f"| {found.over:.1%} | {found.cover:.1%} | {found.requests:,.0f} | {found.certified:.0%} "
                f"| {found.overcertified:.1%} |"
            ),
        )
    )


def main() -> None:
    """Search, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--searches", type=int, default=40)
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    with get_context("spawn").Pool(asked.processes) as pool:
        searches = pool.map_async(search, range(1, asked.searches + 1), chunksize=1)
        true = pool.apply(partial(truth, GUESS, TRUTH_SEEDS, TRUTH_N))
        found = accuracy(true, searches.get())
    text = page(found)
    print(text)
    PAGE.write_text(replaced(PAGE.read_text(), "sessions", text))


if __name__ == "__main__":
    main()
