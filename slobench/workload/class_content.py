"""What the requests of all classes hold besides unique text: beginnings that they share, and images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from slobench.config.workload import RequestClass, Workload
from slobench.workload.content import Contents
from slobench.workload.lengths import draw
from slobench.workload.prefix import prefix_contents, solved_warm
from slobench.workload.rows import Rows
from slobench.workload.variates import IntArray, child

_TRIAL = 1 << 12  # requests that stand for all that are to come


def with_content(rows: Rows, codes: IntArray, workload: Workload, seed: int) -> Rows:
    """The rows of a plan, each with what its class says of prefixes and images; codes: the class of each.

    Those of sessions have their prefixes already. Raises ConfigError where no prefix gives the hit rate asked for.
    """
    contents, images = rows.contents, rows.images.copy()
    for code, (name, spec) in enumerate(workload.classes.items()):
        mine = np.flatnonzero(codes == code)
        images[mine] = image_counts(spec, name, seed, images[mine])
        if spec.prefix is not None and spec.session is None:
            own = prefix_contents(spec.prefix, name, seed, rows.input_tokens[mine])
            contents = (contents or Contents.none(len(rows))).then(own.scattered(mine, len(rows)))
    return replace(rows, contents=contents, images=images)


def with_known_prefixes(workload: Workload) -> Workload:
    """The workload with the prefixes that its hit rates ask for once a cache knows them all, for any load of it.

    Raises ConfigError where none gives the hit rate asked for.
    """
    classes = dict(workload.classes)
    for name, spec in classes.items():
        if spec.prefix is not None and spec.prefix.hit_rate is not None:
            lengths = draw(spec.lengths[0], _TRIAL, child(0, "input_tokens", name))
            known = solved_warm(spec.prefix, name, lengths)
            classes[name] = spec.model_copy(update={"prefix": known})
    return workload.model_copy(update={"classes": classes})


def image_counts(spec: RequestClass, name: str, seed: int, recorded: NDArray[np.int32]) -> NDArray[np.int32]:
    """How many images each request of a class has; recorded: how many it had, sent only where a size is given."""
    n, count = len(recorded), None if spec.images is None else spec.images.count
    if spec.images is None:
        return np.zeros(n, np.int32)
    if count is None or isinstance(count, int):
        return recorded if spec.recorded is not None else np.full(n, count or 1, np.int32)
    return draw(count, n, child(seed, "images", name)).astype(np.int32)
