"""What streams in virtual time have in common whose every probe begins from empty, on an engine of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from slobench.config.engine import Engine
from slobench.config.slo import Slo
from slobench.config.workload import Workload
from slobench.experiment.events import Event
from slobench.experiment.stream import Counted, Probe, Probed
from slobench.experiment.virtual_judge import Judge, needs_tokens
from slobench.experiment.virtual_stream import Sent, VirtualEngine, save_requests, virtual_progress


class VirtualProbes:
    """A Stream but for its `step`, which begins with `_begin` and puts what it saw into `_done`."""

    def __init__(
        self,
        spec: Engine,
        workload: Workload,
        slo: Slo,
        counted: Sequence[Counted],
        seed: int,
        store: Path | None = None,
    ) -> None:
        """Begin empty. store: where `close` writes every request, as parquet."""
        self._store, self._sent = store, list[Sent]()
        self._spec, self._workload, self._slo = spec, workload, slo
        self._counted, self._seed = tuple(counted), seed
        self._each_token = needs_tokens(counted, slo)
        self._done: list[Probed] = []
        self._elapsed_s = 0.0

    def finished(self) -> list[Probed]:
        """Probes that have ended since the last call: see Stream."""
        done, self._done = self._done, []
        return done

    def drain(self) -> Iterator[Event]:
        """Nothing is in flight between probes: see Stream."""
        yield self._progress()

    def now_s(self) -> float:
        """Time of all probes together."""
        return self._elapsed_s

    def close(self) -> None:
        """Write what was offered, where that was asked."""
        if self._store is not None:
            save_requests(self._sent, tuple(self._workload.classes), self._store)

    def _begin(self, probe: Probe) -> tuple[VirtualEngine, Judge]:
        """The engine of a probe, and what judges the requests that it serves."""
        engine = VirtualEngine(self._spec, self._workload, self._seed + probe.seed, each_token=self._each_token)
        engine.probe = probe.number
        self._sent.append(engine.sent)
        return engine, Judge(self._slo, tuple(self._workload.classes), self._counted, engine.clock)

    def _progress(self, further_s: float = 0.0) -> Event:
        return virtual_progress(self._elapsed_s + further_s, sum(len(sent.scheduled_ns) for sent in self._sent), 0)
