"""Rows of one class: what it asks for, request by request, before the classes are put together into a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slobench.names import NULL
from slobench.workload.content import Contents
from slobench.workload.variates import IntArray


@dataclass(frozen=True, eq=False)
class Rows:
    """Requests of one class as columns of one length, in order of (start of the session, session, turn).

    start_ns: int64 ns from the start of the run; NULL where the row follows others of its session.
    session: int64, numbered from 0 within the class. turn: int32, its place in the session.
    after: int64, bit k set = it waits for the row of its session that stands k + 1 rows before it (k below
    config.session.LOOK_BACK); 0 = it has a start of its own. delay_ns: int64, from the last end of those to its own
    start; NULL where it waits for none. patience_ns: int64, how long it is waited for; NULL = for ever.
    images: int32. contents: what prompts begin with; None = every prompt is unique.
    """

    start_ns: IntArray
    input_tokens: IntArray
    output_tokens: IntArray
    session: IntArray
    turn: NDArray[np.int32]
    after: IntArray
    delay_ns: IntArray
    patience_ns: IntArray
    images: NDArray[np.int32]
    contents: Contents | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        sizes = {len(column) for column in self._columns().values()}
        if self.contents is not None:
            sizes.add(len(self.contents))
        if len(sizes) != 1:
            raise ValueError(f"columns of one length expected, got {sorted(sizes)}")

    def __len__(self) -> int:
        return len(self.start_ns)

    def _columns(self) -> dict[str, NDArray[Any]]:
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name not in {"contents", "notes"}}

    @classmethod
    def single(cls, start_ns: IntArray, input_tokens: IntArray, output_tokens: IntArray) -> Rows:
        """Requests that belong to no others, each a session of its own."""
        n = len(start_ns)
        return cls(
            start_ns=start_ns,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            session=np.arange(n, dtype=np.int64),
            turn=np.zeros(n, np.int32),
            after=np.zeros(n, np.int64),
            delay_ns=np.full(n, NULL),
            patience_ns=np.full(n, NULL),
            images=np.zeros(n, np.int32),
        )

    def take(self, picked: NDArray[Any] | slice) -> Rows:
        """Rows picked by a mask, by positions or as a slice, in that order."""
        columns = {name: column[picked] for name, column in self._columns().items()}
        contents = None if self.contents is None else self.contents.take(picked)
        return Rows(**columns, contents=contents, notes=self.notes)

    def joined(self, more: Rows) -> Rows:
        """These rows, and then those, their sessions numbered after these."""
        theirs = more._columns()
        columns = {name: np.concatenate([column, theirs[name]]) for name, column in self._columns().items()}
        columns["session"][len(self) :] += int(np.max(self.session, initial=-1)) + 1
        contents = None
        if self.contents is not None or more.contents is not None:
            parts = [each.contents or Contents.none(len(each)) for each in (self, more)]
            contents = parts[0].joined(parts[1])
        return Rows(**columns, contents=contents, notes=self.notes + more.notes)


def merged(classes: Sequence[Rows], n: int | None) -> tuple[Rows, IntArray]:
    """Put classes together: (the first n rows, the class of each by its position), by the start of their sessions.

    At equal times in the order of the classes. Sessions with rows that wait for others stay together; rows of other
    sessions stand each at its own time. Sessions are numbered in the order of their first rows.
    """
    rows = reduce(Rows.joined, classes)
    codes = np.repeat(np.arange(len(classes)), [len(each) for each in classes])
    keys = _keys(rows)
    if (keys[1:] >= keys[:-1]).all():  # without a copy
        rows, codes = rows.take(slice(n)), codes[:n]
    else:
        order = np.argsort(keys, kind="stable")[:n]
        rows, codes = rows.take(order), codes[order]
    _, first, number = np.unique(rows.session, return_index=True, return_inverse=True)
    place = np.empty(len(first), np.int64)
    place[np.argsort(first, kind="stable")] = np.arange(len(first))
    return replace(rows, session=place[number]), codes


def _keys(rows: Rows) -> IntArray:
    """The time that each row is sorted by."""
    followed = rows.after != 0
    if not followed.any():
        return rows.start_ns
    together = np.zeros(int(rows.session.max()) + 1, np.bool_)
    together[rows.session[followed]] = True
    start = np.full(len(together), np.iinfo(np.int64).max)
    np.minimum.at(start, rows.session[~followed], rows.start_ns[~followed])
    return np.where(together[rows.session], start[rows.session], rows.start_ns)
