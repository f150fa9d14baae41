"""capacity.json: what a search was asked, every probe that has ended, and what was found; a killed search resumes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import orjson

from slobench.errors import ConfigError, RecordsError
from slobench.experiment.search_state import History
from slobench.experiment.stream import Probe, Probed

FILE = "capacity.json"
SCHEMA = 1


def save(folder: Path, content: Mapping[str, Any]) -> None:
    """Write capacity.json, whole or not at all. Raises RecordsError where the disk refuses."""
    path = folder / FILE
    fresh = path.with_suffix(".tmp")
    try:
        fresh.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
        fresh.replace(path)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise RecordsError(f"cannot write {path}: {reason}\n  expected  a disk with room") from None


def load(folder: Path) -> dict[str, Any]:
    """Read capacity.json. Raises RecordsError where there is none or it cannot be read."""
    path = folder / FILE
    try:
        content = orjson.loads(path.read_bytes())
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise RecordsError(f"cannot read {path}: {reason}\n  expected  the folder of a capacity search") from None
    except orjson.JSONDecodeError as error:
        raise RecordsError(f"cannot read {path}: {error}\n  expected  a file that `slobench capacity` wrote") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise RecordsError(f"cannot read {path}\n  expected  a file that this version of `slobench capacity` wrote")
    return content


def history_of(content: Mapping[str, Any], asked: Mapping[str, Any]) -> History:
    """Take up the finished probes of an earlier search that was asked the same.

    Refining that ended for want of budget or probes goes on; a certificate is made anew where it failed.
    Raises ConfigError where workload, target, SLO or settings differ.
    """
    differing = sorted(key for key in asked if content["asked"].get(key) != asked[key])
    if differing:
        raise ConfigError(
            f"cannot resume: {', '.join(differing)} differ from the search in the folder\n"
            "  expected  the command that began it, with --resume; or another --out"
        )
    done = tuple(_probed(each) for each in content["probes"])
    refined = content["refined"] if content["refined"] == "precise" else None
    history = History(done=done, requests=content["requests"], seconds=content["seconds"])
    return replace(history, refined=refined)


def probe_json(probed: Probed) -> dict[str, Any]:
    """Return a probe as it is stored."""
    return asdict(probed)


def _probed(stored: Mapping[str, Any]) -> Probed:
    tallies = {name: tuple((good, n) for good, n in tally) for name, tally in stored["tallies"].items()}
    lists = {"in_flight": tuple(stored["in_flight"]), "instrument": tuple(stored["instrument"])}
    return Probed(**{**stored, **lists, "probe": Probe(**stored["probe"]), "tallies": tallies})
