"""Gates over stored runs: folders, files, histories; what is refused and with which exit code."""

from __future__ import annotations

import math
from pathlib import Path

import orjson
import pytest

from slobench.config.margins import Margins
from slobench.errors import ConfigError, InvalidRunError, RecordsError, UsageError
from slobench.experiment.arms import find_arms, run_folders
from slobench.experiment.baselines import (
    MOST_BYTES,
    append_history,
    changes_in,
    earlier_runs,
    load_baseline,
    save_baseline,
)
from slobench.experiment.compare import compare_runs
from slobench.experiment.gate import gate_stored
from slobench.metrics.gate import terms_of
from slobench.names import Exit
from slobench.records.store import read_run_json
from tests.experiment.folders import in_turn, made

SHOWN = terms_of(Margins()).shown


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Four pairs, ABBA, of one server."""
    return in_turn(tmp_path_factory.mktemp("turned"), 4)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine runs of one plan, an hour apart."""
    folder = tmp_path_factory.mktemp("earlier")
    for k in range(9):
        made(folder / f"main-{k + 1}", at_s=3600.0 * k)
    return folder


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the same plan on steps 30 % longer."""
    return made(tmp_path_factory.mktemp("slow") / "new", slower=1.3, at_s=10**6)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another run of the same plan on the same server."""
    return made(tmp_path_factory.mktemp("fresh") / "new", at_s=10**6)


def test_the_numbers_are_those_of_the_report(fresh: Path) -> None:
    """A run read for comparison has the percentiles and the attainment of its own summary."""
    (arm,) = find_arms(str(fresh))
    summary = read_run_json(fresh)["summary"]
    for each in SHOWN:
        seen = summary["latency"][each.metric][each.statistic]["value"]
        assert math.exp(each.log(arm.requests)) == pytest.approx(seen)
    good = arm.requests.good
    assert float(good.mean()) == pytest.approx(summary["slo"]["all"]["attainment"])
    assert len(good) == summary["slo"]["all"]["population"]


def test_pairs_that_were_run_in_turn_are_judged_as_pairs(turned: tuple[Path, Path]) -> None:
    """One server against itself: no regression, by four pairs."""
    gated, new = gate_stored([str(turned[1])], str(turned[0]), Margins())
    assert (gated.mode, gated.judgement.pairs, len(new)) == ("pairs", 4, 4)
    assert gated.exit in {Exit.OK, Exit.UNDECIDED}


def test_pairs_that_were_not_run_in_turn_decide_only_by_force(tmp_path: Path) -> None:
    """All of one, then all of the other: what drifted between them would be taken for a difference."""
    base, new = in_turn(tmp_path, 4, slower=1.3, apart=True)
    gated, _ = gate_stored([str(new)], str(base), Margins())
    assert gated.exit == Exit.UNDECIDED
    assert "--ab" in gated.command
    forced, _ = gate_stored([str(new)], str(base), Margins(), force=True)
    assert (forced.mode, forced.exit) == ("pairs", Exit.REGRESSION)
    assert any("not made in turn" in note for note in forced.notes)


def test_a_stored_baseline_of_nine_runs_decides(earlier: Path, slow: Path, fresh: Path) -> None:
    """30 % slower fails; the same does not."""
    gated, _ = gate_stored([str(slow)], str(earlier), Margins())
    assert (gated.mode, gated.exit) == ("stored", Exit.REGRESSION)
    assert any("weaker" in note for note in gated.notes)
    gated, _ = gate_stored([str(fresh)], str(earlier), Margins())
    assert gated.exit in {Exit.OK, Exit.UNDECIDED}


def test_too_few_earlier_runs_say_what_would_decide(earlier: Path, fresh: Path) -> None:
    """Seven of the nine: exit 7 and a command."""
    gated, _ = gate_stored([str(fresh)], str(earlier), Margins(), last=7)
    assert gated.exit == Exit.UNDECIDED
    assert gated.command == "slobench gate small --ab BASE_TARGET NEW_TARGET"


def test_an_invalid_new_run_is_refused(tmp_path: Path, earlier: Path) -> None:
    """Exit 3: it can be no pass."""
    folder = made(tmp_path / "bad")
    run = read_run_json(folder)
    run["summary"]["valid"] = False
    run["summary"]["verdict"] = "INVALID: V01 late"
    (folder / "run.json").write_bytes(orjson.dumps(run))
    with pytest.raises(InvalidRunError, match="INVALID: V01 late"):
        gate_stored([str(folder)], str(earlier), Margins())
    with pytest.raises(InvalidRunError):
        save_baseline(tmp_path / "b.json", find_arms(str(folder)))
    with pytest.raises(InvalidRunError):
        compare_runs(str(folder), [str(earlier / "main-1")], Margins(), force=False)
    assert compare_runs(str(folder), [str(earlier / "main-1")], Margins(), force=True).comparisons[0].refused


def test_invalid_earlier_runs_are_left_out(tmp_path: Path, fresh: Path) -> None:
    """Eight valid ones and one that is not: eight count."""
    for k in range(9):
        folder = made(tmp_path / f"main-{k}", at_s=3600.0 * k)
        if k == 4:
            run = read_run_json(folder)
            run["summary"]["valid"] = False
            (folder / "run.json").write_bytes(orjson.dumps(run))
    gated, _ = gate_stored([str(fresh)], str(tmp_path), Margins())
    assert gated.judgement.pairs == 8
    assert any("1 invalid runs" in note for note in gated.notes)


