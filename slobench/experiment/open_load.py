"""The load of a search: the engine in virtual time, or workers on a running target; requests, sessions or users."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

from slobench.config.target import SimTarget
from slobench.experiment.capacity import CapacityAsk
from slobench.experiment.session_load import has_sessions
from slobench.experiment.stream import Stream
from slobench.experiment.trial import Interrupts


def open_load(ask: CapacityAsk, interrupts: Interrupts) -> Stream:
    """Make the stream that a search asks for; blocks until its target is ready. Raises SlobenchError."""
    trial, target = ask.trial, ask.trial.target
    if ask.wanted.virtual:
        from slobench.experiment.virtual_closed import VirtualUsers
        from slobench.experiment.virtual_sessions import VirtualSessions
        from slobench.experiment.virtual_stream import VirtualStream

        assert isinstance(target, SimTarget)
        kind: type[VirtualUsers | VirtualSessions | VirtualStream] = VirtualStream
        if ask.wanted.users:
            kind = VirtualUsers
        elif has_sessions(trial.workload):
            kind = VirtualSessions
        store = next(path for path in _names(trial.folder) if not path.exists())
        return kind(target.engine, trial.workload, ask.slo, ask.asked.counted, trial.seed, store)
    from slobench.experiment.live_stream import StreamAsk, open_stream

    asked = StreamAsk(trial, ask.slo, ask.asked.counted, interrupts)
    if ask.wanted.users or has_sessions(trial.workload):
        from slobench.experiment.trial_stream import open_trials

        return open_trials(asked)
    return open_stream(asked)


def _names(folder: Path) -> Iterator[Path]:
    """Names for the requests of this search; one that was resumed begins another file."""
    yield folder / "requests.parquet"
    yield from (folder / f"requests-{number}.parquet" for number in count(2))
