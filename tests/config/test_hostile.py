"""What a careless or hostile user may type: each ends in one readable ConfigError or UsageError, and nothing else."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from slobench.config.flags import RunFlags, apply_flags, workload_from_flags
from slobench.config.inline import parse_arrivals, parse_drain, parse_lengths
from slobench.config.load import load_target, load_workload, route_sets
from slobench.config.slo import parse_goodput, parse_slo
from slobench.config.talk_flags import TalkFlags, apply_talk_flags
from slobench.errors import UsageError

CLASS = "{arrivals: {process: poisson, rate: 5}, input_tokens: {dist: constant, value: 8}, output_tokens: {dist: constant, value: 8}}"
GOOD = f"name: w\nclasses:\n  a: {CLASS}\nduration: 10s\n"


def lengths(text: str) -> str:
    """Return the good file with other input lengths."""
    return GOOD.replace("{dist: constant, value: 8}", text, 1)


# Each: what it is, the file's content, a part of the error that names the fault.
FILES: list[tuple[str, str | bytes, str]] = [
    ("empty", "", "is empty"),
    ("only a comment", "# nothing\n", "is empty"),
    ("a scalar", "hello", "not a workload"),
    ("a list", "- a\n- b\n", "not a workload"),
    ("binary", bytes(range(256)), "UTF-8"),
    ("UTF-16", "name: w".encode("utf-16"), "UTF-8"),
    ("NUL characters", "name: w\0\n", "not readable as YAML"),
    ("a control character", "name: \x07\n", "not readable as YAML"),
    ("a tab as indent", "name: w\nclasses:\n\ta: 1\n", "not readable as YAML"),
    ("an unclosed bracket", "name: [a, b\n", "not readable as YAML"),
    ("an unclosed quote", 'name: "w\n', "not readable as YAML"),
    ("two documents", f"{GOOD}---\n{GOOD}", "not readable as YAML"),
    ("a duplicate key", f"{GOOD}duration: 20s\n", "`duration` is there twice"),
    ("an unknown key", f"{GOOD}durations: 20s\n", "nearest   duration"),
    ("a Python tag", "name: !!python/object/apply:os.system [id]\n", "tags"),
    ("a local tag", "name: !secret x\n", "tags"),
    ("an unknown alias", "name: *nobody\n", "alias"),
    ("an alias of itself", "name: &a [*a]\n", "deep"),
    (
        "an alias bomb",
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)),
        "too much",
    ),
    ("deep nesting", "[" * 5000, "deep"),
    ("deep nesting by key", "? " * 5000, "deep"),
    ("a merge key", f"{GOOD}<<: {{a: 1}}\n", "unknown key '<<'"),
    ("a list as key", "? [a, b]\n: 1\n", "a key that is itself"),
    ("a file too large", b"#" * (2**20 + 1), "too large"),
    ("a number of 5000 digits", GOOD.replace("rate: 5", f"rate: {'9' * 5000}"), "too large"),
    ("a number above what a float holds", GOOD.replace("rate: 5", "rate: 1e999"), "too large"),
    ("half of a surrogate pair", 'name: "\\ud800"\n', "surrogate"),
    ("a rate below 0", GOOD.replace("rate: 5", "rate: -5"), "greater than"),
    ("a rate of 0", GOOD.replace("rate: 5", "rate: 0"), "greater than"),
    ("a rate of .nan", GOOD.replace("rate: 5", "rate: .nan"), "a number"),
    ("a rate of .inf", GOOD.replace("rate: 5", "rate: .inf"), "a number"),
    ("a rate that is true", GOOD.replace("rate: 5", "rate: true"), "a number"),
    ("a rate that is text", GOOD.replace("rate: 5", "rate: fast"), "a number"),
    ("a rate that is null", GOOD.replace("rate: 5", "rate:"), "a number"),
    ("a rate that is a mapping", GOOD.replace("rate: 5", "rate: {a: 1}"), "a number"),
    ("an unknown process", GOOD.replace("poisson", "poison"), "nearest   poisson"),
    ("no process", GOOD.replace("process: poisson, ", ""), "`classes.a.arrivals.process` is missing"),
    ("arrivals that are a number", GOOD.replace("{process: poisson, rate: 5}", "5"), "{process: poisson"),
    ("no classes", "name: w\nduration: 10s\n", "`classes` is missing"),
    ("empty classes", "name: w\nduration: 10s\nclasses: {}\n", "at least 1"),
    ("a class name with a space", GOOD.replace("  a:", '  "a b":'), "text that matches"),
    ("a class name with a dot", GOOD.replace("  a:", "  a.b:"), "text that matches"),
    ("a name with a slash", GOOD.replace("name: w", "name: ../w"), "text that matches"),
    ("a name that is a number", GOOD.replace("name: w", "name: 7"), "text (in quotes"),
    ("neither requests nor duration", GOOD.replace("duration: 10s\n", ""), "exactly one"),
    ("requests and duration", f"{GOOD}requests: 5\n", "exactly one"),
    ("requests of 0", GOOD.replace("duration: 10s", "requests: 0"), "greater than"),
    ("requests of 1.5", GOOD.replace("duration: 10s", "requests: 1.5"), "a whole number"),
    ("more requests than memory", GOOD.replace("duration: 10s", "requests: 10000000000000"), "less than"),
    (
        "a rate and duration beyond memory",
        GOOD.replace("rate: 5", "rate: 900000").replace("10s", "10h"),
        "at most 50,000,000",
    ),
    ("a duration below 0", GOOD.replace("10s", "-10s"), "cannot read duration"),
    ("a duration of 0", GOOD.replace("10s", "0s"), "greater than"),
    ("a duration in parsecs", GOOD.replace("10s", "10pc"), "cannot read duration"),
    ("a duration of 1:30", GOOD.replace("10s", "1:30"), "cannot read duration"),
    ("a duration that is true", GOOD.replace("10s", "true"), "a duration"),
    ("a duration of 10^400 s", GOOD.replace("10s", "1e400s"), "too long"),
    ("a duration beyond any Decimal", GOOD.replace("10s", "1e99999999999999999999s"), "too long"),
    ("a warm-up as long as the run", f"{GOOD}warmup: 10s\n", "warm-up"),
    ("0 tokens", lengths("{dist: constant, value: 0}"), "greater than"),
    ("half a token", lengths("{dist: constant, value: 8.5}"), "a whole number"),
    ("low above high", lengths("{dist: uniform, low: 9, high: 8}"), "above"),
    ("min above max", lengths("{dist: normal, mean: 9, std: 1, min: 9, max: 8}"), "above"),
    ("a std below 0", lengths("{dist: normal, mean: 9, std: -1}"), "greater than"),
    ("a mean of 1e300", lengths("{dist: lognormal, mean: 1e300, sigma: 1}"), "less than"),
    ("an empty list of lengths", lengths("{dist: empirical, values: []}"), "at least 1"),
    ("a list of lengths with text", lengths("{dist: empirical, values: [1, two]}"), "a whole number"),
    ("another distribution's key", lengths("{dist: uniform, low: 1, high: 8, mean: 3}"), "unknown key 'mean'"),
    ("an unknown distribution", lengths("{dist: zipf, a: 1.1}"), "one of constant"),
    ("a closed loop with arrivals", f"{GOOD}loop: {{mode: closed, users: 2}}\n", "closed loop has no `arrivals`"),
    ("a closed loop of 0 users", f"{GOOD}loop: {{mode: closed, users: 0}}\n", "greater than"),
    ("an SLO that is no list", f"{GOOD}slo: ttft<500ms\n", "a list"),
    ("an SLO without a unit", f"{GOOD}slo: [ttft<500]\n", "needs a unit"),
    ("an SLO for an unknown class", f"{GOOD}slo: [class=b ttft<500ms]\n", "no class named 'b'"),
    ("the same limit twice", f"{GOOD}slo: [ttft<500ms, ttft<1s]\n", "two things of one quantity"),
    ("a priority beyond int32", GOOD.replace("input_tokens", "priority: 99999999999, input_tokens"), "less than"),
]

TARGETS: list[tuple[str, str, str]] = [
    ("no kind", "about: x\n", "`kind` is missing"),
    ("an unknown kind", "kind: vlm\n", "nearest   vllm"),
    ("a URL of another scheme", "kind: remote\nurl: ftp://host\n", "text that matches"),
    ("a URL without a host", "kind: remote\nurl: 'http://'\n", "scheme://host"),
    ("a URL with a bad port", "kind: remote\nurl: http://host:99999\n", "not a URL"),
    ("a URL with a key in it", "kind: remote\nurl: http://user:secret@host\n", "api_key_env"),
    (
        "a header that holds two",
        'kind: remote\nurl: http://h\ntalk: {headers: {x: "a\\r\\nb: c"}}\n',
        "header 'x' cannot be sent",
    ),
    (
        "a header name with a space",
        "kind: remote\nurl: http://h\ntalk: {headers: {a b: c}}\n",
        "header 'a b' cannot be sent",
    ),
    ("ids for chat", "kind: sim\ntalk: {api: chat, token_ids: [100, 4000]}\n", "token_ids needs api: completions"),
    ("ids in no range", "kind: sim\ntalk: {token_ids: [100, 90]}\n", "at least 256 ids"),
    ("one id", "kind: sim\ntalk: {token_ids: [100]}\n", "`talk.token_ids.1` is missing"),
    ("a proxy for the fast transport", "kind: sim\ntalk: {proxy: 'http://p'}\n", "transport: aiohttp"),
    ("a timeout of 0", "kind: sim\ntalk: {timeouts: {total: 0}}\n", "greater than"),
    ("two keys", "kind: sim\ntalk: {api_key_env: A, api_key_file: b}\n", "at most one"),
    ("an argument that is a list", "kind: vllm\nserve: m\nargs: {a: [1]}\n", "or a number"),
    ("an argument that is null", "kind: vllm\nserve: m\nargs: {a: }\n", "or a number"),
    ("an environment value that is a number", "kind: vllm\nserve: m\nenviron: {A: 1}\n", "in quotes"),
    ("no command", "kind: command\nargv: []\n", "at least 1"),
    ("a port of 70000", "kind: command\nargv: [x]\nport: 70000\n", "less than"),
    ("an engine of no sequences", "kind: sim\nengine: {max_num_seqs: 0}\n", "greater than"),
    ("an engine of negative time", "kind: sim\nengine: {step: {base_ms: -1}}\n", "greater than"),
]

SETS = [
    "",
    "=",
    "a",
    ".a=1",
    "a..b=1",
    "a.=1",
    '"a=1',
    "duration",
    "durations=5s",
    "duration=-5s",
    "classes.a=1",
    "classes.b.arrivals.rate=5",
    "classes.a.arrivals.rate=[",
    "classes.a.arrivals.rate=!!python/name:os.system",
    "classes.a.arrivals.rate.x=1",
    "name.x=1",
    "slo=ttft<1s",
    "slo=[ttfx<1s]",
    "loop.users=5",
    "drain.mode=never",
]

SLOS = [
    "",
    " ",
    ",",
    "ttft",
    "ttft<",
    "ttft<500",
    "ttft<-5ms",
    "ttft<0ms",
    "ttft<1e999s",
    "ttft<nan",
    "ttft>500ms",
    "ttft=500ms",
    "itl<50ms",
    "tfft<500ms",
    "ttft:99<500ms",
    "ttft:p0<500ms",
    "ttft:p100<500ms",
    "ttft:p1.2.3<500ms",
    "ttft:p99<500ms+1ms/token",
    "ttft<500ms+1ms",
    "ttft<500ms+1ms/word",
    "attainment<99%",
    "attainment>=99",
    "attainment>=101%",
    "attainment>=0%",
    "attainment:p99>=99%",
    "error_rate>1%",
    "error_rate<x%",
    "deadline(500ms)",
    "deadline(500ms, 50ms, 0.9)",
    "deadline(500ms, 50ms, share=2)",
    "deadline(500ms, 50ms",
    "class= ttft<1s",
    "class=a",
    "class=zz ttft<1s",
    "ttft<500ms, ttft<1s",
    "ttft<500ms;;tpot<1s",
    "ttft<500ms\0",
    "(" * 900,
    "ttft<1s," * 1000,
]

CALLS: list[tuple[str, Callable[[], object]]] = [
    ("no load", lambda: workload_from_flags(RunFlags())),
    ("rate nan", lambda: workload_from_flags(RunFlags(rate="nan"))),
    ("rate 0", lambda: workload_from_flags(RunFlags(rate=0))),
    ("rate -1", lambda: workload_from_flags(RunFlags(rate="-1"))),
    ("rate text", lambda: workload_from_flags(RunFlags(rate="fast"))),
    ("rate 1e300", lambda: workload_from_flags(RunFlags(rate=1e300))),
    ("concurrency 0", lambda: workload_from_flags(RunFlags(concurrency=0))),
    ("concurrency -1 with rate", lambda: workload_from_flags(RunFlags(concurrency=-1, rate=5))),
    ("burst by duration", lambda: workload_from_flags(RunFlags(rate="inf", duration="5s"))),
    ("burst without requests", lambda: workload_from_flags(RunFlags(arrivals="burst"))),
    ("burst with a rate", lambda: workload_from_flags(RunFlags(arrivals="burst", rate=5, requests=5))),
    ("poisson without a rate", lambda: workload_from_flags(RunFlags(arrivals="poisson", concurrency=5))),
    ("rate inf, gamma", lambda: workload_from_flags(RunFlags(rate="inf", burstiness=0.5, requests=5))),
    ("burstiness 0", lambda: workload_from_flags(RunFlags(rate=5, burstiness=0))),
    ("burstiness nan", lambda: workload_from_flags(RunFlags(rate=5, burstiness=float("nan")))),
    ("burstiness and arrivals", lambda: workload_from_flags(RunFlags(rate=5, burstiness=2, arrivals="poisson"))),
    ("requests and duration", lambda: workload_from_flags(RunFlags(rate=5, requests=5, duration="5s"))),
    ("fewer requests than users", lambda: workload_from_flags(RunFlags(concurrency=5, requests=4))),
    ("requests below 0", lambda: workload_from_flags(RunFlags(rate=5, requests=-4))),
    ("duration text", lambda: workload_from_flags(RunFlags(rate=5, duration="soon"))),
    ("warm-up text", lambda: workload_from_flags(RunFlags(rate=5, warmup="x"))),
    ("goodput without a number", lambda: workload_from_flags(RunFlags(rate=5, goodput=["ttft:"]))),
    ("set of an unknown class", lambda: workload_from_flags(RunFlags(rate=5), ["classes.chat.share=2"])),
    ("a rate over a closed loop", lambda: apply_flags(workload_from_flags(RunFlags(concurrency=2)), RunFlags(rate=5))),
    ("drain", lambda: parse_drain("never")),
    ("drain without a time", lambda: parse_drain("grace")),
    ("drain of a bad time", lambda: parse_drain("grace=x")),
    ("drain with too much", lambda: parse_drain("cut=5s")),
    ("lengths empty", lambda: parse_lengths("")),
    ("lengths 0", lambda: parse_lengths("0")),
    ("lengths -5", lambda: parse_lengths("-5")),
    ("lengths of 5000 digits", lambda: parse_lengths("9" * 5000)),
    ("lengths 1e3", lambda: parse_lengths("1e3")),
    ("lengths without fields", lambda: parse_lengths("uniform")),
    ("lengths half", lambda: parse_lengths("uniform:low=8")),
    ("lengths twice", lambda: parse_lengths("uniform:low=8,low=9,high=10")),
    ("lengths unknown field", lambda: parse_lengths("uniform:low=8,hihg=10")),
    ("lengths nan", lambda: parse_lengths("normal:mean=nan,std=1")),
    ("lengths inf", lambda: parse_lengths("lognormal:mean=inf,sigma=1")),
    ("lengths unknown", lambda: parse_lengths("unifrom:low=1,high=2")),
    ("lengths no value", lambda: parse_lengths("empirical:values=")),
    ("lengths bad value", lambda: parse_lengths("empirical:values=1|x")),
    ("arrivals unknown", lambda: parse_arrivals("posson", 5)),
    ("arrivals cv below 0", lambda: parse_arrivals("gamma:cv=-1", 5)),
    ("arrivals rate twice", lambda: parse_arrivals("poisson:rate=4", 5)),
    ("arrivals unknown field", lambda: parse_arrivals("poisson:cv=1", 5)),
    ("goodput of an unknown metric", lambda: parse_goodput(["itl:5"])),
    ("goodput below 0", lambda: parse_goodput(["ttft:-5"])),
    ("no such workload", lambda: load_workload("quikstart")),
    ("an empty name", lambda: load_workload("")),
    ("a name with NUL", lambda: load_workload("a\0b")),
    ("a name of 10^5 characters", lambda: load_workload("a" * 100_000)),
    ("a name of 400 characters", lambda: load_workload("a" * 400)),
    ("a path of 400 characters", lambda: load_workload("x/" + "a" * 400)),
    ("a missing file", lambda: load_workload("nowhere/w.yaml")),
    ("a folder", lambda: load_workload("./")),
    ("a device", lambda: load_workload("/dev/zero")),
    ("no such target", lambda: load_target("simm")),
    ("host and port without a scheme", lambda: load_target("localhost:8000")),
    ("a URL of another scheme", lambda: load_target("ftp://host")),
    ("a URL without a host", lambda: load_target("http://")),
    ("a URL with a line end", lambda: load_target("http://host\r\nx: y")),
    ("a URL with a space", lambda: load_target("http://ho st")),
    ("an IPv6 address that is none", lambda: load_target("http://[::zz")),
    ("a header without a colon", lambda: apply_talk_flags(load_target("http://h"), TalkFlags(headers=["secret"]))),
    ("a header of two lines", lambda: apply_talk_flags(load_target("http://h"), TalkFlags(headers=["a: b\nc: d"]))),
    ("a timeout of nothing", lambda: apply_talk_flags(load_target("http://h"), TalkFlags(timeouts=[""]))),
    ("an unknown timeout", lambda: apply_talk_flags(load_target("http://h"), TalkFlags(timeouts=["read=5s"]))),
    ("an unknown API", lambda: apply_talk_flags(load_target("http://h"), TalkFlags(api="chatt"))),
    ("--set of neither", lambda: route_sets(["tlak.api=chat"])),
    ("--set of both", lambda: route_sets(["about=x"])),
]


def refused(call: Callable[[], object]) -> str:
    """Call, and return the text of the one error it must raise, after checking that a person can read it."""
    with pytest.raises(UsageError) as caught:
        call()
    text = str(caught.value)
    lines = text.split("\n")
    assert len(lines) >= 2
    assert re.search(r"\n  (expected|nearest) +\S", text), text
    assert len(text) < 2000
    assert text.isprintable() or all(line.isprintable() for line in lines)
    assert not re.search(r"Traceback|pydantic|Input should|object at 0x|type=", text), text
    assert caught.value.exit == 2
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return text


@pytest.mark.parametrize(("content", "told"), [case[1:] for case in FILES], ids=[case[0] for case in FILES])
def test_a_hostile_workload_file_is_one_error_that_names_file_and_fault(
    content: str | bytes, told: str, tmp_path: Path
) -> None:
    """Every faulty workload file ends in a ConfigError with the file's name and the fault."""
    path = tmp_path / "w.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    text = refused(lambda: load_workload(str(path)))
    assert "w.yaml" in text
    assert told in text


