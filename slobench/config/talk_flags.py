"""The flags of `run` that say how to talk to a target, over the target's own settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from slobench.config.document import KeyPath, shown
from slobench.config.load import AnyTarget, Loaded, check_target, given_again, put
from slobench.config.problems import clip
from slobench.config.target import Timeouts
from slobench.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TalkFlags:
    """What the flags say of the target; None and () = not given.

    `headers`: "name: value"; `timeouts`: "60s" (the total) or "first_token=5s".
    """

    model: str | None = None
    api: str | None = None
    headers: Sequence[str] = ()
    api_key_env: str | None = None
    timeouts: Sequence[str] = ()
    ignore_eos: bool | None = None
    insecure: bool = False
    ca_bundle: str | None = None


def apply_talk_flags(loaded: Loaded[AnyTarget], flags: TalkFlags) -> Loaded[AnyTarget]:
    """Let flags override a target's `talk`; --api chat sends prompts as text, whatever the file says of ids."""
    if flags == TalkFlags():
        return loaded
    given = given_again(loaded)
    values: dict[KeyPath, tuple[object, str]] = {
        ("model",): (flags.model, "--model"),
        ("api",): (flags.api, "--api"),
        ("api_key_env",): (flags.api_key_env, "--api-key-env"),
        ("forces_length",): (flags.ignore_eos, "--ignore-eos" if flags.ignore_eos else "--no-ignore-eos"),
        ("insecure",): (flags.insecure or None, "--insecure"),
        ("ca_bundle",): (flags.ca_bundle, "--ca-bundle"),
    }
    for text in flags.headers:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise ConfigError(f"--header: cannot read {clip(name)}\n  expected  --header 'NAME: VALUE'")
        values["headers", name.strip()] = (value.strip(), "--header")
    for text in flags.timeouts:
        name, equals, duration = text.rpartition("=")
        which = name.strip() if equals else "total"
        if which not in Timeouts.model_fields:
            raise ConfigError(
                f"--timeout: cannot read {clip(text)}\n  expected  60s, or one of "
                + ", ".join(f"{each}=60s" for each in Timeouts.model_fields)
            )
        values["timeouts", which] = (duration.strip(), "--timeout")
    if flags.api is not None and flags.api != "completions":
        given = put(given, ("talk", "token_ids"), None, "--api")
    if flags.api_key_env is not None:
        given = put(given, ("talk", "api_key_file"), None, "--api-key-env")
    for path, (value, place) in values.items():
        if value is not None:
            given = put(given, ("talk", *path), value, place)
    checked = check_target(given, shown(loaded.path) if loaded.path else "--target", loaded.path)
    return replace(checked, notes=loaded.notes)
