"""`slobench capacity` from the command line, on the engine in virtual time."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest

from slobench.cli.main import main

LIMITS = ["--slo", "ttft<500ms", "--slo", "tpot<30ms", "--target-attainment", "90%"]
LOAD = [
    *("--input-tokens", "lognormal:mean=512,sigma=0.9,min=8,max=8000"),
    *("--output-tokens", "lognormal:mean=220,sigma=0.8,min=1,max=2000"),
]
COARSE = ["--precision", "6%", "--start-rate", "20"]


def command(out: Path, *words: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "slobench",
        "capacity",
        "--target",
        "sim-reference",
        "--virtual",
        "--out",
        str(out),
        *words,
    ]


@dataclass(frozen=True)
class Done:
    """What a command printed, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


def run(out: Path, *words: str) -> Done:
    """The command, in this process: starting Python is most of what it takes."""
    said, told = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    before, sys.argv = sys.argv, ["slobench", *command(out, *words)[3:]]
    try:
        with redirect_stdout(said), redirect_stderr(told), pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = before
    texts = [stream.buffer.getvalue().decode() for stream in (said, told)]
    return Done(int(ended.value.code or 0), *texts)


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> tuple[Path, Done]:
    out = tmp_path_factory.mktemp("capacity") / "out"
    return out, run(out, *LIMITS, *LOAD, *COARSE, "--json")


def test_the_result_is_printed_as_json(found) -> None:
    """All keys, an interval around the rate, null where something is not known."""
    out, done = found
    assert done.returncode == 0, done.stderr
    printed = orjson.loads(done.stdout)
    capacity = printed["capacity"]
    assert printed["exit"] == 0
    assert capacity["low"] < capacity["rate"] < capacity["high"]
    assert capacity["certified"] < capacity["rate"]
    assert capacity["per_gpu"] is None
    assert capacity["target"] == 0.9
    assert capacity["binding"] in capacity["limits"]
    assert capacity["arrivals"] == "poisson"
    assert capacity["vr"] is True
    assert {"slope", "design_effect", "n_eff", "requests", "probes", "classes", "curve", "precision"} <= capacity.keys()
    assert [each["purpose"] for each in capacity["probes"]].count("certify") >= 1
    assert out.is_dir()


def test_every_form_of_the_result_is_written(found) -> None:
    """capacity.json, Markdown, one HTML page that fetches nothing, and every request of every probe."""
    out, done = found
    stored = orjson.loads((out / "capacity.json").read_bytes())
    printed = orjson.loads(done.stdout)
    assert stored["capacity"] == printed["capacity"]
    assert stored["state"] == "certified"
    requests = pq.read_table(out / "requests.parquet")
    assert {each["probe"]["number"] for each in stored["probes"]} <= set(requests["probe"].to_pylist())
    assert requests.num_rows <= printed["capacity"]["requests"]
    page = (out / "capacity.html").read_text()
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert "Attainment by load" in page
    markdown = (out / "capacity.md").read_text()
    assert markdown.startswith("# capacity of flags on sim")
    assert "CERTIFIED" in markdown
    assert "vr on" in markdown


def test_the_same_seed_finds_the_same(found, tmp_path: Path) -> None:
    """In virtual time a search is reproducible to the last bit."""
    again = orjson.loads(run(tmp_path / "again", *LIMITS, *LOAD, *COARSE, "--json").stdout)["capacity"]
    assert again == orjson.loads(found[1].stdout)["capacity"]


def test_an_uncertified_result_is_exit_7(tmp_path: Path) -> None:
    """The budget ran out: an interval, no certificate; --resume with more goes on and uses what was there."""
    out = tmp_path / "out"
    done = run(out, *LIMITS, *LOAD, *COARSE, "--budget", "7000")
    assert done.returncode == 7, done.stderr
    assert "UNCERTIFIED" in done.stdout
    before = orjson.loads((out / "capacity.json").read_bytes())
    assert before["requests"] <= 7000
    more = run(out, *LIMITS, *LOAD, *COARSE, "--budget", "60000", "--resume")
    assert more.returncode == 0, more.stdout + more.stderr
    after = orjson.loads((out / "capacity.json").read_bytes())
    assert after["probes"][: len(before["probes"])] == before["probes"]
    assert (out / "requests-2.parquet").exists()


