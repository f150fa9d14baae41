"""What a class says of the wire: API, model, headers, body, and SLO clauses of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from slobench.config.class_slo import moved
from slobench.config.fit import fitted
from slobench.config.flags import RunFlags, apply_flags
from slobench.config.lengths import ConstantLength, NoTokens
from slobench.config.load import load_target, load_workload, public
from slobench.config.show import show
from slobench.config.slo import parse_slo
from slobench.config.talk_flags import TalkFlags, apply_talk_flags
from slobench.config.target import RemoteTarget
from slobench.config.workload import Workload
from slobench.errors import ConfigError

ARRIVALS = {"process": "poisson", "rate": 5}
FOUR, TWO = {"dist": "constant", "value": 4}, {"dist": "constant", "value": 2}
CHAT: dict[str, Any] = {"arrivals": ARRIVALS, "input_tokens": FOUR, "output_tokens": TWO}
EMBED: dict[str, Any] = {"arrivals": ARRIVALS, "input_tokens": FOUR, "api": "embeddings"}


def workload(**classes: dict[str, Any]) -> dict[str, Any]:
    """A workload of these classes."""
    return {"name": "mixed", "requests": 10, "classes": classes}


@pytest.fixture
def written(tmp_path: Path):
    """Write a workload and load it."""

    def load(data: dict[str, Any], sets: tuple[str, ...] = ()):
        path = tmp_path / "mixed.yaml"
        path.write_text(yaml.safe_dump(data, sort_keys=False))
        return load_workload(str(path), sets)

    return load


def test_clauses_of_a_class_join_the_workloads(written) -> None:
    """They stand behind the workload's own, each with its class, and replace common ones of the same quantity."""
    data = workload(chat=CHAT | {"slo": ["ttft<1s, tpot<50ms", "attainment>=90%"]}, other=CHAT)
    loaded = written(data | {"slo": ["ttft<2s", "e2e<9s", "attainment>=99%"]})
    clauses = ("class=chat ttft<1s, tpot<50ms", "class=chat attainment>=90%")
    assert loaded.value.slo == ("ttft<2s", "e2e<9s", "attainment>=99%", *clauses)
    assert loaded.value.classes["chat"].slo == ()
    slo = parse_slo(loaded.value.slo, ("chat", "other"))
    assert {(limit.metric, limit.limit_s) for limit in slo.for_class("chat").limits} == {
        ("ttft", 1.0), ("tpot", 0.05), ("e2e", 9.0),
    }  # fmt: skip
    assert {(limit.metric, limit.limit_s) for limit in slo.for_class("other").limits} == {("ttft", 2.0), ("e2e", 9.0)}
    assert [objective.bound for objective in slo.for_class("chat").objectives] == [0.9]


def test_a_preset_of_a_class_holds_for_it(written) -> None:
    """A preset's name among a class's clauses gives them to that class alone."""
    loaded = written(workload(chat=CHAT | {"slo": ["chat"]}, other=CHAT))
    assert loaded.value.slo_presets == ("chat",)
    assert loaded.value.slo
    assert all(clause.startswith("class=chat ") for clause in loaded.value.slo)


@pytest.mark.parametrize(
    ("own", "common", "line", "told"),
    [
        (["ttft<1s", "ttf<1s"], [], 16, "no quantity 'ttf'"),
        (["ttft<1s", "ttft<2s"], [], 16, "two things of one quantity"),
        (["tpot<1s", "ttft<1s"], ["class=chat ttft<2s"], 16, "two things of one quantity"),
        (["tpot<1s", "class=other ttft<1s"], [], 16, "names a class itself"),
        (["tpot<1s", 5], [], 16, "cannot be 5"),
        ("ttft<1s", [], 14, "a list"),
    ],
)
def test_what_is_wrong_with_a_clause_is_told_with_its_line(written, own: Any, common: list[str], line: int, told: str):
    """The line is that of the class's clause, wherever it was put."""
    data = workload(chat=CHAT | {"slo": own}, other=CHAT) | ({"slo": common} if common else {})
    with pytest.raises(ConfigError, match=told) as caught:
        written(data)
    assert f"mixed.yaml:{line}:" in str(caught.value)


def test_flags_and_sets_over_clauses_of_classes(written) -> None:
    """--slo replaces all clauses, those of classes too; --set writes a class's."""
    data = workload(chat=CHAT | {"slo": ["ttft<1s"]})
    assert apply_flags(written(data), RunFlags(slo=("e2e<1s",))).value.slo == ("e2e<1s",)
    assert written(data, ("classes.chat.slo=[tpot<1s]",)).value.slo == ("class=chat tpot<1s",)


def test_clauses_are_moved_once(written) -> None:
    """What was loaded is shown and loaded again as it is; a workload made in Python has them moved too."""
    loaded = written(workload(chat=CHAT | {"slo": ["ttft<1s"]}))
    again = Workload.model_validate(yaml.safe_load(show(loaded)))
    assert again == loaded.value
    assert Workload.model_validate(workload(chat=CHAT | {"slo": ("ttft<1s",)})).slo == ("class=chat ttft<1s",)


