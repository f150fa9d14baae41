"""What evaluation must be told beside the records: how the run was made, and the thresholds to judge it by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from slobench.config.arrivals import Arrivals
from slobench.config.validity import Step, Thresholds
from slobench.records.ceiling import Ceiling

__all__ = ["Ask", "Step", "Stopped", "Thresholds"]

Stopped = Literal["", "stopped by hand", "stopped when decided", "stopped when precise"]
"""How a run ended, where it was not at its planned end."""


@dataclass(frozen=True, slots=True)
class PlannedSharing:
    """Of a plan, the share of prompt tokens that an endless prefix cache of such blocks would hold.

    limited: that a cache of `cache_blocks` blocks would hold; None: not known.
    """

    block_tokens: int
    share: float
    cache_blocks: int | None = None
    limited: float | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """How a run was made, as far as its numbers depend on it.

    warmup_s: shortest warm-up asked for. duration_s: None where the run was bound by a number of requests.
    arrivals: words for the statement, e.g. "poisson". timeout_s: the total timeout, in words of the report.
    ids_sent: prompts went out as token ids, so input tokens are known exactly.
    unique_prompts: no two prompts were planned to begin alike (no class has a shared prefix).
    free: classes whose replies end where they would, also where forces_length.
    chats: classes whose prompts the server wraps into a template of its own; they are text, also where ids_sent.
    texts: classes whose tokens are known about only: prompts of a corpus' words, or with images. images: the latter,
    of which the plan counts the text and the server the images too.
    claim: a claim is judged by this run (a capacity's certificate, a stored baseline), not only reported.
    cores: that the generator may use, beside a target on this machine; None: not known.
    ceiling: what this machine can offer by its own test; None: never tested.
    window_s: begin and end of the measurement window, of a probe that is a part of a longer stream; None: to be chosen.
    processes: the arrival process of each class that has one. recorded: classes that arrive as in a recording.
    sharing: what the plan's prompts have in common; None: nothing, or it is not known.
    goes_on: classes whose sessions go on after a failure.
    stopped: how it ended, where not at its planned end. undecided: it was to decide its SLO, and could not.
    clocks: of a load from several hosts, each host and by how much its times may be off the run's clock, in s.
    looked: of a run stopped when precise, each metric it was to be sure of, and the largest relative half-width x
    sqrt(s) that any of its looks found.
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
    unique_prompts: bool = True
    free: frozenset[str] = frozenset()
    chats: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()
    claim: bool = False
    cores: float | None = None
    ceiling: Ceiling | None = None
    window_s: tuple[float, float] | None = None
    goes_on: frozenset[str] = frozenset()
    stopped: Stopped = ""
    undecided: bool = False
    looked: tuple[tuple[str, float], ...] = ()
    processes: Mapping[str, Arrivals] = field(default_factory=dict)
    recorded: frozenset[str] = frozenset()
    sharing: PlannedSharing | None = None
    clocks: Mapping[str, float] = field(default_factory=dict)
    thresholds: Thresholds = field(default_factory=Thresholds)
