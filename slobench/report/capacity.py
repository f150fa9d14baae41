"""The result of a capacity search: what every form of its report says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slobench.experiment.capacity import CapacityAsk, SearchEnded, gpus_of
from slobench.experiment.found import Found
from slobench.experiment.search_state import History
from slobench.names import Exit


@dataclass(frozen=True, slots=True)
class CapacityView:
    """A search that has ended."""

    ask: CapacityAsk
    history: History
    found: Found

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.ask.trial.folder

    @property
    def users(self) -> bool:
        """Whether the load is a number of users."""
        return self.ask.wanted.users

    @property
    def gpus(self) -> int | None:
        """GPUs of the target, None where it does not say."""
        return gpus_of(self.ask)


def view_of(ended: SearchEnded) -> CapacityView:
    """Return what reports are made of."""
    return CapacityView(ended.ask, ended.history, ended.found)


def exit_of(view: CapacityView) -> Exit:
    """0 certified; 3 the client spoiled it; 130 interrupted; else 7: uncertified. Never 4: no load was required."""
    match view.found.reason:
        case "certified":
            return Exit.OK
        case "instrument":
            return Exit.INVALID
        case "interrupted":
            return Exit.INTERRUPTED
        case _:
            return Exit.UNDECIDED
