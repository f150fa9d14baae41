"""The cells of a sweep: every run that an experiment means, in the order in which they are gone through."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import orjson

from slobench.config.document import shown
from slobench.config.experiment import MAX_CELLS, Experiment, Scalar
from slobench.config.fit import fitted
from slobench.config.flags import RunFlags, apply_flags
from slobench.config.load import (
    AnyTarget,
    Given,
    Loaded,
    as_given,
    check_target,
    load_target,
    load_workload,
    public,
    put,
)
from slobench.config.when import aliases, parse_when
from slobench.config.workload import Workload
from slobench.errors import ConfigError
from slobench.experiment.sweep_settings import Combination, combinations
from slobench.records.provenance import secrets_in
from slobench.units import format_duration_ns
from slobench.workload.variates import child, uniforms

LoadKind = Literal["own", "rate", "concurrency", "capacity"]


@dataclass(frozen=True, slots=True)
class Load:
    """How much is offered. value: requests/s or users; None: the workload's own load, or a search for the capacity."""

    kind: LoadKind
    value: float | None = None

    @property
    def text(self) -> str:
        """`rate4`, `users16`, `capacity`, `own`: for a folder's name."""
        words = {"rate": "rate", "concurrency": "users"}
        return self.kind if self.value is None else f"{words[self.kind]}{self.value:g}"


@dataclass(frozen=True, slots=True)
class Config:
    """A server as it is set: a target, and the settings that the experiment puts over it.

    label: `c01`. key: of all its settings; two configs with equal keys can use one server.
    """

    label: str
    target_name: str
    target: AnyTarget
    values: Combination
    key: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a sweep. curve: the cells that differ in nothing but the load."""

    key: str
    config: Config
    workload_name: str
    workload: Workload
    load: Load
    repeat: int
    seed: int
    notes: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Where its files go, below the sweep's folder."""
        parts = (self.config.target_name, self.config.label, self.workload_name, self.load.text, f"r{self.repeat}")
        return "cells/" + "-".join([*(re.sub(r"[^A-Za-z0-9.]+", "_", part)[-24:] for part in parts), self.key[:8]])

    @property
    def curve(self) -> tuple[str, str, int]:
        """What its load is the only difference within."""
        return self.config.key, self.workload_name, self.repeat

    @property
    def point(self) -> tuple[str, str, str]:
        """What its repeats have in common."""
        return self.config.label, self.workload_name, self.load.text


@dataclass(frozen=True, slots=True)
class Cells:
    """All cells in order. left_out: how many a condition forbids."""

    experiment: Experiment
    configs: tuple[Config, ...]
    cells: tuple[Cell, ...]
    left_out: int = 0


def cells_of(loaded: Loaded[Experiment]) -> Cells:
    """Work out every cell. Raises ConfigError where a target, a workload or a setting cannot be."""
    experiment = loaded.value
    made = combinations(experiment.settings, experiment.seed)
    size = len(made) * len(experiment.targets) * len(experiment.workloads) * len(loads_of(experiment))
    if size * experiment.repeats > MAX_CELLS:
        raise ConfigError(
            f"{experiment.name}: more than {MAX_CELLS:,} cells\n  expected  fewer values, repeats or loads, or a sample"
        )
    loaded_targets = {name: load_target(name) for name in experiment.targets}
    configs: list[Config] = []
    servers: dict[str, Loaded[AnyTarget]] = {}
    for name, target in loaded_targets.items():
        for values in made:
            config, server = _config(f"c{len(configs) + 1:02d}", name, target, values)
            configs.append(config)
            servers[config.label] = server
    flags = _flags(experiment)
    offered = {
        (name, load): apply_flags(load_workload(name), flags[load])
        for name in experiment.workloads
        for load in loads_of(experiment)
    }
    allowed = _Allowed(experiment)
    left_out = 0
    points: list[tuple[Config, str, Workload, Load, tuple[str, ...]]] = []
    for config in configs:
        for (workload, load), given in offered.items():
            if not allowed(config, _name(workload), load):
                left_out += 1
                continue
            fit = fitted(given, servers[config.label])
            notes = tuple(dict.fromkeys((*fit.notes, *servers[config.label].notes)))
            points.append((config, _name(workload), fit.value, load, notes))
    if not points:
        raise ConfigError(f"{experiment.name}: no cell meets the conditions\n  expected  a `when` that some cell meets")
    cells = tuple(_cell(experiment, point, repeat) for repeat in range(1, experiment.repeats + 1) for point in points)
    used = {cell.config.label for cell in cells}
    known = tuple(config for config in configs if config.label in used)
    return Cells(experiment, known, tuple(_in_order(experiment, cells)), left_out)


