"""How many GPUs a target says it has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from slobench.config.load import AnyTarget
from slobench.config.target import NullTarget, VllmTarget


def target_gpus(target: AnyTarget) -> int | None:
    """How many GPUs a target says it has: `gpus`, else vLLM's parallel sizes; None where neither is said."""
    if isinstance(target, NullTarget):
        return None
    if target.gpus is not None:
        return target.gpus
    if isinstance(target, VllmTarget):
        names = ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size")
        sizes = [_argument(target.args, name) for name in names]
        if any(size is not None for size in sizes):
            return math.prod(size or 1 for size in sizes)
    return None


def _argument(args: Mapping[str, Any], name: str) -> int | None:
    value = args.get(name, args.get(name.replace("-", "_")))
    return int(value) if isinstance(value, int | str) and str(value).isdigit() else None
