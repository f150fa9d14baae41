"""How fast the engine is in virtual time, and what it says at the reference workload (docs/metrics.md, Engine model).

python benchmarks/engine.py [--requests N] [--rate R ...] [--seeds K]
Each call adds a line to benchmarks/history/engine.jsonl; `ratio` is simulated time over CPU time.
"""

from __future__ import annotations

import argparse
import time

import history
import numpy as np

from slobench.config.engine import Engine
from slobench.engine.virtual import Offer, serve

REFERENCE = Engine(admission="reserve", block_tokens=1, prefix_cache=False)


def offer(rate: float, n: int, seed: int) -> Offer:
    """Poisson arrivals at `rate` requests/s with the reference lengths."""
    rng = np.random.default_rng(seed)

    def lognormal(mean: float, sigma: float, low: int, high: int) -> np.ndarray:
        return np.clip(np.rint(rng.lognormal(np.log(mean) - sigma**2 / 2, sigma, n)), low, high).astype(np.int64)

    gaps = np.rint(rng.exponential(1e9 / rate, n)).astype(np.int64)
    return Offer(np.cumsum(gaps), lognormal(512, 0.9, 8, 8000), lognormal(220, 0.8, 1, 2000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--rate", type=float, nargs="+", default=[14.0, 18.5, 20.1])
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    rates = []
    for rate in args.rate:
        attained = []
        for seed in range(args.seeds):
            work = offer(rate, args.requests, seed)
            before = time.process_time()
            served = serve(REFERENCE, work, seed)
            cpu_s = time.process_time() - before
            ttft_s = (served.first_token_ns - work.arrival_ns) / 1e9
            tpot_s = (served.last_token_ns - served.first_token_ns) / 1e9 / np.maximum(1, work.output_tokens - 1)
            attained.append(float(np.mean((ttft_s <= 0.5) & (tpot_s <= 0.03))))
        print(
            f"{rate:5.1f} req/s  attainment {np.mean(attained):.4f} (sd {np.std(attained):.4f} over {args.seeds})  "
            f"{args.requests / cpu_s * 60:,.0f} requests per core-minute  "
            f"{cpu_s / served.steps * 1e6:.1f} µs a step"
        )
        rates.append(
            {"rate": rate, "attainment": round(float(np.mean(attained)), 4),
             "step_us": round(cpu_s / served.steps * 1e6, 2),
             "ratio": round(float(served.last_token_ns.max()) / 1e9 / cpu_s, 1)}
        )  # fmt: skip
    history.append("engine", {"requests": args.requests, "rates": rates})


if __name__ == "__main__":
    main()
