"""SLO presets: what is shipped, how a name becomes clauses, and what is said of one that cannot."""

from pathlib import Path

import pytest

from slobench.config.find import names
from slobench.config.flags import RunFlags, apply_flags, workload_from_flags
from slobench.config.load import load_workload
from slobench.config.presets import expand, load_preset
from slobench.config.show import show_all
from slobench.config.slo import Limit, Objective, parse_slo
from slobench.errors import ConfigError

# Percentile limits of MLPerf Inference, Server scenario, ms (TTFT, TPOT).
MLPERF = {
    "llama2-70b": (2000, 200), "llama2-70b-interactive": (450, 40),
    "llama3.1-405b": (6000, 175), "llama3.1-405b-interactive": (4500, 80),
    "llama3.1-8b": (2000, 100), "llama3.1-8b-interactive": (500, 30),
    "mixtral-8x7b": (2000, 200),
    "deepseek-r1": (2000, 80), "deepseek-r1-interactive": (1500, 15),
    "gpt-oss-120b": (3000, 80), "gpt-oss-120b-interactive": (2000, 15),
}  # fmt: skip


def test_the_presets_that_are_promised_are_there() -> None:
    """By use, MLPerf's, DistServe's and Sarathi's."""
    assert {"chat", "code-completion", "voice-agent", "rag", "batch"} <= set(names("slo"))
    assert {name.removeprefix("mlperf-") for name in names("slo") if name.startswith("mlperf-")} == set(MLPERF)
    assert {"distserve-opt-13b", "distserve-opt-66b", "distserve-opt-175b"} <= set(names("slo"))
    assert {"sarathi-mistral-7b", "sarathi-mistral-7b-relaxed"} <= set(names("slo"))


@pytest.mark.parametrize("name", names("slo"))
def test_a_preset_says_whom_it_is_for_and_where_its_numbers_come_from(name: str) -> None:
    """Each has words, a source, and an objective, so that a run is judged by it."""
    preset = load_preset(name)
    assert len(preset.about) > 40
    assert len(preset.source) > 40
    assert parse_slo(preset.clauses).common.objectives


@pytest.mark.parametrize("model", MLPERF)
def test_mlperf_presets_are_two_percentile_limits(model: str) -> None:
    """The p99 of TTFT and of TPOT, each alone: MLPerf knows no joint attainment."""
    ttft, tpot = MLPERF[model]
    slo = parse_slo(load_preset(f"mlperf-{model}").clauses)
    assert slo.common.limits == ()
    assert slo.common.objectives == (Objective("ttft", ttft / 1e3, 0.99), Objective("tpot", tpot / 1e3, 0.99))


def test_a_name_among_clauses_becomes_its_clauses() -> None:
    """Texts without a name stay as they were written; a class holds for all clauses of its preset."""
    found = expand(["tpot<9s, max_gap<1s", "class=a distserve-opt-13b; e2e<5s"])
    assert found.presets == ("distserve-opt-13b",)
    assert found.clauses == (
        "tpot<9s, max_gap<1s", "class=a ttft<250ms", "class=a tpot<100ms", "class=a attainment>=90%", "class=a e2e<5s"
    )  # fmt: skip
    slo = parse_slo(found.clauses, ("a",))
    assert slo.for_class("a").limits == (
        Limit("max_gap", 1.0),
        Limit("ttft", 0.25),
        Limit("tpot", 0.1),
        Limit("e2e", 5.0),
    )


def test_a_clause_that_is_written_out_replaces_the_presets() -> None:
    """`chat, ttft<300ms` is chat with another limit on TTFT, in whichever order and text they stand."""
    limits = {Limit("ttft", 0.3), Limit("tpot", 0.05)}
    for texts in (["chat, ttft<300ms"], ["ttft<300ms", "chat"]):
        slo = parse_slo(expand(texts).clauses)
        assert set(slo.common.limits) == limits
        assert slo.common.objectives == (Objective("attainment", 0.99),)


def test_an_own_clause_of_a_class_leaves_the_common_preset_alone() -> None:
    """A clause replaces a preset's of its own class only."""
    slo = parse_slo(expand(["chat", "class=a ttft<300ms"]).clauses, ("a", "b"))
    assert Limit("ttft", 1.0) in slo.for_class("b").limits
    assert Limit("ttft", 0.3) in slo.for_class("a").limits