@given(
    st.recursive(
        st.none() | st.integers(0, 3) | st.sampled_from(["ttft<1s", "x"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["classes", "slo", "chat", "code"]), inner, max_size=3)
        ),
        max_leaves=10,
    )
)
def test_moving_loses_no_clause_and_takes_anything(data: object) -> None:
    """Whatever stands there: each text is told its place, and what cannot be moved is left for the type checks."""
    kept, stood = moved(data)
    if not stood:
        assert kept is data
        return
    assert isinstance(kept, dict)
    assert isinstance(data, dict)
    for (_, at), (_, name, _, nth) in stood.items():
        assert kept["slo"][at] == f"class={name} {data['classes'][name]['slo'][nth]}"
        assert "slo" not in kept["classes"][name]
    assert len(kept["slo"]) == len(data.get("slo", ())) + len(stood)


def test_an_embedding_has_no_output(written) -> None:
    """Lengths need not be given, and must not; they are none in the plan."""
    loaded = written(workload(chat=CHAT, embed=EMBED))
    assert loaded.value.classes["embed"].output_tokens == NoTokens()
    with pytest.raises(ConfigError, match="embeddings has no output"):
        written(workload(embed=EMBED | {"output_tokens": TWO}))
    with pytest.raises(ConfigError, match="chat makes tokens"):
        written(workload(chat=CHAT | {"api": "chat", "output_tokens": {"dist": "none"}}))
    longer = apply_flags(loaded, RunFlags(input_tokens="9", output_tokens="8")).value.classes
    assert (longer["chat"].output_tokens, longer["embed"].output_tokens) == (ConstantLength(value=8), NoTokens())
    assert longer["embed"].input_tokens == ConstantLength(value=9)


def test_the_targets_api_decides_of_classes_without_one(written) -> None:
    """Embeddings of the target take the output away; another API of the target cannot do without it."""
    loaded = written(workload(chat=CHAT | {"api": "chat"}, any=CHAT))
    embeds = apply_talk_flags(load_target("http://h:1"), TalkFlags(api="embeddings"))
    made = fitted(loaded, embeds).value.classes
    assert (made["chat"].output_tokens, made["any"].output_tokens) == (ConstantLength(value=2), NoTokens())
    assert fitted(loaded, load_target("http://h:1")) is loaded
    none = written(workload(any=CHAT | {"output_tokens": {"dist": "none"}}))
    assert fitted(none, embeds).value == none.value
    with pytest.raises(ConfigError, match="class any has no output tokens, and the target's API is completions"):
        fitted(none, load_target("http://h:1"))


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"api": "embed"}, "nearest   embeddings"),
        ({"headers": {"x tenant": "s3cret"}}, "cannot be sent"),
        ({"headers": {"x-tenant": "s3cret\r\nx: y"}}, "cannot be sent"),
        ({"headers": {"x-tenant": "s3crét"}}, "cannot be sent"),
        ({"extra_body": {"input": "s3cret"}}, "cannot set input"),
        ({"extra_body": {"prompt": 1, "stream": False}}, "cannot set prompt, stream"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_its_line(written, spec: dict[str, Any], told: str) -> None:
    """Each fault of a class is told at its place, and no value of a header is shown."""
    with pytest.raises(ConfigError, match=told) as caught:
        written(workload(chat=CHAT | spec))
    assert "mixed.yaml:1" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_header_values_of_classes_are_hidden(written) -> None:
    """Neither what is stored nor what is shown has them."""
    loaded = written(workload(chat=CHAT | {"headers": {"x-tenant": "s3cret"}}))
    assert public(loaded.value)["classes"]["chat"]["headers"] == {"x-tenant": "(hidden)"}
    assert "s3cret" not in show(loaded)
    assert loaded.value.classes["chat"].headers == {"x-tenant": "s3cret"}


@pytest.mark.parametrize(
    ("api", "taken"), [("completions", True), ("embeddings", True), ("chat", False), ("responses", False)]
)
def test_which_apis_take_ids(api: str, taken: bool) -> None:  # noqa: FBT001
    """Ids are refused where the API takes text; a target's default ids give way to it."""
    talk = {"api": api, "token_ids": (100, 4000)}
    if taken:
        RemoteTarget.model_validate({"kind": "remote", "url": "http://h", "talk": talk})
    else:
        with pytest.raises(ValueError, match=f"{api} takes text"):
            RemoteTarget.model_validate({"kind": "remote", "url": "http://h", "talk": talk})
    ids = apply_talk_flags(load_target("sim"), TalkFlags(api=api)).value.talk.token_ids
    assert (ids is not None) == taken


def test_the_null_server_has_two_apis_only() -> None:
    """Another one is refused before anything starts."""
    with pytest.raises(ConfigError, match="the null server has no api responses"):
        apply_talk_flags(load_target("null"), TalkFlags(api="responses"))
    assert apply_talk_flags(load_target("null"), TalkFlags(api="chat")).value.talk.api == "chat"
