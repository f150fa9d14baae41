"""What all configuration models share: strict keys, frozen values, durations."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

from slobench.errors import ConfigError
from slobench.units import format_duration_ns, parse_duration_ns


class Model(BaseModel):
    """A frozen configuration value; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


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
