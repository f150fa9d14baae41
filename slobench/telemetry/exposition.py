"""A server's Prometheus exposition as quantities of one vocabulary."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from slobench.telemetry.source import Reading
from slobench.telemetry.vocabulary import (
    CACHE_INFO,
    HISTOGRAMS,
    KEPT_LABELS,
    KINDS,
    RANK_LABELS,
    TERMS,
    WANTED,
    WHOLE,
    Histogram,
)
from slobench.workload.sharing import Cache

Replica = tuple[tuple[str, str], ...]
"""The labels that tell one replica behind an address from another, in order."""


@dataclass(frozen=True, slots=True)
class Exposed:
    """What one scrape told. kind: "vLLM", "SGLang", "TGI", or "" where no name is known. caches: of its replicas."""

    kind: str
    readings: tuple[Reading, ...]
    caches: tuple[Cache, ...] = ()


def parse(text: str) -> Exposed:
    """Read an exposition in the Prometheus text format. Raises ValueError where a line that is wanted has no form.

    Comments go first: with them the parser would add `_total` to counters that lack it.
    """
    samples: dict[str, list[Sample]] = {}
    kind = ""
    for line in text.split("\n"):
        name = line.partition("{")[0].partition(" ")[0]
        kind = kind or next((each for start, each in KINDS.items() if name.startswith(start)), "")
        if name in WANTED or name in CACHE_INFO:
            samples.setdefault(name, []).extend(_samples(line))
    readings = (*_terms(samples), *_histograms(samples)) if kind else ()
    return Exposed(kind, tuple(each for each in readings if math.isfinite(each.value)), tuple(_caches(samples)))


def _samples(line: str) -> Iterator[Sample]:
    try:
        for family in text_string_to_metric_families(line):
            yield from family.samples
    except LookupError as error:  # the parser's own fault, of labels such as {engine="0",="1"}
        raise ValueError(f"{error}: {line[:100]!r}") from None


def _caches(samples: Mapping[str, list[Sample]]) -> Iterator[Cache]:
    for name, (block, blocks) in CACHE_INFO.items():
        for own in _by_replica(samples.get(name, ())).values():
            size, many = (_count(own[0].labels.get(label, "")) for label in (block, blocks))
            if size is not None:
                yield Cache(size, many)


def _count(text: str) -> int | None:
    """A number from 1 up; None for what is no such number ("None" before the cache is made)."""
    return int(text) if text.isdecimal() and int(text) else None


def _terms(samples: Mapping[str, list[Sample]]) -> Iterator[Reading]:
    for term in TERMS:
        for names in term.seen_as:
            found = [sample for name in names for sample in samples.get(name, ())]
            if not found:
                continue
            for replica, own in _by_replica(found).items():
                values = [float(sample.value) for sample in own]
                yield Reading(term.name, worded(replica), sum(values) if term.put == "sum" else max(values))
            break


def _histograms(samples: Mapping[str, list[Sample]]) -> Iterator[Reading]:
    for histogram in HISTOGRAMS:
        for name in histogram.seen_as:
            if f"{name}_count" in samples:
                yield from _histogram(histogram, name, samples)
                break


def _histogram(histogram: Histogram, name: str, samples: Mapping[str, list[Sample]]) -> Iterator[Reading]:
    for part, own_name in (("sum", histogram.sum_name), ("count", f"{histogram.name}_count")):
        for replica, own in _by_replica(samples.get(f"{name}_{part}", ())).items():
            yield Reading(own_name, worded(replica), sum(float(sample.value) for sample in own))
    for replica, own in _by_replica(samples.get(f"{name}_bucket", ())).items():
        below: dict[float, float] = {}
        for sample in own:
            bound = float(sample.labels.get("le", "nan"))
            below[bound] = below.get(bound, 0.0) + float(sample.value)
        edges = [(-math.inf, 0.0), *sorted(item for item in below.items() if not math.isnan(item[0]))]
        for (_, lower), (bound, upper) in pairwise(edges):
            yield Reading(f"{histogram.name}_bucket", worded((*replica, ("le", _bound(bound)))), upper - lower)


def _by_replica(found: Iterable[Sample]) -> dict[Replica, list[Sample]]:
    """Samples by the replica that they are of: those of its lowest rank, and no sum beside its parts."""
    groups: dict[Replica, dict[tuple[int, ...], list[Sample]]] = {}
    for sample in found:
        replica = tuple((label, sample.labels[label]) for label in KEPT_LABELS if label in sample.labels)
        rank = tuple(_rank(sample.labels.get(label, "")) for label in RANK_LABELS)
        groups.setdefault(replica, {}).setdefault(rank, []).append(sample)
    return {replica: _parts(ranks[min(ranks)]) for replica, ranks in groups.items()}


def _rank(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _parts(samples: list[Sample]) -> list[Sample]:
    parts = [s for s in samples if not any(s.labels.get(label) == value for label, value in WHOLE.items())]
    return parts or samples


def worded(labels: Replica) -> str:
    r"""`engine="0",le="0.5"`; quotes, backslashes and line ends are escaped as in an exposition."""
    escapes = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
    return ",".join(f'{label}="{value.translate(escapes)}"' for label, value in labels)


def _bound(bound: float) -> str:
    return "+Inf" if math.isinf(bound) else f"{bound:.12g}"
