"""Requests of one session: their numbers, and which turn each is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slobench.names import NULL
from slobench.workload.variates import IntArray


def numbered(names: Sequence[object]) -> IntArray:
    """Number names in the order in which they first come; NULL where there is none."""
    numbers: dict[object, int] = {}
    return np.array(
        [NULL if name is None else numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64
    )


def turns_of(session: IntArray) -> IntArray:
    """The place of each row among those of its session, from 0; NULL where it has none."""
    order = np.argsort(session, kind="stable")
    ordered = session[order]
    place = np.arange(len(session))
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]]) if len(session) else np.empty(0, np.bool_)
    turns = np.empty(len(session), dtype=np.int64)
    turns[order] = place - np.maximum.accumulate(np.where(first, place, 0))
    return np.where(session == NULL, NULL, turns)


def renumbered(session: IntArray) -> IntArray:
    """Sessions numbered from 0 in the order of their first rows; NULL stays."""
    there = session != NULL
    _, first, code = np.unique(session[there], return_index=True, return_inverse=True)
    place = np.empty(len(first), dtype=np.int64)
    place[np.argsort(first, kind="stable")] = np.arange(len(first))
    numbers = np.full(len(session), NULL)
    numbers[there] = place[code]
    return numbers
