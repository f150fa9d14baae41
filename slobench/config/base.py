"""What all configuration models share: strict keys, frozen values, durations."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
)

from slobench.errors import ConfigError
from slobench.units import format_duration_ns, parse_duration_ns


class Model(BaseModel):
    """A frozen configuration value; an unknown key is an error. A key that is a word of Python has a field `word_`."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, serialize_by_alias=True, validate_by_name=True
    )


def _duration_ns(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("expected a duration such as 500ms, 30s, 2m")  # noqa: TRY004 (pydantic takes no TypeError)
    try:
        return parse_duration_ns(value)
    except ConfigError as error:
        raise ValueError(str(error)) from None


DurationNs = Annotated[
    int,
    BeforeValidator(_duration_ns),
    # A bare number would be read back as seconds: in JSON and YAML a duration is text.
    PlainSerializer(format_duration_ns, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^[0-9.]+(e[+-]?[0-9]+)?\s*(ns|us|ms|s|m|min|h)?$"},
                {"type": "number"},
            ],
            "description": "A duration: 500ms, 30s, 2m; a bare number is seconds.",
        }
    ),
]
PositiveDurationNs = Annotated[DurationNs, Field(gt=0)]


def beside(name: str, info: ValidationInfo) -> str:
    """Path of a file that a configuration names: relative to the folder in the validation's context, or as it is."""
    folder = (info.context or {}).get("folder")
    found = str(Path(folder, name) if folder is not None else Path(name))
    return found if os.path.exists(found) else name  # noqa: PTH110 (Path.exists raises for a name too long)


FileName = Annotated[str, AfterValidator(beside)]
"""A file or folder, relative to the configuration file that names it, else to the working directory."""
