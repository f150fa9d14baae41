"""What the flags of `run` say of the target: laid over its file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from slobench.config.load import AnyTarget, Loaded, check_target, given_again, put
from slobench.config.problems import clip
from slobench.config.wire import TAKES_IDS
from slobench.errors import UsageError

_TIMEOUTS = ("connect", "first_token", "idle", "total")


@dataclass(frozen=True, slots=True)
class TalkFlags:
    """None and () = not given. `headers`: "Name: value"; `timeouts`: "120s" or "idle=5s"."""

    model: str | None = None
    api: str | None = None
    api_key_env: str | None = None
    ignore_eos: bool | None = None
    insecure: bool = False
    ca_bundle: str | None = None
    headers: Sequence[str] = ()
    timeouts: Sequence[str] = ()


def apply_talk_flags(loaded: Loaded[AnyTarget], flags: TalkFlags) -> Loaded[AnyTarget]:
    """Let flags override the `talk` section of a target; UsageError or ConfigError for what cannot be read."""
    if flags == TalkFlags():
        return loaded
    given = given_again(loaded)
    told: list[tuple[tuple[str, ...], Any, str]] = [
        (("model",), flags.model, "--model"),
        (("api",), flags.api, "--api"),
        (("api_key_env",), flags.api_key_env, "--api-key-env"),
        (("forces_length",), flags.ignore_eos, "--ignore-eos" if flags.ignore_eos else "--no-ignore-eos"),
        (("insecure",), flags.insecure or None, "--insecure"),
        (("ca_bundle",), flags.ca_bundle, "--ca-bundle"),
    ]
    if flags.api is not None and flags.api not in TAKES_IDS and loaded.value.talk.token_ids is not None:
        given = put(given, ("talk", "token_ids"), None, "--api")
    if flags.api_key_env is not None:
        given = put(given, ("talk", "api_key_file"), None, "--api-key-env")
    told += [(("headers", name), value, "--header") for name, value in map(_header, flags.headers)]
    told += [(("timeouts", name), value, "--timeout") for name, value in map(_timeout, flags.timeouts)]
    for path, value, place in told:
        if value is not None:
            given = put(given, ("talk", *path), value, place)
    checked = check_target(given, "flags", loaded.path)
    return replace(checked, notes=loaded.notes)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        # The text may hold a secret: only what stands before the colon is shown.
        raise UsageError("cannot read a --header\n  expected  'Name: value', e.g. --header 'x-tenant: blue'")
    return name.strip(), value.strip()


def _timeout(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        return "total", text
    key = name.strip().replace("-", "_")
    if key not in _TIMEOUTS:
        choices = ", ".join(f"{each}=5s" for each in _TIMEOUTS)
        raise UsageError(f"cannot read --timeout {clip(text)}\n  expected  120s (total), or {choices}")
    return key, value
