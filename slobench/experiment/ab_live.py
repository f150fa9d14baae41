"""The arms of a gate on real servers: each arm a stored run of its own, with a server process of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from slobench.errors import ConfigError, TargetError, WorkerError
from slobench.experiment.ab import AbAsk, ArmName, Ran
from slobench.experiment.arms import arm_of
from slobench.experiment.events import Event, Step
from slobench.experiment.trial import Finished, Interrupts, Trial, run_trial
from slobench.names import Exit


class LiveArms:
    """Runs one trial an arm. `report` makes the report of a run folder and returns its exit code."""

    def __init__(self, ask: AbAsk, interrupts: Interrupts, report: Callable[[Path], int]) -> None:
        self._ask, self._interrupts, self._report = ask, interrupts, report

    def run(self, number: int, name: ArmName, seed: int) -> Iterator[Event | Ran]:
        """Run one arm of a pair: see Arms. What an unfinished pair left behind is replaced."""
        ask = self._ask
        folder = ask.folder / f"pair-{number:02d}" / name
        trial = Trial(ask.workload, ask.targets[name], folder, seed, ask.workers, force=True)
        finished: Finished | None = None
        try:
            for event in run_trial(trial, self._interrupts):
                if isinstance(event, Finished):
                    finished = event
                else:
                    yield event
        except TargetError as error:
            yield Ran(None, failure=str(error).partition("\n")[0])
            return
        assert finished is not None
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
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file\n  expected  a folder that is empty or does not exist")
    held = sorted(folder.iterdir()) if folder.exists() else []
    if held and not resume:
        if not force:
            raise ConfigError(f"{folder} is not empty\n  expected  --resume to go on, another --out, or --force")
        for path in held:
            if path.is_dir() and path.name.startswith("pair-"):
                shutil.rmtree(path)
            elif path.name.startswith(("gate.", "junit")):
                path.unlink()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot make {folder}: {error.strerror}\n  expected  --out DIR in a place you may write to"
        ) from None
