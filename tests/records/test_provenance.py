"""What a run stores about its machine is complete enough, and holds no secret."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.records import provenance
from slobench.records.provenance import REDACTED, host, redact, versions

SECRET = 'sk-a b/c+%"é\\x'
JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=8) | st.just(SECRET) | st.builds("x{}y".format, st.just(SECRET)),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.just(SECRET), inner, max_size=4)
    ),
    max_leaves=12,
)


def strings_in(value: object) -> list[str]:
    """All strings of JSON-like data, keys included."""
    if isinstance(value, dict):
        return [text for pair in value.items() for item in pair for text in strings_in(item)]
    if isinstance(value, list):
        return [text for item in value for text in strings_in(item)]
    return [value] if isinstance(value, str) else []


@given(JSON)
def test_no_string_or_key_holds_a_secret(value: object) -> None:
    """A secret is removed from strings and keys at any depth."""
    assert not [text for text in strings_in(redact(value, [SECRET])) if SECRET in text]


@given(JSON)
def test_what_holds_no_secret_is_left_as_it_is(value: object) -> None:
    """Without secrets, data that names no credential comes back equal."""
    assert redact(value) == value


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ({"Authorization": "Bearer xyz"}, {"Authorization": REDACTED}),
        ({"X-API-Key": "k", "api_key": "k", "Cookie": "a=b", "hf_token": "t"}, dict.fromkeys(["X-API-Key", "api_key", "Cookie", "hf_token"], REDACTED)),
        ({"api_key_env": "OPENAI_API_KEY", "max_tokens": 5, "api_key": None}, {"api_key_env": "OPENAI_API_KEY", "max_tokens": 5, "api_key": None}),
        ("http://me:pw@host:8000/v1", f"http://{REDACTED}@host:8000/v1"),
        ("401: bad key 'Bearer abcdefgh12345'", f"401: bad key 'Bearer {REDACTED}'"),
        (["--api-key", "secret1", "--key=secret1"], ["--api-key", REDACTED, f"--key={REDACTED}"]),
        ("q?key=my%2Fsecret", f"q?key={REDACTED}"),
        ("a cat", "a cat"),
        ("a", REDACTED),
        (b"secret1", REDACTED),
    ],
)  # fmt: skip
def test_credentials_are_removed_and_names_are_kept(value: object, seen: object) -> None:
    """Credentials by key, by place in a URL, by scheme, by value; a short secret only where it is all there is."""
    assert redact(value, ["secret1", "my/secret", "a", ""]) == seen


def test_a_secret_that_holds_another_leaves_no_rest() -> None:
    """The longer of two secrets goes first."""
    assert redact("abcdef-tail", ["abcdef", "abcdef-tail"]) == REDACTED


def test_the_host_is_described_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """All fields have a JSON form, and those every system knows are there, also where no file under /proc is."""
    for _ in range(2):
        described = orjson.loads(orjson.dumps(host()))
        assert described["cpus"] >= described["cpus_usable"] >= 1
        assert described["memory_bytes"] > described["memory_available_bytes"] > 0
        assert described["kernel"]
        assert len(described["load_average"]) == 3
        monkeypatch.setattr(provenance, "_text", lambda path: None)
    assert described["cgroup_cpus"] is None
    assert described["cgroup_memory_bytes"] is None
    assert described["clocksource"] is None


@pytest.mark.parametrize(
    ("files", "cpus", "memory"),
    [
        ({"/sys/fs/cgroup/a/b/cpu.max": "max 100000", "/sys/fs/cgroup/a/cpu.max": "150000 100000"}, 1.5, None),
        ({"/sys/fs/cgroup/a/b/memory.max": "max", "/sys/fs/cgroup/memory.max": "1048576"}, None, 1048576),
        ({"/sys/fs/cgroup/cpu.max": "400000 100000", "/sys/fs/cgroup/a/b/cpu.max": "50000 100000"}, 0.5, None),
        ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 2, None),
        ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, None, None),
        ({"/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"}, None, None),
    ],
)
def test_the_tightest_cgroup_limit_holds(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cpus: float | None, memory: int | None
) -> None:
    """Limits of the group and of those above it, in both versions of cgroups; "max" is no limit."""
    files = {"/proc/self/cgroup": "1:name=systemd:/\n0::/a/b", **files}
    monkeypatch.setattr(provenance, "_text", files.get)
    described = host()
    assert (described["cgroup_cpus"], described["cgroup_memory_bytes"]) == (cpus, memory)


def test_versions_name_what_is_installed() -> None:
    """Every version is a text; slobench, Python and the packages of the read path are among them."""
    found = versions()
    assert {"slobench", "python", "openssl", "numpy", "pyarrow", "orjson"} <= found.keys()
    assert all(found.values())


def test_credentials_are_found_in_settings_and_command_lines() -> None:
    """A key of the server's, given as a setting or as a flag, is known, so that it can be taken out everywhere."""
    settings = {
        "args": {"api-key": "sk-one", "max-num-seqs": "8"},
        "argv": ["serve", "--api-key", "sk-two", "--port", "1"],
        "more": [["--hf-token=sk-three"], {"password": "sk-four"}],
    }
    assert provenance.secrets_in(settings) == {"sk-one", "sk-two", "sk-three", "sk-four"}