@pytest.mark.parametrize(("content", "told"), [case[1:] for case in TARGETS], ids=[case[0] for case in TARGETS])
def test_a_hostile_target_file_is_one_error_that_names_file_and_fault(content: str, told: str, tmp_path: Path) -> None:
    """Every faulty target file ends in a ConfigError with the file's name and the fault, and shows no secret."""
    path = tmp_path / "t.yaml"
    path.write_text(content)
    text = refused(lambda: load_target(str(path)))
    assert "t.yaml" in text
    assert told in text


@pytest.mark.parametrize("assignment", SETS)
def test_a_hostile_set_is_one_error_that_names_the_flag(assignment: str, tmp_path: Path) -> None:
    """Every faulty --set ends in a ConfigError that says `--set`."""
    path = tmp_path / "w.yaml"
    path.write_text(GOOD)
    assert "--set" in refused(lambda: load_workload(str(path), [assignment]))


@pytest.mark.parametrize("clause", SLOS)
def test_a_hostile_slo_is_one_error_that_says_slo(clause: str) -> None:
    """Every faulty SLO ends in a ConfigError that says so."""
    assert "SLO" in refused(lambda: parse_slo([clause], ["a", "b"]))


@pytest.mark.parametrize("call", [case[1] for case in CALLS], ids=[case[0] for case in CALLS])
def test_a_hostile_flag_or_name_is_one_error(call: Callable[[], object]) -> None:
    """Every faulty flag, name, path or URL ends in one readable error."""
    refused(call)


def test_the_good_file_that_the_hostile_ones_are_made_of_is_good(tmp_path: Path) -> None:
    """The hostile files fail by their one fault, not by the rest."""
    path = tmp_path / "w.yaml"
    path.write_text(GOOD)
    assert load_workload(str(path)).value.name == "w"


def test_a_secret_in_a_url_or_header_is_not_shown(tmp_path: Path) -> None:
    """An error about a header does not repeat its value."""
    path = tmp_path / "t.yaml"
    path.write_text('kind: remote\nurl: http://h\ntalk: {headers: {x-key: "s3cret\\r\\n"}}\n')
    assert "s3cret" not in refused(lambda: load_target(str(path)))
