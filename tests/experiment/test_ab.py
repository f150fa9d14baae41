"""Pairs run in turn: order, seeds, voids, failures, interruption and going on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from slobench.config.load import load_target
from slobench.config.margins import Margins, parse_margin
from slobench.config.workload import Workload
from slobench.errors import ConfigError
from slobench.experiment.ab import MOST_VOID, AbAsk, ArmName, Ran, order_of, refuse_ab, run_ab
from slobench.experiment.ab_file import read
from slobench.experiment.ab_live import prepare
from slobench.experiment.ab_virtual import VirtualArms
from slobench.experiment.events import Event, Told
from slobench.experiment.gated import Gated, detectable
from slobench.metrics.gate import terms_of
from slobench.names import Exit
from tests.experiment.folders import WORKLOAD
from tests.metrics.arms import arm


class Scripted:
    """Arms whose runs are made up; remembers what was asked of it."""

    def __init__(self, *, slower: float = 1.0, invalid: tuple[int, ...] = (), **ends: tuple[int, ArmName]) -> None:
        self.asked: list[tuple[int, ArmName, int]] = []
        self._slower, self._invalid, self._ends = slower, invalid, ends

    def run(self, number: int, name: ArmName, seed: int) -> Iterator[Event | Ran]:
        self.asked.append((number, name, seed))
        if self._ends.get("interrupted") == (number, name):
            yield Ran(None, interrupted=True)
        elif self._ends.get("failure") == (number, name):
            yield Ran(None, failure="the server ended by signal 9")
        else:
            tpot_s = 0.02 * (self._slower if name == "new" else 1.0)
            bad = {"valid": False, "verdict": "INVALID: V01 late"} if number in self._invalid and name == "new" else {}
            yield Ran(arm(seed=seed + 1, run=int(name == "new"), tpot_s=tpot_s, **bad))


def ask(folder: Path, **changes: Any) -> AbAsk:
    target = load_target("sim-reference").value
    made = AbAsk(WORKLOAD, {"base": target, "new": target}, ("one", "other"), folder, terms_of(Margins()))
    return replace(made, **changes)


def ended(asked: AbAsk, arms: Any) -> tuple[Gated, list[str]]:
    events = list(run_ab(asked, arms))
    assert isinstance(events[-1], Gated)
    return events[-1], [event.text for event in events if isinstance(event, Told)]


def test_arms_run_abba_with_one_seed_a_pair(tmp_path: Path) -> None:
    """base new, new base, base new …; the seed counts up from the first."""
    arms = Scripted()
    gated, _ = ended(ask(tmp_path, seed=7), arms)
    assert arms.asked[:6] == [
        (1, "base", 7), (1, "new", 7), (2, "new", 8), (2, "base", 8), (3, "base", 9), (3, "new", 9),
    ]  # fmt: skip
    assert order_of(4) == ("new", "base")
    assert gated.exit == Exit.OK
    assert len(arms.asked) == 2 * gated.judgement.pairs


def test_a_slower_target_fails_at_the_first_look(tmp_path: Path) -> None:
    """10 %: four pairs, exit 5, and gate.json holds them."""
    gated, told = ended(ask(tmp_path), Scripted(slower=1.1))
    assert (gated.exit, gated.judgement.pairs) == (Exit.REGRESSION, 4)
    assert len(read(tmp_path)["pairs"]) == 4
    assert any(line.startswith("look at 4 pairs") for line in told)


def test_a_void_pair_is_replaced_with_another_seed(tmp_path: Path) -> None:
    """The second pair is spoiled: a fifth one takes its place."""
    arms = Scripted(invalid=(2,))
    gated, told = ended(ask(tmp_path), arms)
    assert gated.exit == Exit.OK
    assert (gated.judgement.pairs, len(gated.judgement.void)) == (4, 1)
    assert arms.asked[-1][0] == 5
    assert "pair 2 does not count: new: INVALID: V01 late" in told


def test_a_client_that_spoils_too_many_pairs_ends_it(tmp_path: Path) -> None:
    """Two voids are replaced, a third ends the gate: exit 3."""
    gated, _ = ended(ask(tmp_path), Scripted(invalid=(1, 2, 3)))
    assert (gated.exit, len(gated.judgement.void)) == (Exit.INVALID, MOST_VOID + 1)


@pytest.mark.parametrize(("name", "decision"), [("new", "FAIL"), ("base", None)])
def test_a_target_that_dies_ends_it(name: ArmName, decision: str | None, tmp_path: Path) -> None:
    """Exit 6; where it is the new one, a regression too."""
    gated, _ = ended(ask(tmp_path), Scripted(failure=(2, name)))
    assert gated.exit == Exit.TARGET
    assert gated.judgement.decision == decision
    assert (Exit.REGRESSION in gated.exits) == (name == "new")


def test_an_interrupted_gate_goes_on_where_it_was(tmp_path: Path) -> None:
    """Ctrl-C in the third pair: exit 130; resumed, the pair is run anew, and the verdict is that of an unbroken gate."""
    gated, _ = ended(ask(tmp_path), Scripted(interrupted=(3, "new")))
    assert (gated.exit, gated.judgement.pairs) == (Exit.INTERRUPTED, 2)
    arms = Scripted()
    resumed, _ = ended(ask(tmp_path, resume=True), arms)
    assert arms.asked[0] == (3, "base", 2)
    whole, _ = ended(ask(tmp_path / "whole"), Scripted())
    assert resumed.judgement == whole.judgement
    again, _ = ended(ask(tmp_path, resume=True), Scripted(slower=2.0))
    assert again.judgement == whole.judgement


def test_another_gate_is_not_gone_on_with(tmp_path: Path) -> None:
    """Another seed, other metrics: named."""
    ended(ask(tmp_path), Scripted())
    with pytest.raises(ConfigError, match="seed differ"):
        ended(ask(tmp_path, resume=True, seed=3), Scripted())
    with pytest.raises(ConfigError, match=r"no gate\.json"):
        ended(ask(tmp_path / "none", resume=True), Scripted())


def test_damage_is_told(tmp_path: Path) -> None:
    """Half a file."""
    (tmp_path / "gate.json").write_text('{"schema": 1,')
    with pytest.raises(Exception, match="cannot read"):
        read(tmp_path)


def test_the_noise_of_a_target_takes_every_pair(tmp_path: Path) -> None:
    """Ten pairs, whatever the first show; quiet enough for 5 %: exit 0, and what ten pairs see is below the margin."""
    gated, _ = ended(ask(tmp_path, aa=True), Scripted())
    assert (gated.exit, gated.judgement.pairs) == (Exit.OK, 10)
    worst = max(detectable(test, 10) for test in gated.judgement.tests if test.decides)
    assert 1 < worst <= 1.05


def test_a_target_too_noisy_for_the_margin_is_refused(tmp_path: Path) -> None:
    """A margin of 0.1 % that ten pairs could not see: exit 7 with the pairs it would take."""
    terms = terms_of(Margins(margin=parse_margin("0.1%")))
    gated, _ = ended(ask(tmp_path, aa=True, terms=terms), Scripted())
    assert gated.exit == Exit.UNDECIDED
    assert all("pairs, not 10" in reason for reason in gated.judgement.reasons)


def test_virtual_arms_are_the_same_each_time_and_differ_in_their_noise(tmp_path: Path) -> None:
    """One plan for both arms; one gate for one seed."""
    asked = ask(tmp_path)
    runs = []
    for _ in range(2):
        arms = VirtualArms(asked)
        runs.append({name: next(iter(arms.run(1, name, 5))) for name in ("base", "new")})
    base, new = (runs[0][name].arm for name in ("base", "new"))
    assert base.identity.digest == new.identity.digest
    assert (base.requests.seconds["tpot"] != new.requests.seconds["tpot"]).any()
    assert (base.requests.seconds["tpot"] == runs[1]["base"].arm.requests.seconds["tpot"]).all()


def test_what_pairs_could_not_compare_is_refused(tmp_path: Path) -> None:
    """Runs that end when they are sure; virtual time for a server that is none of ours, or for sessions."""
    until = WORKLOAD.model_validate({**WORKLOAD.model_dump(mode="json"), "until": {"rule": "decided"}})
    with pytest.raises(ConfigError, match="until"):
        refuse_ab(ask(tmp_path, workload=until))
    remote = load_target("http://127.0.0.1:9").value
    with pytest.raises(ConfigError, match="kind: sim"):
        VirtualArms(ask(tmp_path, targets={"base": remote, "new": remote}))


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"session": {"turns": {"dist": "constant", "value": 2}}}, "waits for a reply"),
        ({"patience": {"wait": {"dist": "constant", "value": "1s"}}}, "patience"),
    ],
)
def test_what_the_engine_in_virtual_time_leaves_out_is_refused(tmp_path: Path, keys: dict[str, Any], says: str) -> None:
    """Rather than run as if nobody waited for a reply, or every user for ever."""
    plain = WORKLOAD.model_dump(mode="json")
    changed = Workload.model_validate({**plain, "classes": {"chat": {**plain["classes"]["chat"], **keys}}})
    with pytest.raises(ConfigError, match=says):
        VirtualArms(ask(tmp_path, workload=changed))


def test_a_folder_with_something_in_it_needs_a_word(tmp_path: Path) -> None:
    """Neither --force nor --resume: refused; --force takes away only what a gate wrote."""
    (tmp_path / "pair-01").mkdir()
    (tmp_path / "gate.json").write_bytes(orjson.dumps({}))
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "junit-of-mine").mkdir()
    with pytest.raises(ConfigError, match="--resume"):
        prepare(tmp_path, force=False, resume=False)
    prepare(tmp_path, force=False, resume=True)
    assert (tmp_path / "gate.json").exists()
    prepare(tmp_path, force=True, resume=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["junit-of-mine", "notes.txt"]
