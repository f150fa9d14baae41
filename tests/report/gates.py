"""Gates that have ended, made by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from slobench.config.margins import Margins, parse_margin
from slobench.experiment.gated import Gated, noise_of
from slobench.metrics.arm import Identity
from slobench.metrics.gate import Pair, judge_pairs, terms_of
from slobench.stats.changes import ChangePoint
from tests.metrics.arms import pairs
from tests.report.fixtures import HOSTILE

TERMS = terms_of(Margins(metrics={"ttft:p90": parse_margin("10% or 20ms")}))
IDENTITY = Identity("results/gate/pair-04/base", digest="0123", seed=3, workload={"name": "chat"})


def gated(found: list[Pair], **changes: Any) -> Gated:
    """A gate over these pairs."""
    judged = judge_pairs(found, TERMS)
    made = Gated(
        "pairs", ("vllm-main", "vllm-pr"), judged, TERMS, IDENTITY, replace(IDENTITY, name="results/gate/pair-04/new"),
        (("target.args.max-num-seqs", "16", "2"),), tuple(found),
    )  # fmt: skip
    return replace(made, **changes)


def passed() -> Gated:
    """Four pairs of a server with itself."""
    return gated(pairs(4))


def failed() -> Gated:
    """TPOT p50 is 10 % worse, and the attainment fell by four points; a void pair before."""
    found = pairs(5, {"tpot:p50": math.log(1.1)}, void="")
    found[1] = replace(found[1], void="new: INVALID: V01 send lag p99 31 ms > 25 ms")
    shares = [(0.99, 0.95), (0.99, 0.95), (0.991, 0.951), (0.989, 0.95), (0.99, 0.949)]
    return gated([replace(pair, attainment={"all": share}) for pair, share in zip(found, shares, strict=True)])


def inconclusive() -> Gated:
    """Ten pairs with 8 % of noise, two classes."""

    def classes(pair: Pair) -> Pair:
        return replace(pair, base={**pair.base, "code": pair.base["all"]}, new={**pair.new, "code": pair.new["all"]})

    return gated(
        [classes(pair) for pair in pairs(10, sd=0.08)], command="the same command with --pairs 26 and another --out"
    )


def noise() -> Gated:
    """A target against itself, too noisy for TTFT."""
    found = gated(pairs(10, sd=0.06), mode="aa", names=("sim", "sim"))
    only = replace(TERMS, looks=(replace(TERMS.looks[-1]),))
    return replace(found, judgement=noise_of(judge_pairs(found.pairs, only), TERMS))


def stored() -> Gated:
    """Too few earlier runs, a change of level, and names that a server or a path might hold."""
    found = passed()
    judged = replace(found.judgement, decision="INCONCLUSIVE", tests=(), attainment=(), pairs=3,
                     reasons=("3 earlier valid runs of this plan: 5 more are needed",))  # fmt: skip
    return replace(
        found, mode="stored", judgement=judged, names=("results/history.parquet", HOSTILE), pairs=(),
        new=replace(IDENTITY, name=HOSTILE), command="slobench gate chat --ab BASE_TARGET NEW_TARGET",
        changes=(("all", "tpot:p50", HOSTILE, ChangePoint(12, 0.02, 0.025, 1e-6)),),
        settings=(("target.args.x", HOSTILE, "\x00"),), notes=("a stored baseline is weaker than pairs run in turn",),
    )  # fmt: skip


ALL = {"passed": passed, "failed": failed, "inconclusive": inconclusive, "noise": noise, "stored": stored}
