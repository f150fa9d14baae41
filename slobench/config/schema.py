"""JSON Schema of workload, target, SLO preset, experiment and margins files, for editors that check YAML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from slobench.config.find import Kind
from slobench.config.load import adapter
from slobench.config.margins import Margins
from slobench.errors import ConfigError


def json_schema(kind: Kind | Literal["margins"]) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a kind of file."""
    schema = Margins.model_json_schema() if kind == "margins" else adapter(kind).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": f"slobench {kind}"}


def write_schema(kind: Kind | Literal["margins"], out: Path | None) -> str:
    """Write the schema to `out` and return a line that says how to use it, or without `out` the schema's text."""
    text = json.dumps(json_schema(kind), indent=2, ensure_ascii=False) + "\n"
    if out is None:
        return text
    try:
        out.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"cannot write {str(out)!r}: {reason}\n  expected  a file in a folder that exists") from None
    return f"wrote {out}; first line of a {kind} file that uses it: # yaml-language-server: $schema={out}\n"
