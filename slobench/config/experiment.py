"""An experiment: targets, server settings, workloads and loads, each with each, and how the cells are gone through."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from slobench.config.base import DurationNs, Model, PositiveDurationNs, beside
from slobench.config.margins import Percent
from slobench.config.when import aliases, parse_when, refuse_unknown
from slobench.config.workers import WorkersField
from slobench.errors import ConfigError

Scalar = str | int | float | bool | None
SettingPath = Annotated[str, Field(pattern=r"^[^\s.=]+(\.[^\s.=]+)*$", max_length=200)]
Values = Annotated[tuple[Scalar, ...], Field(min_length=1, max_length=1000)]
LOAD_NAMES = ("target", "workload", "rate", "concurrency")
MAX_CELLS = 10_000


class Range(Model):
    """Where a sample takes a number from; whole numbers where both ends are."""

    low: float | int
    high: float | int
    scale: Literal["linear", "log"] = "linear"
    """log: as many of them between 1 and 10 as between 10 and 100."""

    @model_validator(mode="after")
    def _spans(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"a range from {self.low:g} to {self.high:g}: expected low below high")
        if self.scale == "log" and self.low <= 0:
            raise ValueError("a range on a log scale: expected low above 0")
        return self


class Sample(Model):
    """A latin hypercube: each range is cut into as many parts as there are configs, and each part is met once."""

    n: Annotated[int, Field(ge=2, le=1000)]
    """Configs; fewer where rounding makes two alike."""
    of: Annotated[dict[SettingPath, Range | Values], Field(min_length=1)]
    """Setting path -> a range `{low, high, scale}`, or a list of values."""


class Settings(Model):
    """Server settings by their path in the target, e.g. `args.max-num-seqs`; the parts are combined each with each."""

    grid: dict[SettingPath, Values] = Field(default_factory=dict)
    """Every value with every value of the others."""
    zip_: Annotated[dict[SettingPath, Values], Field(alias="zip")] = Field(default_factory=dict)
    """The first values together, then the second ones …"""
    list_: Annotated[tuple[dict[SettingPath, Scalar], ...], Field(alias="list")] = ()
    """Whole configs, one after another."""
    sample: Sample | None = None
    """Configs drawn from ranges."""

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        if len({len(values) for values in self.zip_.values()}) > 1:
            sizes = ", ".join(f"{path} {len(values)}" for path, values in self.zip_.items())
            raise ValueError(f"`zip` of lists of different lengths ({sizes}): expected as many values of each")
        parts = [[*self.grid], [*self.zip_], [*dict.fromkeys(path for each in self.list_ for path in each)],
                 [*(self.sample.of if self.sample else ())]]  # fmt: skip
        seen: set[str] = set()
        for path in (path for part in parts for path in part):
            if path in seen:
                raise ValueError(f"`{path}` is in two parts: expected each setting in one of grid, zip, list, sample")
            seen.add(path)
        if not seen:
            raise ValueError("nothing is varied: expected values in one of grid, zip, list, sample, or no `settings`")
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """Every setting that some config has, in order."""
        sampled = self.sample.of if self.sample else {}
        return tuple(dict.fromkeys([*self.grid, *self.zip_, *(p for each in self.list_ for p in each), *sampled]))


class CapacitySearch(Model):
    """A search for the capacity in each cell, instead of given loads."""

    start_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """First rate to try, requests/s; null: the workload's own."""
    target: Percent | None = None
    """Attainment to keep, e.g. 99%; null: the SLO's, else 99 %."""
    precision: Percent = 0.03
    """Half-width of the 95 % interval that ends a search."""
    max_probes: Annotated[int, Field(ge=4, le=1000)] = 24
    budget: str | None = None
    """The most that one search may spend: a time, 12m, or requests, 20000."""


def _near(name: str, info: ValidationInfo) -> str:
    """Leave names and URLs as they are; a file lies beside the experiment's own, else below the working directory."""
    return beside(name, info) if name.endswith((".yaml", ".yml")) else name


FileOrName = Annotated[str, Field(min_length=1), AfterValidator(_near)]
Rate = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
Users = Annotated[int, Field(ge=1, le=1_000_000)]


class Experiment(Model):
    """A sweep: every target with every config of settings, every workload and every load, `repeats` times."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=60)]
    about: str = ""
    targets: Annotated[tuple[FileOrName, ...], Field(min_length=1)]
    """Names, files or URLs."""
    settings: Settings | None = None
    """What is varied of the servers; null: they are taken as they are."""
    when: tuple[str, ...] | str = ()
    """Conditions that a cell must meet, e.g. `max_num_batched_tokens >= 4 * max_num_seqs`; others are left out."""
    workloads: Annotated[tuple[FileOrName, ...], Field(min_length=1)]
    """Names or files."""
    rates: Annotated[tuple[Rate, ...], Field(min_length=1)] | None = None
    """Loads of an open loop, requests/s."""
    concurrencies: Annotated[tuple[Users, ...], Field(min_length=1)] | None = None
    """Loads of a closed loop, users."""
    capacity: CapacitySearch | None = None
    """Search for the capacity of each cell; `capacity: {}` for all defaults."""
    requests: Annotated[int, Field(ge=1)] | None = None
    """Requests of each run, instead of the workload's own extent."""
    duration: PositiveDurationNs | None = None
    """Length of each run, instead of the workload's own extent."""
    warmup: DurationNs | None = None
    """Shortest warm-up, instead of the workload's own."""
    slo: tuple[str, ...] | None = None
    """SLO clauses instead of the workloads' own."""
    repeats: Annotated[int, Field(ge=1, le=100)] = 1
    """Runs of each cell, each with a seed of its own that all cells of the repeat share."""
    order: Literal["interleaved", "randomised", "grouped"] = "interleaved"
    """interleaved: every config once, then all again backwards; randomised: shuffled in each repeat; grouped: all
    repeats of a config together, which is quicker and takes a drift of the machine for a difference."""
    restart: Literal["per-cell", "per-repeat", "never"] = "per-repeat"
    """When a server is started anew: for each cell; for each config in each repeat; only where the config changes."""
    reset_prefix_cache: bool = True
    """Ask a server that goes on to the next cell to forget what it has cached (POST /reset_prefix_cache)."""
    saturation: Literal["slo", "overload", "never"] = "slo"
    """What ends a curve, so that its higher loads are skipped: the SLO missed or overload; overload alone; nothing."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    workers: WorkersField | None = None
    """Generator processes, or `ray`, `ray/8`: workers on the hosts of a Ray cluster; null: the free cores."""

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        loads = {"rates": self.rates, "concurrencies": self.concurrencies, "capacity": self.capacity}
        given = [name for name, value in loads.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)}: expected one of rates, concurrencies, capacity, or none of them")
        if self.requests is not None and self.duration is not None:
            raise ValueError("both `requests` and `duration` say how long a run is: expected one of them")
        if self.capacity is not None and (self.requests or self.duration):
            raise ValueError("a search makes its own probes: expected neither `requests` nor `duration` with capacity")
        for name in ("targets", "workloads", "rates", "concurrencies"):
            values = getattr(self, name) or ()
            twice = next((value for value in values if values.count(value) > 1), None)
            if twice is not None:
                raise ValueError(f"`{name}`: {twice} is there twice: expected each once; `repeats` runs it again")
        try:
            known = [*aliases(self.settings.paths if self.settings else ()), *LOAD_NAMES]
            for text in self.conditions:
                refuse_unknown(parse_when(text), known)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def conditions(self) -> tuple[str, ...]:
        """The conditions, each as text."""
        return (self.when,) if isinstance(self.when, str) else self.when
