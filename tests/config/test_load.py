"""Workloads and targets from files, names, URLs and --set."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.config.document import KeyPath, parse_document
from slobench.config.find import find, names
from slobench.config.load import Given, load_target, load_workload, parse_set, public, put, route_sets
from slobench.config.problems import dotted
from slobench.config.target import RemoteTarget, SimTarget, VllmTarget
from slobench.errors import ConfigError

FILE = """\
name: two
classes:
  chat:
    arrivals: {process: poisson, rate: 5}
    input_tokens: {dist: constant, value: 8}
    output_tokens:
      dist: uniform
      low: 4
      high: 9
duration: 10s
slo: [ttft<500ms]
"""

KEYS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)
YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=6,
)


@pytest.fixture
def workload(tmp_path: Path) -> str:
    """Return the path of a small workload file."""
    path = tmp_path / "two.yaml"
    path.write_text(FILE)
    return str(path)


def test_each_value_knows_the_line_it_stands_on(workload: str) -> None:
    """The origin of a leaf is file:line, `--set PATH` or `default`."""
    loaded = load_workload(workload, ["classes.chat.arrivals.rate=8", "warmup=1s"])
    assert loaded.value.classes["chat"].arrivals.rate == 8  # type: ignore[union-attr]
    assert loaded.value.warmup == 10**9
    origin = loaded.origin
    assert origin["classes.chat.output_tokens.high"].endswith("two.yaml:9")
    assert origin["classes.chat.arrivals.process"].endswith("two.yaml:4")
    assert origin["classes.chat.arrivals.rate"] == "--set classes.chat.arrivals.rate"
    assert origin["warmup"] == "--set warmup"
    assert origin["drain.mode"] == "default"
    assert origin["slo"].endswith("two.yaml:11")


def test_set_replaces_a_whole_mapping_and_a_list_item(workload: str) -> None:
    """A value may be any YAML; a number in the path is a position in a list."""
    loaded = load_workload(workload, ["classes.chat.output_tokens={dist: constant, value: 3}", "slo.0=tpot<9ms"])
    assert loaded.value.classes["chat"].output_tokens.model_dump() == {"dist": "constant", "value": 3}
    assert loaded.value.slo == ("tpot<9ms",)


def test_an_error_of_a_set_value_names_the_set_and_not_a_line(workload: str) -> None:
    """Where a --set made the fault, the file is not blamed."""
    with pytest.raises(ConfigError, match=r"^--set classes\.chat\.arrivals\.rate: "):
        load_workload(workload, ["classes.chat.arrivals.rate=-1"])


def test_an_unknown_key_names_line_key_and_nearest_key(tmp_path: Path) -> None:
    """The error for a misspelt key says file, line, key, holder and the nearest known key."""
    path = tmp_path / "w.yaml"
    path.write_text(FILE.replace("rate: 5", "rates: 5"))
    with pytest.raises(ConfigError) as caught:
        load_workload(str(path))
    text = str(caught.value)
    assert f"{path}:4: unknown key 'rates' in `classes.chat.arrivals`" in text
    assert "nearest   rate" in text
    assert f"{path}:4: `classes.chat.arrivals.rate` is missing" in text


def test_all_faults_are_told_at_once_up_to_a_handful(tmp_path: Path) -> None:
    """Five faults are told, the rest counted."""
    path = tmp_path / "w.yaml"
    path.write_text(FILE + "".join(f"wrong{number}: 1\n" for number in range(9)))
    with pytest.raises(ConfigError) as caught:
        load_workload(str(path))
    assert str(caught.value).count("unknown key") == 5
    assert "and 4 more problems" in str(caught.value)


def test_a_name_is_found_in_the_own_folder_before_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """./workloads wins over what comes with slobench; both are listed."""
    monkeypatch.chdir(tmp_path)
    shipped = find("workload", "quickstart")
    (tmp_path / "workloads").mkdir()
    own = tmp_path / "workloads" / "quickstart.yaml"
    own.write_text(FILE)
    assert find("workload", "quickstart") == own != shipped
    assert load_workload("quickstart").value.name == "two"
    assert set(names("workload")) >= {"quickstart", "chat", "code-completion", "rag"}


def test_a_file_below_the_working_directory_is_shown_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Origins are what the user would type."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.yaml").write_text(FILE)
    assert load_workload("w.yaml").origin["name"] == "w.yaml:1"


@pytest.mark.parametrize(
    "url", ["http://host:8000", "http://host:8000/", "http://host:8000/v1", "http://host:8000/v1/"]
)
def test_a_url_is_a_remote_target_without_v1(url: str) -> None:
    """A URL needs no file, and its /v1 is left out."""
    loaded = load_target(url, ["talk.model=m"])
    assert isinstance(loaded.value, RemoteTarget)
    assert loaded.value.url == "http://host:8000"
    assert loaded.value.talk.model == "m"
    assert loaded.origin["url"] == "--target"


def test_talk_changes_single_keys_of_a_targets_own_defaults(tmp_path: Path) -> None:
    """A vLLM target that sets one talk key keeps ids and forced lengths; chat drops the ids, as it takes text."""
    path = tmp_path / "t.yaml"
    path.write_text("kind: vllm\nserve: m\ntalk: {model: x}\n")
    target = load_target(str(path)).value
    assert isinstance(target, VllmTarget)
    assert (target.talk.model, target.talk.token_ids, target.talk.forces_length) == ("x", (100, 4000), True)
    path.write_text("kind: sim\ntalk: {api: chat}\n")
    target = load_target(str(path)).value
    assert isinstance(target, SimTarget)
    assert (target.talk.token_ids, target.talk.forces_length) == (None, True)


def test_set_is_routed_to_the_one_that_knows_its_first_key() -> None:
    """A workload's and a target's keys are told apart; a prefix decides where both have one."""
    sets = ["classes.a.share=2", "talk.api=chat", "target.about=x", "workload.about=y=z"]
    assert route_sets(sets) == (("classes.a.share=2", "about=y=z"), ("talk.api=chat", "about=x"))
    with pytest.raises(ConfigError, match="both workload and target have"):
        route_sets(["about=x"])
    with pytest.raises(ConfigError, match="nearest   talk"):
        route_sets(["tlak.api=x"])


def test_public_hides_header_values_and_secret_environment(tmp_path: Path) -> None:
    """What is stored of a target holds no header value and no variable that sounds like a secret."""
    path = tmp_path / "t.yaml"
    path.write_text("kind: vllm\nserve: m\nenviron: {HF_TOKEN: s3cret, A: b}\ntalk: {headers: {x-key: s3cret}}\n")
    stored = public(load_target(str(path)).value)
    assert "s3cret" not in str(stored)
    assert stored["environ"]["A"] == "b"
    assert list(stored["talk"]["headers"]) == ["x-key"]


@given(st.lists(KEYS, min_size=1, max_size=4))
def test_a_printed_path_reads_back(path: list[str]) -> None:
    """`--set` reads every path as dotted() prints it, dots, quotes and `=` in its parts included."""
    assert parse_set(f"{dotted(tuple(path))}=1") == (tuple(path), 1)


@given(YAML_VALUES)
def test_a_set_value_reads_back(value: object) -> None:
    """Numbers, booleans, null and lists of them come back from `--set` as they were."""
    text = repr(value).replace("None", "null").replace("True", "true").replace("False", "false")
    if isinstance(value, tuple):
        text = text.replace("(", "[").replace(")", "]").replace(",]", "]")
    assert parse_set(f"a.b={text}") == (("a", "b"), value)


@given(st.lists(KEYS, min_size=1, max_size=3), KEYS, st.integers(), st.integers())
def test_put_changes_one_value_and_no_other(path: list[str], other: str, old: int, new: int) -> None:
    """After put, the value stands at its path with its place, and everything else is as before."""
    if other == path[0]:
        return
    whole: KeyPath = tuple(path)
    given_values = put(Given({other: old}, {(other,): "file:1"}), whole, new, "--set")
    found = given_values.data
    for key in whole:
        found = found[key]
    assert found == new
    assert given_values.data[other] == old
    assert given_values.places[whole] == "--set"
    assert given_values.places[other,] == "file:1"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2023-11-16", "2023-11-16"),
        ("007", 7),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("true", True),
        ("~", None),
        ("", None),
        ("10s", "10s"),
        ("'5'", "5"),
        ("nullable", "nullable"),
    ],
)
def test_a_scalar_is_what_it_looks_like(text: str, value: object) -> None:
    """YAML 1.2's core schema: no booleans, times or dates by surprise."""
    found = parse_document(text, "x").value
    assert found == value
    assert type(found) is type(value)


@given(st.text(max_size=200) | st.text("abc:-[]{},&*!|>'\"%#?\n \t01.", max_size=80))
def test_any_text_is_a_document_or_a_config_error(text: str) -> None:
    """No text raises anything but ConfigError."""
    try:
        parse_document(text, "x")
    except ConfigError as error:
        assert "\n  expected  " in str(error)  # noqa: PT017 (any text may also be YAML)
