"""A sweep as plain data: what `--json` prints and sweep.json keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slobench.experiment.sweep import SweepEnded
from slobench.experiment.sweep_result import Best, Result, Rival
from slobench.experiment.sweep_values import Point, cost_of, fronts
from slobench.report.compare import finite
from slobench.report.sweep import exit_of, statement, verdict

_NUMBERS = ("goodput_rps", "good_tokens_per_s", "attainment", "ttft_p90_s", "tpot_p50_s", "output_tokens_per_s",
            "running_mean", "waiting_mean", "kv_usage_mean", "capacity", "certified")  # fmt: skip


def to_json(ended: SweepEnded, result: Result) -> dict[str, Any]:
    """Return the result: seconds, rates per second, shares in [0, 1]; null where a number is not known."""
    word, meaning, _ = verdict(ended, result)
    states = [row.state for row in ended.rows]
    return {
        "schema": 1,
        "verdict": word,
        "summary": meaning,
        "exit": int(exit_of(ended)),
        "experiment": ended.cells.experiment.model_dump(mode="json"),
        "cells": {
            "planned": len(ended.cells.cells),
            "left_out": ended.cells.left_out,
            **{state: states.count(state) for state in ("done", "invalid", "failed", "skipped")},
        },
        "by": result.by,
        "best": [_best(each, result) for each in result.best],
        "ranked": [_point(each, result) for each in result.ranked],
        "points": [_point(each, result) for each in result.points],
        "fronts": {name: [{"config": p.config, "workload": p.workload, "load": p.load} for p in found]
                   for name, found in fronts(result.points).items()},
        "effects": [
            {
                "workload": each.workload, "setting": each.setting, "before": each.before, "after": each.after,
                "ratio": finite(each.ratio), "low": finite(each.low), "high": finite(each.high), "p": finite(each.p),
                "pairs": each.pairs,
            }
            for each in result.effects
        ],
        "not_done": [
            {name: getattr(row, name) for name in ("folder", "state", "error", "reason", "log_tail")}
            for row in ended.rows
            if row.state != "done"
        ],
        "statement": statement(ended, result),
        "out": str(ended.folder),
    }  # fmt: skip


def _best(best: Best, result: Result) -> dict[str, Any]:
    return {
        "workload": best.workload,
        **_point(best.point, result),
        "sure": finite(best.sure),
        "told": best.told,
        "repeats": best.repeats,
        "assumed_noise": best.assumed,
        "highest_load": best.limited,
        "rivals": [_rival(each) for each in best.rivals],
        "lack_repeats": [each.config for each in best.untested],
    }


def _rival(rival: Rival) -> dict[str, Any]:
    return {
        "config": rival.point.config,
        "ahead": finite(rival.ahead),
        "low": finite(rival.low),
        "p": finite(rival.p),
        "told_apart": rival.told_apart,
        "repeats_needed": rival.needed,
    }


def _point(point: Point, result: Result) -> dict[str, Any]:
    shown: Mapping[str, Any] = {name: finite(point.mean(name)) for name in _NUMBERS}
    cost = {"usd_per_1m_good_tokens": finite(cost_of(point.value))} if result.by == "cost" else {}
    return {
        "config": point.config,
        "target": point.target,
        "settings": dict(point.settings),
        "workload": point.workload,
        "load_kind": point.load_kind,
        "load": point.load,
        "gpus": point.gpus,
        "value": finite(point.value),
        **cost,
        "slo_kept": point.holds,
        "repeats": len(point.rows),
        "throughput_per_unit": finite(point.throughput),
        "tokens_per_s_per_user": finite(point.per_user),
        **shown,
    }