def test_a_run_too_short_for_a_claim_is_invalid(tmp_path: Path, earlier: Path) -> None:
    """A window of less than 10 mean E2E (V08)."""
    folder = made(tmp_path / "short", at_s=10**6)
    run = read_run_json(folder)
    run["summary"]["window"]["mean_e2e_s"] = 5.0
    (folder / "run.json").write_bytes(orjson.dumps(run))
    gated, _ = gate_stored([str(folder)], str(earlier), Margins())
    assert gated.exit == Exit.INVALID


def test_another_plan_is_refused_by_name(tmp_path: Path, earlier: Path) -> None:
    """The seeds of both."""
    other = made(tmp_path / "other", seed=2, at_s=10**6)
    with pytest.raises(UsageError, match="seeds 1 and 2"):
        gate_stored([str(other)], str(earlier), Margins())
    with pytest.raises(UsageError, match="seeds 1 and 2"):
        compare_runs(str(earlier / "main-1"), [str(other)], Margins(), force=False)


def test_a_file_for_git_decides_as_its_folders_do(tmp_path: Path, earlier: Path, slow: Path) -> None:
    """The same verdict from 30 kB; saving again adds nothing."""
    path = tmp_path / "baseline.json"
    save_baseline(path, find_arms(str(earlier)))
    assert path.stat().st_size < MOST_BYTES
    assert len(save_baseline(path, find_arms(str(earlier))).runs) == 9
    by_file, _ = gate_stored([str(slow)], str(path), Margins())
    by_folder, _ = gate_stored([str(slow)], str(earlier), Margins())
    assert by_file.judgement.decision == by_folder.judgement.decision == "FAIL"
    assert [test.p for test in by_file.judgement.tests] == pytest.approx(
        [test.p for test in by_folder.judgement.tests], rel=0.05
    )


def test_a_file_takes_runs_of_one_plan_only(tmp_path: Path) -> None:
    """Another seed is another baseline."""
    path = tmp_path / "baseline.json"
    save_baseline(path, find_arms(str(made(tmp_path / "a"))))
    with pytest.raises(UsageError, match="one plan"):
        save_baseline(path, find_arms(str(made(tmp_path / "b", seed=2))))
    assert len(load_baseline(path).runs) == 1


def test_a_history_decides_by_its_last_runs_of_the_plan(tmp_path: Path, earlier: Path, slow: Path) -> None:
    """Runs of other plans in it do not count; the revision of CI is kept."""
    path = tmp_path / "history.parquet"
    append_history(path, find_arms(str(made(tmp_path / "other", seed=2))))
    append_history(path, find_arms(str(earlier)))
    (new,) = find_arms(str(slow))
    assert len(earlier_runs(str(path), new.identity.digest, SHOWN, None)) == 9
    assert len(earlier_runs(str(path), new.identity.digest, SHOWN, 8)) == 8
    gated, _ = gate_stored([str(slow)], str(path), Margins())
    assert gated.exit == Exit.REGRESSION


def test_a_level_that_changed_is_named(tmp_path: Path) -> None:
    """Twelve runs, then twelve 30 % slower: the change, at the first of the slower ones."""
    path = tmp_path / "history.parquet"
    for k in range(24):
        made(tmp_path / f"run-{k:02d}", slower=1.0 if k < 12 else 1.3, at_s=3600.0 * k)
    append_history(path, find_arms(str(tmp_path / "run-*")))
    runs = earlier_runs(str(path), None, SHOWN, None)
    changes = {key: run for _, key, run, _ in changes_in(runs, SHOWN[:1])}
    assert changes == {"tpot:p50": str(tmp_path / "run-12")}


def test_paths_that_hold_no_run_are_told(tmp_path: Path) -> None:
    """Nothing there, an empty folder, a run without its report, a damaged baseline."""
    for spec in (tmp_path / "none", tmp_path, tmp_path / "x-*"):
        with pytest.raises(UsageError):
            find_arms(str(spec))
    folder = made(tmp_path / "run")
    run = read_run_json(folder)
    del run["summary"]
    (folder / "run.json").write_bytes(orjson.dumps(run))
    with pytest.raises(RecordsError, match="slobench report"):
        find_arms(str(folder))
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(ConfigError):
        load_baseline(tmp_path / "b.json")


def test_repeats_are_found_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """repeat-2 before repeat-10."""
    for k in (10, 2, 1):
        (tmp_path / f"repeat-{k}").mkdir()
        (tmp_path / f"repeat-{k}" / "run.json").write_text("{}")
    assert [folder.name for folder in run_folders(tmp_path)] == ["repeat-1", "repeat-2", "repeat-10"]


def test_settings_tell_what_differs(fresh: Path, slow: Path) -> None:
    """The server's own word, without process ids."""
    (one,), (other,) = find_arms(str(fresh)), find_arms(str(slow))
    assert one.identity.settings["server.slower"] == "1.0"
    assert other.identity.settings["server.slower"] == "1.3"
    assert not any(key.endswith("pid") for key in one.identity.settings)
