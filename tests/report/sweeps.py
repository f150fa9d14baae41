"""Sweeps made up for reports: a clear best, a tie with failures, a search with prices, nothing at all."""

from __future__ import annotations

import math
from pathlib import Path

from slobench.config.engine import Engine
from slobench.config.experiment import Experiment
from slobench.config.load import load_workload
from slobench.config.target import SimTarget
from slobench.experiment.sweep import SweepEnded
from slobench.experiment.sweep_cells import Cell, Cells, Config, Load
from slobench.experiment.sweep_file import Numbers, Row, row_of

SEQS, TOKENS = "engine.max_num_seqs", "engine.max_num_batched_tokens"


def configs(**target: object) -> tuple[Config, ...]:
    """Six configs of two settings."""
    found = []
    for seqs in (16, 64):
        for tokens in (512, 2048, 8192):
            server = SimTarget.model_validate(
                {"kind": "sim", "engine": Engine(max_num_seqs=seqs).model_dump(), **target}
            )
            label = f"c{len(found) + 1:02d}"
            found.append(Config(label, "sim", server, {SEQS: seqs, TOKENS: tokens}, label))
    return tuple(found)


def cells(found: tuple[Config, ...], loads: tuple[Load, ...], repeats: int, **more: object) -> Cells:
    """Every config at every load."""
    workload = load_workload("quickstart").value
    made = [
        Cell(f"{config.label}-{load.text}-{repeat}", config, "quickstart", workload, load, repeat, repeat - 1)
        for repeat in range(1, repeats + 1)
        for config in found
        for load in loads
    ]
    plain = {"name": "batching", "targets": ("sim",), "workloads": ("quickstart",), "repeats": repeats}
    return Cells(Experiment.model_validate({**plain, **more}, strict=True), found, tuple(made), 0)


def numbers(goodput: float, rate: float, *, met: bool = True) -> Numbers:
    """What a run with this goodput might come to."""
    busy = rate / goodput
    return Numbers(
        requests=1000, attainment=min(1.0, goodput / rate), slo_met=met, overloaded=not met and goodput < rate / 2,
        goodput_rps=goodput, goodput_low=goodput * 0.97, goodput_high=goodput * 1.03, good_tokens_per_s=24 * goodput,
        offered_rps=rate, finished_rps=rate, output_tokens_per_s=24 * goodput, ttft_p50_s=0.03 * busy,
        ttft_p90_s=0.05 * busy**2, ttft_p99_s=0.2 * busy**3, tpot_p50_s=0.008 * (1 + rate / 60), tpot_p99_s=0.03,
        e2e_p50_s=0.4, e2e_p99_s=1.1, running_mean=rate / 3, waiting_mean=busy - 1, kv_usage_mean=0.1,
    )  # fmt: skip


def told() -> SweepEnded:
    """Three repeats at two rates: c05 is ahead by 10 % at the higher one."""
    found = cells(configs(), (Load("rate", 20.0), Load("rate", 40.0)), 3, rates=(20.0, 40.0))
    rows = []
    for cell in found.cells:
        noise = 1 + 0.004 * math.sin(7 * cell.repeat + ord(cell.config.label[-1]))
        best = {"c05": 39.6, "c06": 36.0, "c04": 35.0}.get(cell.config.label, 24.0)
        rate = cell.load.value or 0.0
        goodput = (19.9 if rate == 20 else best) * noise
        rows.append(row_of(cell, "done", numbers=numbers(goodput, rate, met=rate == 20 or best > 30), verdict="VALID"))
    return SweepEnded(found, Path("results/told"), tuple(rows), interrupted=False)


def tied() -> SweepEnded:
    """One run each: two alike, one that failed, one INVALID, one skipped, one missing."""
    found = cells(configs(), (Load("rate", 40.0),), 1, rates=(40.0,))
    goodput = {"c01": 39.5, "c02": 39.6}
    rows: list[Row] = [
        row_of(cell, "done", numbers=numbers(goodput[cell.config.label], 40.0), verdict="VALID", gpus=2)
        for cell in found.cells[:2]
    ]
    rows.append(row_of(found.cells[2], "failed", reason="vLLM did not start: out of memory\x1b[31m", error="TargetStartError",
                       log_tail="torch.OutOfMemoryError"))  # fmt: skip
    rows.append(
        row_of(found.cells[3], "invalid", reason="INVALID: V01 send lag p99 31 ms > 25 ms", numbers=numbers(39.0, 40.0))
    )
    rows.append(row_of(found.cells[4], "skipped", reason="overloaded at 20 requests/s already"))
    return SweepEnded(found, Path("results/tied"), tuple(rows), interrupted=True)


def priced() -> SweepEnded:
    """Two repeats of a search, with a price."""
    found = cells(configs(gpus=2, price_per_hour=4.0), (Load("capacity"),), 2, capacity={})
    rows = []
    for number, cell in enumerate(found.cells):
        rate = 30.0 + 3 * int(cell.config.label[-1]) + 0.05 * (number % 5)
        made = Numbers(attainment=0.99, capacity=rate, capacity_low=rate * 0.97, capacity_high=rate * 1.03,
                       certified=rate * 0.97, output_tokens_mean=24.0)  # fmt: skip
        rows.append(row_of(cell, "done", numbers=made, verdict="certified", gpus=2, price_per_hour=4.0))
    return SweepEnded(found, Path("results/priced"), tuple(rows), interrupted=False)


def nothing() -> SweepEnded:
    """Every cell failed."""
    found = cells(configs(), (Load("own"),), 1)
    rows = tuple(row_of(cell, "failed", reason="cannot reach it", error="TargetStartError") for cell in found.cells)
    return SweepEnded(found, Path("results/nothing"), rows, interrupted=False)


ALL = {"told": told, "tied": tied, "priced": priced, "nothing": nothing}
