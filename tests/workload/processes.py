"""Arrival processes that tests draw from, as a workload file gives them."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from slobench.config.arrivals import Arrivals
from slobench.workload.arrivals import offsets_ns
from slobench.workload.variates import FloatArray, IntArray, child

S = 10**9
ON_OFF = {"on_rate": 9.1, "mean_on": "16.7s", "mean_off": "43s"}
LEVEL = {
    "constant": {"process": "constant", "rate": 10.0},
    "poisson": {"process": "poisson", "rate": 10.0},
    "gamma": {"process": "gamma", "rate": 10.0, "cv": 2.0},
    "weibull": {"process": "weibull", "rate": 10.0, "cv": 1.5},
    "weibull-even": {"process": "weibull", "rate": 10.0, "cv": 0.4},
    "on-off": {"process": "on-off", **ON_OFF},
    "on-off-bursty": {"process": "on-off", **ON_OFF, "on_cv": 2.2, "off_cv": 1.09},
    "on-off-low": {"process": "on-off", **ON_OFF, "off_rate": 1.0},
    "on-off-regular": {
        "process": "on-off",
        "on_rate": 9.0,
        "on_cv": 0.5,
        "mean_on": "1s",
        "mean_off": "2s",
        "off_cv": 0.2,
    },
    "mmpp": {"process": "mmpp", "rates": [2.0, 20.0, 5.0], "mean_stay": ["6s", "2s", "3s"]},
    "hawkes": {"process": "hawkes", "rate": 10.0, "branching": 0.6, "decay": 2.0},
}
SHAPES = {
    "ramp": {"shape": "ramp", "from": 2.0, "to": 18.0, "over": "100s"},
    "steps": {"shape": "steps", "steps": [{"rate": 2, "for": "50s"}, {"rate": 20, "for": "50s"}, {"rate": 0, "for": "20s"},
                                          {"rate": 8, "for": "30s"}]},
    "spike": {"shape": "spike", "base": 3.0, "peak": 30.0, "at": "40s", "rise": "10s", "hold": "20s", "fall": "30s"},
    "sinusoid": {"shape": "sinusoid", "mean": 10.0, "amplitude": 10.0, "period": "40s", "phase": 0.3},
    "diurnal": {"shape": "diurnal", "mean": 10.0, "trough": 0.1, "peak_at": "20s", "period": "60s"},
    "points": {"shape": "points", "points": [["10s", 4], ["40s", 12], ["40s", 1], ["90s", 25]]},
}  # fmt: skip
VARYING = {name: {"process": "varying", "rate": shape} for name, shape in SHAPES.items()}


def process(fields: dict[str, Any], **more: Any) -> Any:
    """The process of a mapping as YAML holds it."""
    return TypeAdapter(Arrivals).validate_python({**fields, **more})


def first(arrivals: Any, n: int, seed: int = 0) -> IntArray:
    """The first n arrivals, in ns."""
    return offsets_ns(arrivals, n=n, horizon_ns=None, rng=child(seed, "arrivals"))


def before(arrivals: Any, horizon_s: float, seed: int = 0) -> IntArray:
    """The arrivals before a time, in ns."""
    return offsets_ns(arrivals, n=None, horizon_ns=round(horizon_s * S), rng=child(seed, "arrivals"))


def before_s(arrivals: Any, horizon_s: float, seed: int = 0) -> FloatArray:
    """The arrivals before a time, in s."""
    return before(arrivals, horizon_s, seed) / S
