"""Arrival processes in workload files: read, stored, read again; files beside the workload; faults with their line."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest
import yaml

from slobench.config.arrivals import mean_rate, traits
from slobench.config.load import Loaded, apply_sets, check_workload, given_again, load_workload, public
from slobench.config.workload import Workload
from slobench.errors import ConfigError
from slobench.plan import build_plan
from slobench.report.plan import PlanFacts, describe
from tests.workload.processes import LEVEL, VARYING

CLASS = {"input_tokens": {"dist": "constant", "value": 8}, "output_tokens": {"dist": "constant", "value": 8}}


def write(folder: Path, arrivals: object, duration: str = "60s") -> str:
    """A workload of one class."""
    path = folder / "w.yaml"
    path.write_text(
        yaml.safe_dump({"name": "w", "duration": duration, "classes": {"a": CLASS | {"arrivals": arrivals}}})
    )
    return str(path)


def process_of(loaded: Loaded[Workload]):
    """The only class's process."""
    (spec,) = loaded.value.classes.values()
    assert spec.arrivals is not None
    return spec.arrivals


@pytest.mark.parametrize("name", [*LEVEL, *VARYING])
def test_what_run_json_holds_is_the_process(tmp_path: Path, name: str) -> None:
    """Through JSON and back, and through what --set changes, nothing is lost."""
    loaded = load_workload(write(tmp_path, (LEVEL | VARYING)[name]))
    stored = orjson.loads(orjson.dumps(public(loaded.value)))
    assert process_of(Loaded(Workload.model_validate(stored), {})) == process_of(loaded)
    again = check_workload(apply_sets(given_again(loaded), ["duration=90s"]), "w.yaml")
    assert process_of(again) == process_of(loaded)
    assert all(isinstance(value, str) for value in traits(process_of(loaded)).values())


def test_points_lie_beside_the_workload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is looked for beside the workload file, then in the working directory; the stored run holds its points."""
    (tmp_path / "day.csv").write_text("t_s,rate\n0,2\n60,6\n")
    path = write(tmp_path, {"process": "varying", "rate": {"shape": "points", "file": "day.csv"}})
    monkeypatch.chdir("/")
    loaded = load_workload(path)
    assert mean_rate(process_of(loaded)) == pytest.approx(4)
    (tmp_path / "day.csv").unlink()
    assert mean_rate(process_of(Loaded(Workload.model_validate(public(loaded.value)), {}))) == pytest.approx(4)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "day.csv").write_text("t_s,rate\n0,9\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert mean_rate(process_of(load_workload(path))) == 9


def test_a_pool_lies_beside_the_workload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its recorded rate is read once and stored with the run, which is then read without the files."""
    (tmp_path / "clients").mkdir()
    client = tmp_path / "clients" / "chunk-0-trace.csv"
    client.write_text("0,0.5,1,Gamma,1,2\n600,1.5,1,Gamma,1,2\n")
    monkeypatch.chdir("/")
    loaded = load_workload(write(tmp_path, {"process": "pool", "folder": "clients"}))
    assert mean_rate(process_of(loaded)) == pytest.approx(1.0)
    part = load_workload(write(tmp_path, {"process": "pool", "folder": "clients", "from": "10m", "rate": 3}))
    assert mean_rate(process_of(part)) == 3
    client.unlink()
    again = Workload.model_validate(public(loaded.value))
    assert process_of(Loaded(again, {})) == process_of(loaded)


@pytest.mark.parametrize(
    ("arrivals", "said"),
    [
        ({"process": "varying", "rate": 4}, "`classes.a.arrivals.rate` cannot be 4"),
        ({"process": "varying", "rate": {"shape": "rampp"}}, "nearest   ramp"),
        (
            {"process": "varying", "rate": {"shape": "ramp", "form": 1, "to": 2, "over": "1s"}},
            "one of from, over, shape, to",
        ),
        ({"process": "varying", "rate": {"shape": "steps", "steps": [{"rate": 1, "four": "1s"}]}}, "one of for, rate"),
        ({"process": "mmpp", "rates": [1, 2], "mean_stay": ["1s", "2s", "3s"]}, "one each for every state"),
        ({"process": "mmpp", "rates": [0, 0], "mean_stay": ["1s", "2s"]}, "every rate is 0"),
        ({"process": "hawkes", "rate": 1, "branching": 1, "decay": 1}, "0.99"),
        ({"process": "pool", "folder": "nowhere"}, "cannot read nowhere"),
        ({"process": "pool", "folder": ".", "from": "soon"}, "cannot read duration 'soon'"),
        ({"process": "on-off", "on_rate": 1, "mean_on": "0s", "mean_off": "1s"}, "mean_on"),
    ],
)
def test_a_fault_is_told_with_its_line(tmp_path: Path, arrivals: object, said: str) -> None:
    """Place, fault, and what was expected, in the words that the file has for its keys."""
    with pytest.raises(ConfigError) as caught:
        load_workload(write(tmp_path, arrivals))
    assert "w.yaml:" in str(caught.value)
    assert said in str(caught.value)
    assert "from_" not in str(caught.value)


LONG = "a" * 300


def told(path: str) -> PlanFacts:
    """What `slobench plan` says of a workload."""
    workload = load_workload(path).value
    return describe(build_plan(workload, 0), workload, 0)


@pytest.mark.parametrize(
    "keys",
    [
        {"text": LONG},
        {"arrivals": {"process": "pool", "folder": LONG}},
        {"arrivals": {"process": "varying", "rate": {"shape": "points", "file": LONG}}},
        {"recorded": {"file": LONG}},
    ],
)
def test_a_name_too_long_for_a_file_is_told(tmp_path: Path, keys: dict[str, object]) -> None:
    """As any other that is not there: the system refuses even to look."""
    path = tmp_path / "w.yaml"
    spec = keys if "recorded" in keys else CLASS | {"arrivals": {"process": "poisson", "rate": 5}} | keys
    path.write_text(yaml.safe_dump({"name": "w", "duration": "9s", "classes": {"a": spec}}))
    with pytest.raises(ConfigError, match="File name too long"):
        told(str(path))


def test_the_pages_examples_are_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each `arrivals:` of docs/how-to/choose-arrivals.md is read, with the files that it names."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "choose-arrivals.md").read_text()
    found = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)]
    (tmp_path / "day.csv").write_text("t_s,rate\n0,2\n")
    folder = tmp_path / "servegen" / "reason" / "deepseek-r1"
    folder.mkdir(parents=True)
    (folder / "chunk-0-trace.csv").write_text("0,0.5,1,Gamma,1,2\n86400,0.5,1,Gamma,1,2\n")
    rates = [mean_rate(process_of(load_workload(write(tmp_path, each["arrivals"])))) for each in found]
    assert rates == pytest.approx([5, 9.1 * 16.7 / 59.7, 370 / 95, 4, 5.5, (120 + 600 + 240) / 210, 2, 5])


def test_a_load_too_large_for_a_plan_is_refused(tmp_path: Path) -> None:
    """By what it makes over the duration, not by its rate over its own length."""
    ramp = {"process": "varying", "rate": {"shape": "ramp", "from": 0, "to": 1e6, "over": "1h"}}
    with pytest.raises(ConfigError, match="expected  at most 50,000,000"):
        load_workload(write(tmp_path, ramp, "1h"))
    assert load_workload(write(tmp_path, ramp, "1m")).value.expected_requests() == pytest.approx(1e6 / 60 * 60 / 2)