def test_two_presets_that_disagree_are_refused() -> None:
    """Neither is nearer to what the user meant."""
    flags = RunFlags(rate=5, slo=("chat", "voice-agent"))
    with pytest.raises(ConfigError, match="--slo: SLO says two things of one quantity: ttft<1000ms and ttft<400ms"):
        workload_from_flags(flags)


def test_an_unknown_name_names_the_nearest() -> None:
    """The error says what is known, what was probably meant, and what else could stand there."""
    with pytest.raises(ConfigError) as error:
        workload_from_flags(RunFlags(rate=5, slo=("mlperf-llama3-8b",)))
    told = str(error.value)
    assert told.startswith("--slo: no SLO preset named 'mlperf-llama3-8b'\n  expected  one of batch, chat, ")
    assert "\n  nearest   mlperf-llama3.1-8b\n" in told
    assert "a clause, e.g. ttft<500ms" in told


def test_the_name_is_kept_beside_the_clauses(tmp_path: Path) -> None:
    """A workload with `slo: [chat]` holds the clauses and the preset's name; --slo takes both away."""
    path = tmp_path / "own.yaml"
    text = Path(__file__).parents[2].joinpath("workloads", "quickstart.yaml").read_text()
    path.write_text(text[: text.index("slo:")] + "slo:\n  - chat\n  - e2e<9s\n")
    loaded = load_workload(str(path))
    assert loaded.value.slo == ("ttft<1s", "tpot<50ms", "attainment>=99%", "e2e<9s")
    assert loaded.value.slo_presets == ("chat",)
    assert str(loaded.origin["slo_presets"]).endswith(loaded.origin["slo"])
    again = apply_flags(loaded, RunFlags(warmup="1s"))
    assert (again.value.slo, again.value.slo_presets) == (loaded.value.slo, ("chat",))
    other = apply_flags(loaded, RunFlags(slo=("ttft<1s",)))
    assert (other.value.slo, other.value.slo_presets) == (("ttft<1s",), ())


def test_an_own_folder_goes_before_the_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """slos/chat.yaml below the working directory is `chat`; a path needs no folder."""
    (tmp_path / "slos").mkdir()
    own = tmp_path / "slos" / "chat.yaml"
    own.write_text("kind: slo\nabout: ours\nsource: us\nclauses: [e2e<3s]\n")
    monkeypatch.chdir(tmp_path)
    assert expand(["chat"]).clauses == ("e2e<3s",)
    assert expand([str(own)]).clauses == ("e2e<3s",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kind: slo\nabout: x\nsource: y\nclauses: []\n", "clauses"),
        ("kind: slo\nabout: x\nsource: y\nclauses: [chat]\n", "own.yaml:4: cannot read SLO 'chat'"),
        ("kind: slo\nabout: x\nsource: y\nclauses:\n  - ttft<1s\n  - ttft<2s\n", "own.yaml:4: SLO says two things"),
        ("kind: slo\nabout: x\nsource: y\nclauses:\n  - ttft<1s\n  - class=a e2e<2s\n", "own.yaml:6: cannot read SLO"),
        ("kind: target\nabout: x\nsource: y\nclauses: [e2e<1s]\n", "own.yaml:1: "),
        ("about: x\nsource: y\nclauses: [e2e<1s]\n", "`kind` is missing"),
        ("kind: slo\nabout: x\nsauce: y\nclauses: [e2e<1s]\n", "nearest   source"),
        ("", "own.yaml"),
        ("- 5\n", "own.yaml"),
    ],
)  # fmt: skip
def test_a_faulty_preset_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    """Every fault of the file is one ConfigError that names it."""
    own = tmp_path / "own.yaml"
    own.write_text(text)
    with pytest.raises(ConfigError) as error:
        expand([str(own)])
    assert told in str(error.value)
    assert "\n  expected  " in str(error.value)


def test_config_show_resolves_presets() -> None:
    """`config show --slo` prints words, source and clauses; what it prints can stand in a workload."""
    text = show_all(None, None, [], ["mlperf-llama3.1-8b", "class=a batch"])
    assert "# mlperf-llama3.1-8b: MLPerf Inference" in text
    assert text.endswith(
        "slo:\n  - ttft:p99<2s\n  - tpot:p99<100ms\n  - class=a e2e<60s+10ms/token\n  - class=a attainment>=95%\n"
        "  - class=a availability>=99.9%\n"
    )
