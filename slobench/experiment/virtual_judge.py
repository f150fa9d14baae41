"""Requests of the engine in virtual time against their limits; all of these quantities are exact there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slobench.config.slo import Deadline, Limit, Slo
from slobench.experiment.stream import BATCHES, Counted, Tally

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Requests that have ended, one entry each, in order of arrival; times in ns.

    row: their numbers on the stream. first_step, last_step: the engine's steps whose ends gave the first and the
    last token.
    """

    row: IntArray
    class_code: NDArray[np.int32]
    scheduled_ns: IntArray
    first_ns: IntArray
    last_ns: IntArray
    first_step: IntArray
    last_step: IntArray
    input_tokens: IntArray
    output_tokens: IntArray

    def of(self, picked: BoolArray | IntArray) -> Rows:
        """Pick some of them."""
        return Rows(*(getattr(self, name)[picked] for name in Rows.__slots__))

    @property
    def ttft_s(self) -> FloatArray:
        """Time to first token."""
        return (self.first_ns - self.scheduled_ns) / 1e9

    @property
    def e2e_s(self) -> FloatArray:
        """Time to the last token."""
        return (self.last_ns - self.scheduled_ns) / 1e9

    @property
    def tpot_s(self) -> FloatArray:
        """Time per output token after the first; NaN for a reply of one."""
        gaps = np.where(self.output_tokens > 1, self.output_tokens - 1.0, np.nan)
        return (self.last_ns - self.first_ns) / 1e9 / gaps


class Break(NamedTuple):
    """A preemption between two tokens of a request: the steps that gave the one before and the one after."""

    before: int
    after: int


@dataclass(slots=True)
class StepClock:
    """When each engine step ended, and who was preempted between two tokens: from it follows every token's time."""

    end_ns: list[int] = field(default_factory=list)  # by the number of the step, from 1 on
    breaks: dict[int, list[Break]] = field(default_factory=dict)  # by the request's row

    def token_ns(self, row: int, first_step: int, last_step: int) -> IntArray:
        """Return the times of all tokens of one request."""
        steps = np.arange(first_step, last_step + 1)
        for gap in self.breaks.get(row, ()):
            steps = steps[(steps <= gap.before) | (steps >= gap.after)]
        return np.asarray(self.end_ns, dtype=np.int64)[steps - 1]


@dataclass(frozen=True, slots=True)
class Judge:
    """Counts good requests; `clock` is needed where a limit is on single tokens."""

    slo: Slo
    class_names: tuple[str, ...]
    counted: tuple[Counted, ...]
    clock: StepClock

    def tallies(self, rows: Rows, batch_of: IntArray) -> Mapping[str, Tally]:
        """Good and judged requests of each share by batch."""
        met = _Met(self, rows)
        found = {}
        for share in self.counted:
            mine = np.isin(rows.class_code, [i for i, name in enumerate(self.class_names) if name in share.classes])
            good = met.good(share) & mine
            hits = np.bincount(batch_of[good], minlength=BATCHES)
            all_ = np.bincount(batch_of[mine], minlength=BATCHES)
            found[share.name] = tuple(zip(hits.tolist(), all_.tolist(), strict=True))
        return found


class _Met:
    """Which limits each of some rows meets; each limit is looked at once."""

    def __init__(self, judge: Judge, rows: Rows) -> None:
        self._judge, self._rows = judge, rows
        self._seen: dict[Limit | Deadline, BoolArray] = {}

    def good(self, share: Counted) -> BoolArray:
        """Whether each row is good by this share's measure."""
        if share.what == "ok":
            return np.ones(len(self._rows.class_code), np.bool_)
        if share.what != "all":
            return self._meets(share.what)
        met = np.ones(len(self._rows.class_code), np.bool_)
        for code, name in enumerate(self._judge.class_names):
            mine = self._rows.class_code == code
            asked = self._judge.slo.for_class(name)
            for clause in (*asked.limits, *((asked.deadline,) if asked.deadline else ())):
                met &= ~mine | self._meets(clause)
        return met

    def _meets(self, clause: Limit | Deadline) -> BoolArray:
        if clause not in self._seen:
            self._seen[clause] = self._deadline(clause) if isinstance(clause, Deadline) else self._limit(clause)
        return self._seen[clause]

    def _limit(self, limit: Limit) -> BoolArray:
        rows = self._rows
        allowed = limit.limit_s + limit.per_token_s * rows.input_tokens
        match limit.metric:
            case "ttft" | "ttfo":
                seen = rows.ttft_s
            case "e2e":
                seen = rows.e2e_s
            case "tpot":
                seen = rows.tpot_s
            case "max_gap":
                seen = np.array([float(np.diff(each).max(initial=-1)) for each in self._tokens()]) / 1e9
        return np.isnan(seen) | (seen <= allowed)

    def _deadline(self, deadline: Deadline) -> BoolArray:
        shares = []
        for due_ns, tokens in zip(self._rows.scheduled_ns.tolist(), self._tokens(), strict=True):
            allowed = deadline.first_s + deadline.each_s * np.arange(len(tokens))
            shares.append(float(np.mean((tokens - due_ns) / 1e9 <= allowed + 1e-12)))
        return np.array(shares) >= deadline.share - 1e-12

    def _tokens(self) -> Sequence[IntArray]:
        rows = self._rows
        spans = zip(rows.row.tolist(), rows.first_step.tolist(), rows.last_step.tolist(), strict=True)
        return [self._judge.clock.token_ns(*span) for span in spans]


def needs_tokens(counted: Sequence[Counted], slo: Slo) -> bool:
    """Whether any limit speaks of single tokens."""
    asked = [slo.common, *(one for _, one in slo.by_class)]
    clauses = [clause for one in asked for clause in one.clauses] + [share.what for share in counted]
    return any(isinstance(clause, Deadline) or getattr(clause, "metric", "") == "max_gap" for clause in clauses)
