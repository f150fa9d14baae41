"""The arms of a gate on real servers: each arm a stored run of its own, with a server process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from slobench.errors import TargetError, WorkerError
from slobench.experiment.ab import AbAsk, ArmName, Ran
from slobench.experiment.arms import arm_of
from slobench.experiment.events import Event, Step, passed_on
from slobench.experiment.folder import Ours
from slobench.experiment.folder import prepare as prepare_for
from slobench.experiment.trial import Finished, Interrupts, Trial, run_trial
from slobench.names import Exit

_OURS = Ours(files=("gate.*", "junit*"), folders=("pair-*",))


class LiveArms:
    """Runs one trial an arm. `report` makes the report of a run folder and returns its exit code."""

    def __init__(self, ask: AbAsk, interrupts: Interrupts, report: Callable[[Path], int]) -> None:
        self._ask, self._interrupts, self._report = ask, interrupts, report

    def run(self, number: int, name: ArmName, seed: int) -> Iterator[Event | Ran]:
        """Run one arm of a pair: see Arms. What an unfinished pair left behind is replaced."""
        ask = self._ask
        folder = ask.folder / f"pair-{number:02d}" / name
        trial = Trial(ask.workload, ask.targets[name], folder, seed, ask.workers, force=True)
        try:
            finished = yield from passed_on(run_trial(trial, self._interrupts), Finished)
        except TargetError as error:
            yield Ran(None, failure=str(error).partition("\n")[0])
            return
        self._interrupts.offering = False
        yield Step(f"report of pair {number}, {name}")
        code = self._report(folder)
        if finished.interrupted:
            yield Ran(None, interrupted=True)
        elif finished.target_failure or code == Exit.TARGET:
            yield Ran(None, failure=finished.target_failure or "every request failed")
        elif code not in set(Exit) - {Exit.TOOL}:  # killed, say: there is no report to read
            raise WorkerError(f"no report of {folder}\n  then      slobench report {folder}")
        else:
            yield Ran(arm_of(folder))


def prepare(folder: Path, *, force: bool, resume: bool) -> None:
    """Make the folder of a gate; ConfigError where it holds something and neither flag is given."""
    prepare_for(folder, _OURS, force=force, resume=resume)
