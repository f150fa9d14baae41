"""What the shipped workloads are fitted to, read from ../shared/traces."""

from __future__ import annotations

import ast
import csv
import json
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slobench.workload.traces.read import read_trace

FOLDER = Path(__file__).parents[3] / "shared" / "traces"
AZURE = FOLDER / "azure_llm_2023"
SYNTHETIC = FOLDER / "mooncake" / "synthetic_trace.jsonl"
BURSTGPT = FOLDER / "burstgpt" / "BurstGPT_3.first400.csv"
POOL = FOLDER / "servegen" / "data" / "reason" / "deepseek-r1"
LONG_ANSWER = 300
LONGEST_RAG_PROMPT = 28_000
BLOCK = 512
BUSY_GAP_S = 5.0

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Lengths:
    """Different lengths in order and the weight of each."""

    values: FloatArray
    weights: FloatArray

    @classmethod
    def of(cls, lengths: IntArray, weights: FloatArray | None = None) -> Lengths:
        """Count lengths, or add up their weights."""
        values, place = np.unique(lengths, return_inverse=True)
        return cls(values.astype(np.float64), np.bincount(place, weights=weights).astype(np.float64))

    @property
    def mean(self) -> float:
        """Mean length."""
        return float(np.average(self.values, weights=self.weights))

    def quantile(self, q: float) -> float:
        """Smallest length that a share q does not exceed."""
        up_to = np.cumsum(self.weights) / self.weights.sum()
        return float(self.values[np.searchsorted(up_to, q)])

    def distance(self, other: Lengths) -> float:
        """Largest difference of the two distribution functions (Kolmogorov and Smirnov)."""
        both = np.union1d(self.values, other.values)
        return float(np.abs(self._up_to(both) - other._up_to(both)).max())

    def clipped(self, most: float) -> Lengths:
        """The same with longer ones set to `most`."""
        return Lengths.of(np.minimum(self.values, most).astype(np.int64), self.weights)

    def _up_to(self, at: FloatArray) -> FloatArray:
        sums = np.concatenate([[0.0], np.cumsum(self.weights)]) / self.weights.sum()
        return np.asarray(sums[np.searchsorted(self.values, at, side="right")])


@dataclass(frozen=True, eq=False)
class Recorded:
    """A trace as a workload resembles it: lengths, arrival times in s where it has some, and what else is compared."""

    inputs: Lengths
    outputs: Lengths
    times: FloatArray | None = None
    more: dict[str, float] | None = None


@cache
def azure(kind: str) -> tuple[IntArray, IntArray, FloatArray]:
    """Inputs, outputs and times in s of the Azure trace `conv` or `code`."""
    trace = read_trace(AZURE / f"AzureLLMInferenceTrace_{kind}.csv")
    return trace.numbers("input_tokens"), trace.numbers("output_tokens"), trace.numbers("arrival_ns") / 1e9


def azure_recorded(kind: str) -> Recorded:
    """The whole of an Azure trace."""
    inputs, outputs, times = azure(kind)
    return Recorded(Lengths.of(inputs), Lengths.of(outputs), times)


def busy_gaps(times: FloatArray) -> FloatArray:
    """Gaps within the bursts of the code trace, s."""
    gaps = np.diff(times)
    return np.asarray(gaps[gaps <= BUSY_GAP_S])


@dataclass(frozen=True, eq=False)
class Documents:
    """Requests of Mooncake's synthetic trace whose first block another one has too, grouped by it, up to a length.

    prefix: tokens that all of a group share; asked: how often; found: share of the prompt tokens that were there before.
    """

    prefix: IntArray
    asked: IntArray
    question: Lengths
    inputs: Lengths
    outputs: Lengths
    found: float


