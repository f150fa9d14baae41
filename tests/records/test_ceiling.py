"""The file in which a machine's ceiling is kept: whole, private to the machine, never in the way of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from slobench.errors import RecordsError
from slobench.records import ceiling
from slobench.records.ceiling import Ceiling

SEEN = Ceiling("0123456789abcdef", 2, 1500.0, 60_000.0, 4000.0, "0.2.0", "2026-01-02T03:04:05Z")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def test_what_is_saved_is_loaded(state: Path) -> None:
    """One file for each machine, below XDG_STATE_HOME, and nothing else left there."""
    path = ceiling.save(SEEN)
    assert path == state / "slobench" / "ceilings" / "0123456789abcdef.json"
    assert ceiling.load(SEEN.machine) == SEEN
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    ceiling.save(replace(SEEN, requests_per_s=2000.0))
    assert ceiling.load(SEEN.machine) == replace(SEEN, requests_per_s=2000.0)


def test_this_machine_has_one_name_and_no_ceiling_until_it_was_tested() -> None:
    """The name is a hash: neither the machine's id nor its host name can be read from it."""
    assert ceiling.machine_id() == ceiling.machine_id()
    assert set(ceiling.machine_id()) <= set("0123456789abcdef")
    assert ceiling.load() is None
    ceiling.save(replace(SEEN, machine=ceiling.machine_id()))
    assert ceiling.load() == replace(SEEN, machine=ceiling.machine_id())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}', '{"schema": 99}', '{"schema": 1, "workers": "x"}'])
def test_a_file_that_cannot_be_used_is_no_ceiling(text: str) -> None:
    """A run goes on as on a machine that was never tested."""
    path = ceiling.path_of(SEEN.machine)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert ceiling.load(SEEN.machine) is None


def test_a_relative_state_folder_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As the XDG specification asks; the default is below the home folder."""
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ceiling.path_of("m") == tmp_path / ".local" / "state" / "slobench" / "ceilings" / "m.json"


def test_a_folder_that_cannot_be_written_is_one_readable_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file is named, and what was expected."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(RecordsError, match="cannot write"):
        ceiling.save(SEEN)


@pytest.mark.parametrize("name", ["workers", "requests_per_s", "tokens_per_s", "streams"])
def test_a_ceiling_of_nothing_is_none(name: str) -> None:
    """A share of 0 would be infinite."""
    with pytest.raises(RecordsError, match="positive"):
        replace(SEEN, **{name: 0})
