"""Why a server did not start is told from what real servers write."""

from __future__ import annotations

import signal

import pytest

from slobench.targets.failures import Cause, diagnose, ended, explain

NOISE = """\
(APIServer pid=8861) WARNING 11-24 21:19:30 [system_utils.py:255] Found ulimit of 20000. This can cause fd limit \
errors like `OSError: [Errno 24] Too many open files`. Consider increasing with ulimit -n
(APIServer pid=8861) INFO 11-24 21:19:30 [model.py:2152] Using max model len 2048
"""

# Lines as vLLM 0.32 on a CPU wrote them, then as vLLM and PyTorch word the same failures on a GPU.
OOM_CPU = (
    "(Worker pid=9044) ERROR 11-24 21:19:45 [multiproc_executor.py:1063] ValueError: Available memory on node 0 "
    "(7.59/8.96 GiB) on kv cache allocation is less than requested memory for kv (2000.0 GiB). Decrease "
    "--kv-cache-memory-bytes, VLLM_CPU_KVCACHE_SPACE, or reduce CPU memory used by other processes."
)
CASES = {
    "port": (Cause.PORT_IN_USE, "OSError: [Errno 98] Address already in use"),
    "unknown argument": (Cause.BAD_ARGUMENT, "vllm: error: unrecognized arguments: --bogus-arg 3"),
    "bad value": (Cause.BAD_ARGUMENT, "vllm serve: error: argument --max-num-seqs: invalid int value: 'abc'"),
    "values that do not fit": (
        Cause.BAD_ARGUMENT,
        (
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
            "  Value error, User-specified max_model_len (999999) is greater than the derived max_model_len"
        ),
    ),
    "memory, cpu": (Cause.OUT_OF_MEMORY, OOM_CPU),
    "memory, cuda": (
        Cause.OUT_OF_MEMORY,
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB",
    ),
    "memory, taken": (
        Cause.OUT_OF_MEMORY,
        "ValueError: Free memory on device (10.2/79.1 GiB) on startup is less than desired GPU memory utilization (0.9)",
    ),
    "memory, cache": (Cause.OUT_OF_MEMORY, "ValueError: No available memory for the cache blocks."),
    "memory, one request": (
        Cause.OUT_OF_MEMORY,
        (
            "ValueError: To serve at least one request with the models's max seq len (131072), (16.00 GiB KV cache is "
            "needed, which is larger than the available KV cache memory (9.85 GiB)."
        ),
    ),
    "memory, host": (Cause.OUT_OF_MEMORY, "RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried"),
    "model": (
        Cause.NO_MODEL,
        "    raise HFValidationError(\nhuggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name'",
    ),
}


@pytest.mark.parametrize(("cause", "text"), CASES.values(), ids=CASES)
def test_the_cause_is_told_apart(cause, text):
    """Each kind of failure is named, between warnings that mention other errors and the tracebacks that follow."""
    after = "\nRuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n"
    failure = diagnose(NOISE + text + after, 1)
    assert failure.cause == cause
    assert failure.line in text
    assert not failure.line.startswith("raise ")
    assert failure.advice


def test_the_line_shown_is_without_the_log_prefix():
    """What the server said is shown without process, level, time and source of the log line."""
    assert diagnose(OOM_CPU, 1).line.startswith("ValueError: Available memory on node 0")


@pytest.mark.parametrize(
    ("code", "cause"),
    [(-signal.SIGKILL, Cause.KILLED), (-signal.SIGILL, Cause.CRASHED), (1, Cause.UNKNOWN), (None, Cause.UNKNOWN)],
)
def test_the_signal_decides_where_the_log_says_nothing(code, cause):
    """Without a telling line the end itself is the cause, and no warning is shown in its place."""
    failure = diagnose(NOISE, code)
    assert (failure.cause, failure.line) == (cause, "")


def test_the_last_error_is_shown_where_the_cause_is_unknown():
    """An error of no known kind is shown by the last line that names one."""
    log = "RuntimeError: first\n  File 'x.py'\nKeyError: 'second'\nshutting down\n"
    assert diagnose(log, 1).line == "KeyError: 'second'"


def test_how_it_ended():
    """Exit codes and signals are worded, an unknown signal too."""
    assert [ended(2), ended(-9), ended(-250)] == ["exit code 2", "killed by SIGKILL", "killed by signal 250"]


def test_the_explanation_holds_cause_advice_and_tail():
    """The error text says what failed, why, what to do, where the log is, and how it ends."""
    text = explain("vLLM did not start", CASES["port"][1], 1, path="run/server.log", tail="last line")
    assert text.splitlines() == [
        "vLLM did not start (exit code 1): port in use",
        "  it said  OSError: [Errno 98] Address already in use",
        "  advice   another process listens on that port: stop it, or set the target's `port: 0` for a free one",
        "  log      run/server.log",
        "  | last line",
    ]
