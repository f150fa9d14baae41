"""Which cells an experiment means, in which order, and that a seed means the same everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.config.experiment import Range, Sample, Settings
from slobench.config.load import load_experiment
from slobench.errors import ConfigError
from slobench.experiment.sweep_ask import refuse
from slobench.experiment.sweep_cells import cells_of
from slobench.experiment.sweep_settings import combinations, latin_hypercube
from tests.experiment.sweeps import cells

GRID = {"grid": {"engine.max_num_seqs": [1, 2], "engine.max_num_batched_tokens": [256, 512, 1024]}}


def labels(found: object) -> list[tuple[str, str, int]]:
    return [(cell.config.label, cell.load.text, cell.repeat) for cell in found.cells]  # type: ignore[attr-defined]


def test_a_grid_is_every_value_with_every_other(tmp_path: Path) -> None:
    found = cells(tmp_path, settings=GRID, rates=[4, 2], repeats=2)
    assert len(found.cells) == 2 * 3 * 2 * 2
    assert len({cell.key for cell in found.cells}) == len({cell.folder for cell in found.cells}) == 24
    engine = found.configs[1].target.engine  # type: ignore[union-attr]
    assert (engine.max_num_seqs, engine.max_num_batched_tokens) == (1, 512)
    assert [cell.load.value for cell in found.cells[:2]] == [2, 4]


def test_parts_are_combined_and_doubles_left_out() -> None:
    settings = Settings.model_validate(
        {"zip": {"a": (1, 2), "b": (3, 4)}, "list": ({"c": 1}, {"c": 1}, {"c": 2, "d": "x"}), "grid": {"e": (True,)}}
    )
    made = combinations(settings, 0)
    assert len(made) == 4
    assert made[0] == {"e": True, "a": 1, "b": 3, "c": 1}
    assert list(made[3]) == ["e", "a", "b", "c", "d"]


def test_repeats_go_back_the_way_they_came_and_loads_upwards(tmp_path: Path) -> None:
    settings = {"grid": {"engine.max_num_seqs": [1, 2, 3]}}
    order = labels(cells(tmp_path, settings=settings, rates=[2, 4], repeats=2))
    assert [each[0] for each in order] == ["c01"] * 2 + ["c02"] * 2 + ["c03"] * 4 + ["c02"] * 2 + ["c01"] * 2
    assert [each[1] for each in order] == ["rate2", "rate4"] * 6
    grouped = labels(cells(tmp_path, settings=settings, repeats=2, order="grouped"))
    assert [each[0] for each in grouped] == ["c01", "c01", "c02", "c02", "c03", "c03"]


def test_a_random_order_is_the_seeds(tmp_path: Path) -> None:
    settings = {"grid": {"engine.max_num_seqs": [*range(1, 9)]}}
    first = labels(cells(tmp_path, settings=settings, repeats=3, order="randomised", seed=5))
    again = labels(cells(tmp_path, settings=settings, repeats=3, order="randomised", seed=5))
    other = labels(cells(tmp_path, settings=settings, repeats=3, order="randomised", seed=6))
    assert first == again != other
    blocks = [tuple(each[0] for each in first if each[2] == k) for k in (1, 2, 3)]
    assert len(set(blocks)) == 3
    assert all(sorted(block) == sorted(blocks[0]) for block in blocks)


def test_all_cells_of_a_repeat_share_a_seed(tmp_path: Path) -> None:
    found = cells(tmp_path, settings=GRID, repeats=2, seed=7)
    assert {(cell.repeat, cell.seed) for cell in found.cells} == {(1, 7), (2, 8)}


def test_a_condition_leaves_cells_out(tmp_path: Path) -> None:
    found = cells(tmp_path, settings=GRID, rates=[1, 8], when="max_num_batched_tokens >= 512 or rate < 2")
    assert found.left_out == 2
    assert len(found.cells) == 10
    with pytest.raises(ConfigError, match="no cell"):
        cells(tmp_path, settings=GRID, when="max_num_seqs > 100")


def test_more_repeats_or_settings_leave_the_keys_of_others_alone(tmp_path: Path) -> None:
    few = cells(tmp_path, settings={"grid": {"engine.max_num_seqs": [2]}}, rates=[1], repeats=1)
    many = cells(tmp_path, settings={"grid": {"engine.max_num_seqs": [1, 2]}}, rates=[1, 2], repeats=2)
    assert {cell.key for cell in few.cells} < {cell.key for cell in many.cells}


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"settings": {"grid": {"engine.no_such": [1]}}}, "no_such"),
        ({"settings": {"grid": {"engine.max_num_seqs": [0]}}}, "settings.engine.max_num_seqs"),
        ({"settings": {"grid": {"kind.x": [1]}}}, "kind"),
        ({"settings": {"grid": {"talk.headers.x-key": ["one", "two"]}}}, "may be a secret"),
        ({"targets": ["absent"]}, "no target named"),
        ({"workloads": ["absent"]}, "no workload named"),
        ({"slo": ["ttft<fast"]}, "ttft"),
        ({"settings": {"grid": {"engine.max_num_seqs": [*range(1, 300)]}}, "rates": [*range(1, 100)]}, "cells"),
    ],
)  # fmt: skip
def test_what_no_cell_can_be_is_told_before_anything_runs(tmp_path: Path, keys: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cells(tmp_path, **keys)
    assert says in str(caught.value)
    assert "expected" in str(caught.value) or "nearest" in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"targets": ["null"], "rates": [1]}, "kind sim"),
        ({"concurrencies": [2], "requests": 10}, "closed loop"),
    ],
)
def test_what_virtual_time_cannot_do_is_told(tmp_path: Path, keys: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        refuse(cells(tmp_path, **keys), virtual=True)


def test_a_sample_is_the_same_bits_everywhere() -> None:
    sample = Sample.model_validate(
        {"n": 4, "of": {"a": {"low": 1, "high": 1000, "scale": "log"}, "b": {"low": 0.0, "high": 1.0}, "c": ("x", "y")}}
    )
    assert latin_hypercube(sample, 3) == [
        {"a": 4, "b": 0.00111406, "c": "y"},
        {"a": 214, "b": 0.374169, "c": "x"},
        {"a": 70, "b": 0.703376, "c": "x"},
        {"a": 8, "b": 0.772044, "c": "y"},
    ]


@given(n=st.integers(2, 40), seed=st.integers(0, 2**32))
def test_a_latin_hypercube_meets_every_part_of_every_range_once(n: int, seed: int) -> None:
    sample = Sample(
        n=n, of={"a": Range(low=0.0, high=1.0), "b": Range(low=1.0, high=100.0, scale="log"), "c": ("x", "y")}
    )
    points = latin_hypercube(sample, seed)
    places = sorted(float(point["a"] or 0) * n for point in points)
    assert all(part - 1e-4 <= place <= part + 1 + 1e-4 for part, place in enumerate(places))
    assert all(1 <= float(point["b"] or 0) <= 100 for point in points)
    assert abs(sum(point["c"] == "x" for point in points) - n / 2) <= 1


@given(
    low=st.integers(1, 50),
    width=st.integers(1, 1000),
    scale=st.sampled_from(["linear", "log"]),
    seed=st.integers(0, 99),
)
def test_whole_numbers_stay_whole_and_inside(low: int, width: int, scale: str, seed: int) -> None:
    sample = Sample.model_validate({"n": 20, "of": {"a": {"low": low, "high": low + width, "scale": scale}}})
    values = [point["a"] for point in latin_hypercube(sample, seed)]
    assert all(isinstance(value, int) and low <= value <= low + width for value in values)


def test_the_experiment_that_comes_with_slobench_can_be_run() -> None:
    found = cells_of(load_experiment("batching"))
    refuse(found, virtual=True)
    assert len(found.cells) == 36
