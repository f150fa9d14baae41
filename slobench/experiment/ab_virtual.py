"""The arms of a gate on the simulated engine in virtual time: a run in a fraction of a second, nothing stored."""

from __future__ import annotations

from collections.abc import Iterator

from slobench.config.load import AnyTarget, public
from slobench.config.slo import parse_slo
from slobench.config.target import SimTarget
from slobench.errors import ConfigError
from slobench.experiment.ab import AbAsk, ArmName, Ran
from slobench.experiment.arms import flat
from slobench.experiment.events import Event
from slobench.experiment.virtual_arm import Virtual, refuse, virtual_arm
from slobench.metrics.arm import Identity
from slobench.plan import build_plan
from slobench.workload.variates import child, raw


class VirtualArms:
    """Each arm an engine that begins empty; the noise of its steps is its own."""

    def __init__(self, ask: AbAsk) -> None:
        """Refuse what virtual time cannot do. Raises ConfigError."""
        self._ask = ask
        self._engines = {name: _engine(target) for name, target in ask.targets.items()}
        self._slo = parse_slo(ask.workload.slo, tuple(ask.workload.classes))
        refuse(ask.workload, self._slo)

    def run(self, number: int, name: ArmName, seed: int) -> Iterator[Event | Ran]:  # noqa: ARG002 (of the protocol)
        """Run one arm of a pair: see Arms."""
        ask = self._ask
        what = Virtual(ask.workload, self._slo, build_plan(ask.workload, seed))
        noise = int(raw(1, child(seed, "engine noise", name))[0] >> 2)
        identity = Identity(
            name=ask.names[name == "new"],
            seed=seed,
            workload=public(ask.workload),
            manner={"target": "sim", "time": "virtual"},
            settings=dict(flat({"engine": public(ask.targets[name]).get("engine")})),
        )
        yield Ran(virtual_arm(what, self._engines[name].engine, noise, identity))


def _engine(target: AnyTarget) -> SimTarget:
    if not isinstance(target, SimTarget):
        raise ConfigError(
            f"--virtual runs the simulated engine, not a target of kind {target.kind}\n  expected  kind: sim"
        )
    return target
