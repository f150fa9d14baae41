"""What the prompts of a plan have in common, and what a prefix cache would find of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np

from slobench.config.workload import Workload
from slobench.plan import Plan
from slobench.workload.content import Contents, content_keys
from slobench.workload.prefix import BLOCK_TOKENS, ROOM
from slobench.workload.sharing import (
    Cache,
    Partial,
    Sharing,
    block_ids,
    distinct_prompts,
    hit_tokens,
    hits,
    sharing_of,
)
from slobench.workload.variates import IntArray

_MOST_BLOCKS = 3_000_000  # that a cache which forgets is followed over: some seconds


def prompt_contents(plan: Plan, workload: Workload) -> Contents:
    """What the prompts begin with, the classes' `shared_prefix_tokens` as a part of each as well."""
    shared = np.array([workload.classes[name].shared_prefix_tokens for name in plan.class_names])[plan.class_code]
    own = plan.contents or Contents.none(len(plan))
    if not shared.any():
        return own
    keys = np.concatenate([content_keys(0, "shared prefix", name, np.zeros(1, np.int64)) for name in plan.class_names])
    return Contents.one_each(keys[plan.class_code], np.clip(plan.input_tokens - ROOM, 0, shared)).then(own)


def found_tokens(plan: Plan, workload: Workload, block_tokens: int = BLOCK_TOKENS) -> IntArray:
    """Tokens of each prompt that a prefix cache without bounds finds, row after row, from empty."""
    contents = prompt_contents(plan, workload)
    return np.zeros(len(plan), np.int64) if contents.unique else hit_tokens(contents, plan.input_tokens, block_tokens)


def planned_sharing(plan: Plan, workload: Workload, block_tokens: int = BLOCK_TOKENS) -> Sharing | None:
    """What such a cache finds of the whole plan; None where no prompts have anything in common."""
    found = found_tokens(plan, workload, block_tokens)
    return sharing_of(found, plan.input_tokens, block_tokens, Partial.SERVER) if found.any() else None


def _limited(plan: Plan, workload: Workload, cache: Cache, endless: Sharing) -> Sharing | None:
    """What a cache of so many blocks, which replies fill too, finds of the whole plan; endless: one without bounds.

    None where that is not known: without a number of blocks, where requests wait for replies, or in too large a plan.
    """
    if cache.blocks is None:
        return None
    kept = int(((plan.input_tokens + np.maximum(plan.output_tokens - 1, 0)) // cache.block_tokens).sum())
    if kept - endless.hit_blocks <= cache.blocks:
        return endless
    if plan.after is not None or kept > _MOST_BLOCKS:
        return None
    contents = prompt_contents(plan, workload)
    return hits(contents, plan.input_tokens, cache.block_tokens, None, cache.blocks, output_tokens=plan.output_tokens)


def told_sharing(plan: Plan, workload: Workload, cache: Cache) -> dict[str, Any] | None:
    """What a server's cache finds of the plan, for run.json; None where no prompts have anything in common.

    cache_hit_tokens: of a cache of its number of blocks; None where that is not known.
    """
    endless = planned_sharing(plan, workload, cache.block_tokens)
    if endless is None:
        return None
    limited = _limited(plan, workload, cache, endless)
    found = None if limited is None else limited.hit_tokens
    of_cache = {"cache_blocks": cache.blocks, "cache_hit_tokens": found}
    return {"block_tokens": cache.block_tokens, **asdict(endless), **of_cache}


def distinct(plan: Plan, workload: Workload) -> int:
    """Return how many different prompts there are at least, whatever the vocabulary."""
    return distinct_prompts(prompt_contents(plan, workload), plan.input_tokens, plan.index)


def prompt_blocks(plan: Plan, workload: Workload, block_tokens: int) -> Sequence[Sequence[int]]:
    """Names, from 0 up, of the whole blocks at the start of each prompt that others may have too."""
    contents = prompt_contents(plan, workload)
    if contents.unique:
        return [()] * len(plan)
    offsets, ids = block_ids(contents, plan.input_tokens, block_tokens)
    names = (ids & np.int64(2**63 - 1)).tolist()
    return [names[low:high] for low, high in pairwise(offsets.tolist())]
