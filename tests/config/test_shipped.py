"""The workloads and targets that come with slobench."""

import re
from pathlib import Path

import jsonschema
import pytest
import yaml

import slobench
from slobench.config.find import find, folders, names
from slobench.config.load import load_target, load_workload
from slobench.config.schema import json_schema
from slobench.config.target import RemoteTarget, SimTarget, VllmTarget

WORKLOADS = names("workload")
TARGETS = names("target")
SLOS = names("slo")


def test_the_files_that_are_promised_are_there() -> None:
    """A workload for each use; the simulated engine, its reference, vLLM local and tiny, a remote API."""
    uses = {"chat", "conversation", "code-completion", "rag", "agent", "batch", "reasoning", "mixed-qos"}
    assert {"quickstart", "burst", "diurnal", "spike", *uses} <= set(WORKLOADS)
    assert {"sim", "sim-reference", "vllm-local", "vllm-cpu-tiny", "openai-remote"} <= set(TARGETS)


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_shipped_workload_loads_says_whom_it_resembles_and_its_source(name: str) -> None:
    """Each workload file is valid, carries its own name, an `about` and a `source`, and has limits to judge."""
    loaded = load_workload(name)
    assert loaded.value.name == name
    assert len(loaded.value.about) > 20
    assert len(loaded.value.source) > 20
    assert loaded.value.slo


@pytest.mark.parametrize("name", TARGETS)
def test_a_shipped_target_loads_and_says_what_it_is(name: str) -> None:
    """Each target file is valid and has an `about`; none holds a key."""
    target = load_target(name).value
    assert len(target.about) > 20
    assert not target.talk.headers


@pytest.mark.parametrize(
    ("kind", "name"),
    [*(("workload", n) for n in WORKLOADS), *(("target", n) for n in TARGETS), *(("slo", n) for n in SLOS)],
)
def test_the_json_schema_accepts_each_shipped_file_and_no_unknown_key(kind: str, name: str) -> None:
    """What editors are told agrees with what is accepted: the file passes, with a misspelt key it does not."""
    path = next(folder / f"{name}.yaml" for folder in folders(kind) if (folder / f"{name}.yaml").is_file())  # type: ignore[arg-type]
    data = yaml.safe_load(Path(path).read_text())
    validator = jsonschema.Draft202012Validator(json_schema(kind))  # type: ignore[arg-type]
    validator.check_schema(validator.schema)
    assert list(validator.iter_errors(data)) == []
    assert list(validator.iter_errors({**data, "abuot": "x"})) != []


def test_the_reference_engine_is_the_documented_one() -> None:
    """sim-reference has the parameters of docs/metrics.md's reference engine."""
    target = load_target("sim-reference").value
    assert isinstance(target, SimTarget)
    engine, step = target.engine, target.engine.step
    assert (step.base_ms, step.token_ms, step.kv_token_ms, step.sequence_ms) == (6, 0.035, 4.5e-5, 0.02)
    assert (step.attention_ms, step.noise_cv) == (0, 0.05)
    assert (engine.max_num_batched_tokens, engine.max_num_seqs, engine.kv_tokens) == (2048, 256, 400_000)
    assert (engine.admission, engine.policy) == ("reserve", "fcfs")


def test_a_workload_is_found_by_the_name_that_it_had_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`code` is code-completion now, unless the user has a file of that name."""
    monkeypatch.chdir(tmp_path)
    assert load_workload("code").value == load_workload("code-completion").value
    (tmp_path / "workloads").mkdir()
    (tmp_path / "workloads" / "code.yaml").write_text("name: own\n")
    assert find("workload", "code") == tmp_path / "workloads" / "code.yaml"


def test_the_page_about_workloads_has_all_of_them() -> None:
    """docs/how-to/choose-a-workload.md has a row for each shipped workload, and for nothing else."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "choose-a-workload.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE)
    assert sorted(set(rows)) == [name for name in WORKLOADS if name != "stall"]
    for name in set(rows):
        source = load_workload(name).value.source
        for figure in re.findall(rf"^\| `{name}` \|.*$", page, re.MULTILINE):
            assert all(each in source for each in re.findall(r"\b0\.\d\d+\b", figure)), name


def test_what_costs_or_needs_hardware_is_said() -> None:
    """The remote target warns of its cost, reads its key from the environment; the tiny vLLM says how it is made."""
    remote, tiny = load_target("openai-remote").value, load_target("vllm-cpu-tiny").value
    assert isinstance(remote, RemoteTarget)
    assert remote.talk.api_key_env == "OPENAI_API_KEY"
    assert "costs" in remote.about
    assert isinstance(tiny, VllmTarget)
    assert "make vllm-cpu" in tiny.about


def test_an_installed_package_finds_its_files_inside_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a checkout around it, names lead into the package's own data folder."""
    package = tmp_path / "site-packages" / "slobench"
    (package / "data" / "workloads").mkdir(parents=True)
    (package / "data" / "workloads" / "chat.yaml").write_text("name: installed\n")
    monkeypatch.setattr(slobench, "__file__", str(package / "__init__.py"))
    monkeypatch.chdir(tmp_path)
    assert find("workload", "chat") == package / "data" / "workloads" / "chat.yaml"


def test_the_workload_of_the_how_to_loads(tmp_path: Path) -> None:
    """The example in docs/how-to/write-a-workload.md is a valid workload, and so are its changes by --set."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "write-a-workload.md").read_text()
    example, loop = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    path = tmp_path / "support.yaml"
    path.write_text(example)
    loaded = load_workload(str(path), re.findall(r"--set '?([^'\n ]+)'?", page.split("## Change one value")[1]))
    assert set(loaded.value.classes) == {"question", "summary"}
    closed = re.sub(r"    arrivals: .*\n", "", example) + loop
    path.write_text(closed)
    assert load_workload(str(path)).value.loop.mode == "closed"
