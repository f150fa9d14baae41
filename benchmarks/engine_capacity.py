"""Where a simulated engine's knee lies for a workload: attainment over multiples of its rate, in virtual time.

python benchmarks/engine_capacity.py quickstart --target sim [--times 0.5 1 1.5 2] [--minutes 30] [--seeds 3]

Arrivals are the plan's own with time divided by the multiple. The capacity printed is where attainment crosses the
workload's objective, by bisection; it is that of a long run, before HTTP.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from slobench.config.load import load_target, load_workload
from slobench.config.slo import Slo, parse_slo
from slobench.config.workload import Workload
from slobench.engine.virtual import Offer, Served, serve
from slobench.plan import Plan, build_plan
from slobench.plan_sharing import prompt_blocks


def offer(workload: Workload, plan: Plan, times: float, block_tokens: int) -> Offer:
    """The plan's requests, `times` as fast; only the blocks that prompts share can be found in a cache."""
    return Offer(
        (plan.scheduled_ns / times).astype(np.int64),
        plan.input_tokens,
        plan.output_tokens,
        None,
        prompt_blocks(plan, workload, block_tokens),
    )


def good(plan: Plan, slo: Slo, work: Offer, served: Served) -> np.ndarray:
    """Whether each request met the TTFT, TPOT and E2E limits of its class."""
    met = np.ones(len(plan), bool)
    decode_s = (served.last_token_ns - served.first_token_ns) / 1e9
    seen = {
        "ttft": (served.first_token_ns - work.arrival_ns) / 1e9,
        "tpot": decode_s / np.maximum(1, work.output_tokens - 1),
        "e2e": (served.last_token_ns - work.arrival_ns) / 1e9,
    }
    for code, name in enumerate(plan.class_names):
        mine = plan.class_code == code
        for limit in slo.for_class(name).limits:
            met &= ~mine | (seen[limit.metric] <= limit.limit_s + limit.per_token_s * work.input_tokens)
    return met


def crossing(attainment: Callable[[float], float], share: float) -> float:
    """The multiple at which attainment falls to `share`, to 1 %."""
    low, high = 0.05, 0.1
    while attainment(high) >= share:
        low, high = high, 2 * high
    while high / low > 1.01:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if attainment(middle) >= share else (low, middle)
    return (low * high) ** 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", nargs="?", default="quickstart")
    parser.add_argument("--target", default="sim")
    parser.add_argument("--times", type=float, nargs="+", default=[0.5, 1, 1.5, 2])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    workload = load_workload(args.workload, (f"duration={args.minutes * 60}s",)).value
    engine = load_target(args.target).value.engine
    slo = parse_slo(workload.slo, tuple(workload.classes))
    share = next((o.bound for o in slo.common.objectives if o.metric == "attainment"), 0.99)
    plans = [build_plan(workload, seed) for seed in range(args.seeds)]
    rate = float(np.mean([len(plan) / plan.scheduled_ns[-1] * 1e9 for plan in plans]))

    def results(times: float) -> list[tuple[np.ndarray, Offer, Served]]:
        works = [offer(workload, plan, times, engine.block_tokens) for plan in plans]
        return [(good(p, slo, w, s), w, s) for p, w in zip(plans, works, strict=True) for s in [serve(engine, w, 1)]]

    def attainment(times: float) -> float:
        return float(np.mean(np.concatenate([met for met, _, _ in results(times)])))

    for times in args.times:
        outcome = results(times)
        ttft_s = np.concatenate([served.first_token_ns - work.arrival_ns for _, work, served in outcome]) / 1e9
        e2e_s = np.concatenate([served.last_token_ns - work.arrival_ns for _, work, served in outcome]) / 1e9
        print(
            f"{times:4.2f} × {rate:.2f} req/s: attainment {np.mean(np.concatenate([met for met, _, _ in outcome])):.4f}"
            f"  TTFT p50 {np.quantile(ttft_s, 0.5) * 1e3:.0f} ms p99 {np.quantile(ttft_s, 0.99) * 1e3:.0f} ms"
            f"  E2E p50 {np.quantile(e2e_s, 0.5):.2f} s p99 {np.quantile(e2e_s, 0.99):.2f} s"
            f"  preempted {sum(served.preemptions for _, _, served in outcome)}"
        )
    capacity = crossing(attainment, share) * rate
    print(f"capacity at {share:.1%}: {capacity:.1f} req/s; the workload asks for {rate / capacity:.0%} of it")


if __name__ == "__main__":
    main()
