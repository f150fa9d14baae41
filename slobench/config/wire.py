"""What a target and a class of requests both say of the wire: API, headers, further fields of the body."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from slobench.names import Api

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, token
_OURS = frozenset({"prompt", "messages", "input", "priority", "stream"})
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")  # no line end: it would start another header

TAKES_IDS: tuple[Api, ...] = ("completions", "embeddings")
"""APIs whose prompts may be token ids; the others take text."""


def _sendable(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value) or not value.isascii():
            # The value may be a secret: it is never shown.
            raise ValueError(f"header {name!r} cannot be sent: expected an HTTP name, and ASCII text on one line")
    return headers


def _of_others(fields: dict[str, object]) -> dict[str, object]:
    taken = sorted(_OURS & fields.keys())
    if taken:
        raise ValueError(
            f"cannot set {', '.join(taken)}: expected prompt and priority from the workload, stream from `talk.stream`"
        )
    return fields


Headers = Annotated[dict[str, str], AfterValidator(_sendable)]
ExtraBody = Annotated[dict[str, object], AfterValidator(_of_others)]
