"""gate.json: what a gate was asked and every pair that has been measured; a killed gate goes on from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from slobench.errors import ConfigError, RecordsError
from slobench.metrics.gate import Pair
from slobench.records.whole import write_whole

FILE, SCHEMA = "gate.json", 1


def save(
    folder: Path, asked: Mapping[str, Any], pairs: Sequence[Pair], result: Mapping[str, Any] | None = None
) -> None:
    """Write gate.json, replacing an older one when it is whole. Raises RecordsError where the disk refuses."""
    content = {"schema": SCHEMA, "asked": dict(asked), "pairs": [_of_pair(pair) for pair in pairs], "result": result}
    data = orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n"
    write_whole(folder / FILE, lambda aside: aside.write_bytes(data))


def keep_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Put the verdict beside the pairs. Raises RecordsError where the disk refuses."""
    before = read(folder) if (folder / FILE).exists() else {}
    save(folder, before.get("asked") or {}, [_pair(each) for each in before.get("pairs") or ()], result)


def load_pairs(folder: Path, asked: Mapping[str, Any]) -> list[Pair]:
    """Read the pairs of a gate that is to go on. ConfigError where it was asked something else."""
    content = read(folder)
    before = content.get("asked") or {}
    apart = [key for key in asked if orjson.loads(orjson.dumps(asked[key])) != before.get(key)]
    if apart:
        raise ConfigError(
            f"{folder / FILE} belongs to another gate: {', '.join(apart)} differ\n"
            "  expected  the same workload, targets, seed and metrics, or another --out"
        )
    return [_pair(each) for each in content.get("pairs") or ()]


def read(folder: Path) -> dict[str, Any]:
    """Read gate.json. ConfigError where it is missing, RecordsError where it is damaged."""
    try:
        content = orjson.loads((folder / FILE).read_bytes())
    except FileNotFoundError:
        raise ConfigError(f"no {FILE} in {folder}\n  expected  the --out of a gate that began") from None
    except (OSError, orjson.JSONDecodeError) as error:
        raise RecordsError(
            f"cannot read {folder / FILE}: {error}\n  expected  JSON as `slobench gate` writes"
        ) from None
    if not isinstance(content, dict) or not isinstance(content.get("schema"), int) or content["schema"] > SCHEMA:
        raise RecordsError(
            f"{folder / FILE} is of a later version\n  expected  a newer slobench: pip install -U slobench"
        )
    return content


def _of_pair(pair: Pair) -> dict[str, Any]:
    return {
        "number": pair.number,
        "base": {name: dict(of) for name, of in pair.base.items()},
        "new": {name: dict(of) for name, of in pair.new.items()},
        "attainment": {name: list(both) for name, both in pair.attainment.items()},
        "server": pair.server,
        "void": pair.void,
    }


def _pair(data: Mapping[str, Any]) -> Pair:
    try:
        return Pair(
            int(data["number"]),
            data["base"],
            data["new"],
            {name: (float(both[0]), float(both[1])) for name, both in data["attainment"].items()},
            str(data["server"]),
            str(data["void"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RecordsError(f"a damaged {FILE}: {error}\n  expected  JSON as `slobench gate` writes it") from None
