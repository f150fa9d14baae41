"""One run as a comparison sees it: what it was, and the values of each request in its window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slobench.metrics.columns import BoolArray, IntArray
from slobench.stats.quantiles import FloatArray

ALL = "all"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a run was: all that must be alike where two are compared, and what may differ.

    name: how the user named it. digest: of its plan, None where another tool made it. workload, manner (kind of target,
    API, streaming): must be alike. settings: of the server and the client, dotted name -> text.
    server: codes of findings that are the server's own (V07, V10, V14). window_of_e2e: the window's length in mean E2E.
    started_s: wall clock, s since 1970.
    """

    name: str
    tool: str = "slobench"
    digest: str | None = None
    seed: int | None = None
    workload: Mapping[str, Any] = field(default_factory=dict)
    slo: tuple[str, ...] = ()
    manner: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    started_s: float | None = None
    verdict: str = "VALID"
    valid: bool = True
    server: frozenset[str] = frozenset()
    window_of_e2e: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """Requests scheduled in the window, one entry each.

    index: row of the plan; at_s: scheduled, on the run's clock; good: 1, 0, NaN = not judged.
    seconds: metric ("ttft") -> one value a request, NaN where it does not exist.
    """

    index: IntArray
    at_s: FloatArray
    of_class: NDArray[np.str_]
    ok: BoolArray
    good: FloatArray
    seconds: Mapping[str, FloatArray]

    def take(self, rows: BoolArray | IntArray) -> Requests:
        """Return some of them."""
        return Requests(
            self.index[rows],
            self.at_s[rows],
            self.of_class[rows],
            self.ok[rows],
            self.good[rows],
            {metric: values[rows] for metric, values in self.seconds.items()},
        )

    def of(self, name: str) -> Requests:
        """Return those of one class; `all`: every one."""
        return self if name == ALL else self.take(np.asarray(self.of_class == name))

    @property
    def classes(self) -> tuple[str, ...]:
        """`all`, and the classes where there is more than one."""
        names = tuple(str(name) for name in np.unique(self.of_class))
        return (ALL, *names) if len(names) > 1 else (ALL,)


@dataclass(frozen=True, slots=True, eq=False)
class Arm:
    """One run. window_s: its measurement window on its clock; rates: of the whole server, by name, per second, with
    the standard error of their logarithm where one is known ("output_tokens": tokens/s, "finished": requests/s).
    """

    identity: Identity
    requests: Requests
    window_s: tuple[float, float]
    mean_e2e_s: float | None = None
    closed: bool = False
    rates: Mapping[str, tuple[float, float | None]] = field(default_factory=dict)


def common(base: Requests, new: Requests) -> tuple[Requests, Requests]:
    """Return the rows of one plan that lie in both windows: what differs between them is then the server alone."""
    _, left, right = np.intersect1d(base.index, new.index, assume_unique=True, return_indices=True)
    return base.take(left.astype(np.int64)), new.take(right.astype(np.int64))


def same_plan(base: Arm, new: Arm) -> bool:
    """Whether both were offered the same requests at the same times."""
    return base.identity.digest is not None and base.identity.digest == new.identity.digest
