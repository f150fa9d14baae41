"""Users of a closed loop who go through whole sessions, one after another."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np

from slobench.config.workload import Workload
from slobench.errors import ConfigError
from slobench.workload.lengths import draw_lengths
from slobench.workload.rows import Rows
from slobench.workload.session_rows import session_rows
from slobench.workload.sessions import classes_by_share
from slobench.workload.variates import IntArray


def user_rows(workload: Workload, users: int, n: int, seed: int) -> tuple[Rows, IntArray]:
    """n rows and their classes, user after user; each has n / users requests of whole sessions, but for the last.

    Session s is user s % users's. A session's class is drawn by share; one of a class without sessions is one request.
    """
    most = np.full(users, n // users)
    most[: n % users] += 1
    rounds = 1
    while True:
        rows, codes, user = _dealt(workload, users, rounds, seed)
        if (np.bincount(user, minlength=users) >= most).all():
            break
        if not len(rows):
            raise ConfigError(
                "no session has a request that fits its max_tokens\n  expected  a larger max_tokens, or shorter prompts"
            )
        rounds *= 2
    first = np.searchsorted(user, np.arange(users))
    rank = np.arange(len(user)) - first[user]
    kept = np.flatnonzero(rank < most[user])
    return replace(rows.take(kept), session=user[kept], turn=rank[kept].astype(np.int32)), codes[kept]


def _dealt(workload: Workload, users: int, rounds: int, seed: int) -> tuple[Rows, IntArray, IntArray]:
    """Rows of `rounds` sessions of each user, their classes and users: user after user, session after session."""
    of_session = classes_by_share(users * rounds, {name: s.share for name, s in workload.classes.items()}, seed)
    parts, codes, sessions = [], [], []
    for code, (name, spec) in enumerate(workload.classes.items()):
        mine = np.flatnonzero(of_session == code)
        start_ns = np.zeros(len(mine), np.int64)
        if spec.session is None:
            rows = Rows.single(start_ns, *draw_lengths(*spec.lengths, len(mine), seed, name))
        else:
            rows = session_rows(spec, spec.session, name, seed, start_ns, None)
        parts.append(rows)
        codes.append(np.full(len(rows), code))
        sessions.append(mine[rows.session])
    session, class_of = np.concatenate(sessions), np.concatenate(codes)
    order = np.lexsort((session, session % users))  # stable: turns stay in order
    return reduce(Rows.joined, parts).take(order), class_of[order], (session % users)[order]