@cache
def documents() -> Documents:
    """Read the trace and group it."""
    rows = [json.loads(line) for line in SYNTHETIC.read_text().splitlines()]
    groups: dict[int, list[dict[str, list[int]]]] = {}
    for row in rows:
        groups.setdefault(row["hash_ids"][0], []).append(row)
    prefix, asked, questions, kept = [], [], [], []
    for group in (each for each in groups.values() if len(each) > 1):
        ids = [row["hash_ids"] for row in group]
        shared = next((n for n in range(min(map(len, ids))) if len({each[n] for each in ids}) > 1), min(map(len, ids)))
        short = [row for row in group if row["input_length"] <= LONGEST_RAG_PROMPT]
        if len(short) < 2:
            continue
        prefix.append(shared * BLOCK)
        asked.append(len(short))
        questions += [max(row["input_length"] - shared * BLOCK, 1) for row in short]
        kept += short
    seen: set[int] = set()
    found = 0
    for row in sorted(kept, key=lambda each: each["timestamp"]):
        there = next((n for n, each in enumerate(row["hash_ids"]) if each not in seen), len(row["hash_ids"]))
        found += min(there * BLOCK, row["input_length"])
        seen.update(row["hash_ids"])
    inputs, outputs = (np.array([row[name] for row in kept]) for name in ("input_length", "output_length"))
    return Documents(
        np.array(prefix),
        np.array(asked),
        Lengths.of(np.array(questions)),
        Lengths.of(inputs),
        Lengths.of(outputs),
        found / float(inputs.sum()),
    )


@dataclass(frozen=True, eq=False)
class Dialogues:
    """Sessions of the BurstGPT slice: turns of each, new tokens of each prompt, time from a reply to the next prompt."""

    turns: IntArray
    new: Lengths
    inputs: Lengths
    outputs: Lengths
    pauses_s: FloatArray


@cache
def dialogues() -> Dialogues:
    """Read the slice; prompts that got shorter than what was said before are left out of `new`."""
    trace = read_trace(BURSTGPT)
    names = ("session", "arrival_ns", "elapsed_ns", "input_tokens", "output_tokens")
    session, arrival, elapsed, inputs, outputs = (trace.numbers(name) for name in names)
    turns, new, pauses = [], [], []
    for each in np.unique(session[session >= 0]):
        rows = np.flatnonzero(session == each)
        turns.append(len(rows))
        new.append(inputs[rows[0]])
        for before, row in pairwise(rows):
            new.append(inputs[row] - inputs[before] - outputs[before])
            pauses.append(arrival[row] - arrival[before] - max(elapsed[before], 0))
    grown = np.array(new)
    served = outputs > 0
    return Dialogues(
        np.array(turns),
        Lengths.of(grown[grown > 0]),
        Lengths.of(inputs[served]),
        Lengths.of(outputs[served]),
        np.array(pauses) / 1e9,
    )


@cache
def pool_lengths() -> Recorded:
    """Lengths of ServeGen's pool, each client's weighted by its rate."""
    found: dict[str, dict[int, float]] = {"input_tokens": {}, "output_tokens": {}}
    for path in sorted(POOL.glob("chunk-*-trace.csv")):
        windows = _windows(path)
        parts = json.loads(path.with_name(path.name.replace("trace.csv", "dataset.json")).read_text())
        for start, fields in parts.items():
            weight = sum(rate for at, rate in windows if float(start) <= at < float(start) + 21_600)
            for name, sums in found.items():
                shares = ast.literal_eval(fields[name]) if weight else {}
                total = sum(shares.values())
                for value, share in shares.items():
                    sums[int(value)] = sums.get(int(value), 0.0) + weight * share / total
    inputs, outputs = (Lengths.of(np.array(list(sums)), np.array(list(sums.values()))) for sums in found.values())
    return Recorded(inputs, outputs)


@cache
def pool_rates() -> FloatArray:
    """Requests/s of ServeGen's pool in each of the day's 144 windows of 10 minutes."""
    total = np.zeros(144)
    for path in POOL.glob("chunk-*-trace.csv"):
        for at, rate in _windows(path):
            total[int(at // 600)] += rate
    return total


def _windows(path: Path) -> list[tuple[float, float]]:
    """Start in s and requests/s of each window of one client."""
    rows = csv.reader(path.read_text().splitlines())
    return [(float(row[0]), float(row[1] or 0)) for row in rows if row]