def test_another_question_cannot_be_resumed(tmp_path: Path) -> None:
    """Finished probes answer only what they were asked."""
    out = tmp_path / "out"
    run(out, *LIMITS, *LOAD, *COARSE, "--budget", "1500")
    changed = [word.replace("500ms", "400ms") for word in LIMITS]
    done = run(out, *changed, *LOAD, *COARSE, "--resume")
    assert done.returncode == 2
    assert "cannot resume: slo" in done.stderr


def test_a_killed_search_goes_on(tmp_path: Path) -> None:
    """SIGKILL in the middle: capacity.json holds the probes that had ended, and they are used again."""
    out = tmp_path / "out"
    words = [*LIMITS, *LOAD, "--start-rate", "1", "--precision", "2%"]
    process = subprocess.Popen(command(out, *words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    path, probes = out / "capacity.json", []
    give_up = time.monotonic() + 60
    while len(probes) < 4 and time.monotonic() < give_up and process.poll() is None:
        time.sleep(0.01)
        probes = orjson.loads(path.read_bytes())["probes"] if path.exists() else []
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    left = orjson.loads(path.read_bytes())
    assert left["state"] == "running"
    done = run(out, *words, "--resume", "--budget", str(left["requests"] + 9000))
    assert done.returncode in {0, 7}, done.stderr
    after = orjson.loads(path.read_bytes())
    assert after["probes"][: len(left["probes"])] == left["probes"]
    assert len(after["probes"]) > len(left["probes"])
    assert f"resuming after {len(left['probes'])} probes" in done.stderr


def test_a_hopeless_slo_says_so_with_the_floor(tmp_path: Path) -> None:
    """One request at a time misses it already: exit 7, and what such a request takes."""
    done = run(tmp_path / "out", "--slo", "tpot<1ms", *LOAD, "--json")
    assert done.returncode == 7
    capacity = orjson.loads(done.stdout)["capacity"]
    assert capacity["reason"] == "hopeless"
    assert (capacity["rate"], capacity["certified"]) == (None, None)
    assert capacity["floor"]["tpot_s"] > 0.001
    assert capacity["requests"] < 1000


def test_a_slo_that_never_fails_says_not_reached(tmp_path: Path) -> None:
    """Up to --max-rate."""
    done = run(tmp_path / "out", "--slo", "e2e<1000s", *LOAD, "--max-rate", "10")
    assert done.returncode == 7
    assert "capacity above 10" in done.stdout
    assert "NOT REACHED" in done.stdout


def test_users_are_never_called_capacity(tmp_path: Path) -> None:
    """Over concurrency the result is max_users, a whole certified number, in every form."""
    out = tmp_path / "out"
    done = run(out, *LIMITS, *LOAD, "--concurrency", "--precision", "6%")
    assert done.returncode in {0, 7}, done.stderr
    stored = orjson.loads((out / "capacity.json").read_bytes())
    assert "capacity" not in stored
    assert stored["max_users"]["unit"] == "users"
    assert stored["max_users"]["arrivals"] == "closed"
    assert done.stdout.startswith("max users ")
    assert "capacity" not in done.stdout.replace("capacity.json, capacity.md, capacity.html", "").replace(str(out), "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["quickstart", "--slo", "ttft<1s", "--target", "vllm-local"], "--virtual runs the simulated engine"),
        (["--slo", "ttft<1s", "--precision", "80%"], "--precision"),
        (["--slo", "ttft<1s", "--budget", "0"], "--budget"),
        (["--slo", "ttft<1s", "--start-rate", "5", "--max-rate", "2"], "--start-rate"),
        (["--slo", "ttft<1s", "--arrivals", "burst"], "a burst has no rate"),
        ([], "a capacity needs an SLO"),
    ],
)
def test_what_cannot_be_searched_is_refused(tmp_path: Path, words: list[str], said: str) -> None:
    """One clear error, exit 2, and nothing is left behind."""
    out = tmp_path / "out"
    done = run(out, *words)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert not out.exists()


def test_quiet_prints_the_result_line_alone(tmp_path: Path) -> None:
    """It can be read alone: load, arrivals, seed, vr, interval, n, n_eff, target, who counts, verdict."""
    done = run(tmp_path / "out", *LIMITS, *LOAD, *COARSE, "--quiet", "--seed", "5")
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    for part in ("requests/s [", "poisson", "seed 5", "vr on", "90.0 %", "n_eff", "errors and timeouts count against"):
        assert part in line
