"""What evaluation must be told beside the records: how the run was made, and the thresholds to judge it by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from slobench.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Step:
    """Two limits of one check: past `warning` it is a warning, past `past` the finding's second level."""

    warning: float
    past: float


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Limits of the validity checks V01 to V19, as shares unless the name has a unit (docs/metrics.md, Validity).

    "of S": share of the tightest TTFT limit; "of G": share of the tightest TPOT or gap limit.
    """

    default_ttft_s: float = 0.5  # S where no TTFT limit was given
    default_gap_s: float = 0.05  # G where neither a TPOT nor a gap limit was given
    v01_lag_of_s: Step = Step(0.01, 0.05)
    v01_late_of_s: float = 0.1  # a send later than this share of S is late
    v01_late_share: float = 0.001
    v02_unsent: Step = Step(0.001, 0.01)
    v03_overshoot_of_g: Step = Step(0.05, 0.1)
    v04_cpu: Step = Step(0.6, 0.85)
    v04_throttled: Step = Step(0.0, 0.001)
    v04_steal: Step = Step(0.01, 0.05)
    v04_gc_of_g: Step = Step(0.01, 0.1)
    v05_error_of_s: float = 0.01
    v05_share: Step = Step(0.001, 0.01)
    v06_wait_s: float = 0.001
    v06_wait_of_s: float = 0.05
    v06_new: float = 0.01
    v06_fds: float = 0.8
    v07_p: Step = Step(0.05, 0.01)
    v07_ratio: float = 1.25
    v08_window_of_e2e: float = 30.0
    v08_batches: int = 10
    v09_tail: float = 10.0
    v10_errors: Step = Step(0.001, 0.01)
    v11_tokens: Step = Step(0.01, 0.05)
    v12_tokens_per_event: float = 1.05
    v12_at_once_share: float = 0.05
    v12_at_once_s: float = 0.005
    v12_tail_s: float = 0.05
    v13_little: Step = Step(0.02, 0.05)
    v18_ks: Step = Step(0.02, 0.05)
    v18_dispersion: Step = Step(0.05, 0.2)
    v19_not_judged: Step = Step(0.0, 0.05)

    def to_dict(self) -> dict[str, object]:
        """For run.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Thresholds:
        """Back from run.json; a name that is missing keeps its default. Raises ConfigError for an unknown one."""
        known = cls.__dataclass_fields__
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ConfigError(f"unknown threshold {unknown[0]!r}\n  expected  one of {', '.join(known)}")
        steps = {name: Step(**value) for name, value in values.items() if isinstance(value, Mapping)}
        return cls(**{**values, **steps})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Ask:
    """How a run was made, as far as its numbers depend on it.

    warmup_s: shortest warm-up asked for. duration_s: None where the run was bound by a number of requests.
    arrivals: words for the statement, e.g. "poisson". timeout_s: the total timeout, in words of the report.
    ids_sent: prompts went out as token ids, so input tokens are known exactly.
    """

    warmup_s: float = 0.0
    duration_s: float | None = None
    closed: bool = False
    users: int | None = None
    arrivals: str = "poisson"
    seed: int = 0
    timeout_s: float | None = None
    stream: bool = True
    forces_length: bool = False
    ids_sent: bool = False
    stamps: Literal["kernel", "user"] = "kernel"
    connection: Literal["pooled", "per-request", "per-session"] = "pooled"
    allowed_error_share: float = 0.0
    interrupted: bool = False
    target_died: bool = False
    workers: int = 1
    workers_lost: int = 0
    thresholds: Thresholds = field(default_factory=Thresholds)
