"""A fitted trace as a workload file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from slobench.config.workload import Workload
from slobench.units import format_duration_ns
from slobench.workload.fit import TraceFit

_KINDS = ("process", "dist", "shape")
_SECOND = 10**9


def workload_of(fits: Mapping[str, TraceFit], name: str) -> Workload:
    """Make a workload as long as the trace. name: of the trace's file."""
    span_s = max(float(fit.sample.times[-1]) for fit in fits.values())
    told = "; ".join(_told(fit) if len(fits) == 1 else f"{each}: {_told(fit)}" for each, fit in fits.items())
    return Workload(
        name=re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._") or "fitted",
        about=f"Fitted to the trace {name}.",
        source=told,
        classes={each: fit.spec for each, fit in fits.items()},
        duration=format_duration_ns(max(1, round(span_s)) * _SECOND),  # type: ignore[arg-type]  # read from text
    )


def to_yaml(workload: Workload) -> str:
    """Word a workload as a file that is read back as the same value; defaults are left out."""
    return yaml.safe_dump(_plain(workload), sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)


def _told(fit: TraceFit) -> str:
    chosen = fit.arrivals.chosen
    lengths = (
        "lengths in recorded pairs"
        if fit.paired
        else f"input {fit.input_tokens.name} (distance {fit.input_tokens.distance:.3f}), output "
        f"{fit.output_tokens.name} ({fit.output_tokens.distance:.3f})"
    )
    return (
        f"{len(fit.sample.times)} requests; {chosen.model.name} arrivals, held-out log-likelihood "
        f"{chosen.per_arrival:.4f} an arrival, distance of rescaled gaps {chosen.ks.statistic:.3f}; {lengths}"
    )


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        dumped = value.model_dump(mode="json")
        found = {}
        for name, field in type(value).model_fields.items():
            own = getattr(value, name)
            default = field.get_default(call_default_factory=True)
            if name in _KINDS or default is PydanticUndefined or own != default:
                key = field.alias or name
                found[key] = _plain(own) if _holds_models(own) else dumped[key]
        return {key: found[key] for key in sorted(found, key=lambda key: key not in _KINDS)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _holds_models(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(isinstance(item, BaseModel) for item in value.values())
    items = value if isinstance(value, list | tuple) else (value,)
    return any(isinstance(item, BaseModel) for item in items)
