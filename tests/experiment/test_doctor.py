"""The doctor looks, starts nothing, and says what to fix."""

from __future__ import annotations

from slobench.experiment import doctor
from slobench.names import Exit
from tests.targets.fake_server import VLLM, serving


def by_name(checks: list[doctor.Check]) -> dict[str, doctor.Check]:
    """The checks by what they looked at."""
    return {check.name: check for check in checks}


def test_a_machine_is_looked_at_without_a_target():
    """Python, cores, load, files, clock, stamps, receiver, memory, disk and self-test, each once; none of them fails."""
    checks = doctor.diagnose(None, None)
    assert [check.name for check in checks] == [
        *("python", "cores", "load", "files", "clock", "stamps", "receiver", "memory", "disk", "selftest")
    ]
    assert doctor.codes(checks) == set()


def test_a_target_and_a_workload_that_are_well():
    """The shipped target and workload are ready on any machine."""
    checks = by_name(doctor.diagnose("sim", "quickstart"))
    assert (checks["target"].level, checks["workload"].level) == ("ok", "ok")


def test_what_is_wrong_is_said_with_its_exit_code():
    """An unknown workload is a usage error, an unreachable server a failed target; both say what to do."""
    checks = by_name(doctor.diagnose("http://no-such-host.invalid", "quickstrat"))
    assert (checks["workload"].exit, checks["target"].exit) == (Exit.USAGE, Exit.TARGET)
    assert "quickstart" in checks["workload"].seen + checks["workload"].fix
    assert "cannot be resolved" in checks["target"].seen
    assert doctor.codes(list(checks.values())) == {Exit.USAGE, Exit.TARGET}


def test_a_fix_stands_below_its_check():
    """Every check is a line; what to do follows it, indented."""
    checks = [doctor.Check("load", "warn", "busy", "stop it"), doctor.Check("disk", "ok", "free")]
    assert list(doctor.lines(checks)) == ["warn  load       busy", " " * 17 + "stop it", "ok    disk       free"]


def test_a_slow_clock_and_a_busy_machine_are_warned_about():
    """What disturbs a measurement is a warning with advice, not a failure."""
    facts = {"load_average": [3.0], "cpus_usable": 2, "cpus": 2, "cgroup_cpus": 1.5, "cpu_model": None}
    assert doctor._load(facts).level == "warn"
    assert doctor._cores(facts).level == "warn"
    assert doctor._load({**facts, "load_average": [0.5]}).level == "ok"


def test_what_would_be_sampled_of_a_server_is_said():
    """Its metrics where it tells some, a warning with what to do where not; GPUs, or why there are none."""
    told = b"vllm:num_requests_running 1\n"
    with serving({**VLLM, "/metrics": (200, told)}) as (url, _):
        checks = by_name(doctor.diagnose(url, None))
        assert (checks["metrics"].level, checks["metrics"].seen) == ("ok", f"vLLM at {url}/metrics")
    assert checks["gpus"].level == "ok"
    with serving(VLLM) as (url, _):
        checks = by_name(doctor.diagnose(url, None))
        assert (checks["metrics"].level, checks["metrics"].seen) == (
            "warn",
            f"no server metrics: {url}/metrics: HTTP 404",
        )
        assert "telemetry.urls" in checks["metrics"].fix
    checks = by_name(doctor.diagnose("sim", None))
    assert "metrics" not in checks
    assert checks["gpus"].seen == "none sampled: not asked for"