def loads_of(experiment: Experiment) -> list[Load]:
    """Return the loads, lowest first."""
    if experiment.rates is not None:
        return [Load("rate", rate) for rate in sorted(experiment.rates)]
    if experiment.concurrencies is not None:
        return [Load("concurrency", float(users)) for users in sorted(experiment.concurrencies)]
    return [Load("capacity" if experiment.capacity is not None else "own")]


def _flags(experiment: Experiment) -> dict[Load, RunFlags]:
    """What the experiment puts over a workload, as the flags of a run would."""
    common: dict[str, Any] = {
        "requests": experiment.requests,
        "duration": None if experiment.duration is None else format_duration_ns(experiment.duration),
        "warmup": None if experiment.warmup is None else format_duration_ns(experiment.warmup),
        "slo": experiment.slo or (),
    }
    loads: dict[Load, RunFlags] = {}
    for load in loads_of(experiment):
        match load.kind, load.value:
            case "rate", float(rate):
                loads[load] = RunFlags(rate=rate, **common)
            case "concurrency", float(users):
                loads[load] = RunFlags(rate="inf", concurrency=round(users), **common)
            case _:
                loads[load] = RunFlags(**common)
    return loads


def _config(
    label: str, name: str, loaded: Loaded[AnyTarget], values: Mapping[str, Scalar]
) -> tuple[Config, Loaded[AnyTarget]]:
    source = shown(loaded.path) if loaded.path else name
    given = Given(as_given(loaded.value), {})
    for path, value in values.items():
        given = put(given, tuple(path.split(".")), value, f"settings.{path}")
    server = check_target(given, f"{source} with {settings_text(values)}" if values else source, loaded.path)
    _refuse_secrets(server.value, values)
    return Config(label, _name(name), server.value, values, _digest(server.value.model_dump(mode="json"))), server


def _refuse_secrets(target: AnyTarget, values: Mapping[str, Scalar]) -> None:
    """Raise ConfigError where a setting is a header's value or a key: settings stand in every file of a sweep."""
    secret = {*target.talk.headers.values(), *secrets_in(target.model_dump(mode="json"))}
    for path, value in values.items():
        if value in secret:
            raise ConfigError(
                f"settings.{path} would stand in the files of the sweep, and may be a secret\n"
                "  expected  headers and keys in the target's own file, a file for each"
            )


def settings_text(values: Mapping[str, Scalar]) -> str:
    """`max_num_seqs=16 policy=fcfs`: each setting by the last part of its path."""
    return " ".join(f"{path.rpartition('.')[2]}={_word(value)}" for path, value in values.items()) or "as it is"


def _word(value: Scalar) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)


def _name(name: str) -> str:
    """A file by its name alone, a URL by its host."""
    return re.sub(r"\.ya?ml$", "", name.rstrip("/").rpartition("/")[2])


class _Allowed:
    """Whether a cell meets every condition."""

    def __init__(self, experiment: Experiment) -> None:
        self._conditions = [parse_when(text) for text in experiment.conditions]
        self._names = aliases(experiment.settings.paths if experiment.settings else ())

    def __call__(self, config: Config, workload: str, load: Load) -> bool:
        values = {name: config.values.get(path) for name, path in self._names.items()}
        values |= {"target": config.target_name, "workload": workload}
        values |= {kind: load.value if load.kind == kind else None for kind in ("rate", "concurrency")}
        return all(each.holds(values) for each in self._conditions)


def _cell(experiment: Experiment, point: tuple[Config, str, Workload, Load, tuple[str, ...]], repeat: int) -> Cell:
    config, workload_name, workload, load, notes = point
    told = {
        "target": config.key,
        "workload": public(workload),
        "load": [load.kind, load.value],
        "capacity": public(experiment.capacity) if experiment.capacity is not None else None,
        "repeat": repeat,
        "seed": experiment.seed,
    }
    return Cell(_digest(told), config, workload_name, workload, load, repeat, experiment.seed + repeat - 1, notes)


def _digest(value: Any) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _in_order(experiment: Experiment, cells: Sequence[Cell]) -> Iterator[Cell]:
    """Cells of one config and repeat stay together, their loads from low to high; the configs are what is ordered."""
    labels = list(dict.fromkeys(cell.config.label for cell in cells))
    blocks = {(label, k): [c for c in cells if (c.config.label, c.repeat) == (label, k)]
              for label in labels for k in range(1, experiment.repeats + 1)}  # fmt: skip
    if experiment.order == "grouped":
        for label in labels:
            for repeat in range(1, experiment.repeats + 1):
                yield from blocks[label, repeat]
        return
    for repeat in range(1, experiment.repeats + 1):
        order = labels if repeat % 2 else labels[::-1]
        if experiment.order == "randomised":
            drawn = uniforms(len(labels), child(experiment.seed, "sweep order", str(repeat)))
            order = [labels[i] for i in np.argsort(drawn, kind="stable").tolist()]
        for label in order:
            yield from blocks[label, repeat]
