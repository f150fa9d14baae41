"""API keys from the environment or a file: read when a run starts, kept out of every file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from slobench.config.problems import clip
from slobench.config.target import Talk
from slobench.errors import ConfigError


def resolve_secrets(talk: Talk, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the headers to send, the API key's among them; a ConfigError never shows the key."""
    environ = os.environ if environ is None else environ
    if talk.api_key_env is not None:
        key, place = environ.get(talk.api_key_env, ""), f"environment variable {clip(talk.api_key_env)}"
        if not key.strip():
            raise ConfigError(
                f"talk.api_key_env: {place} is {'empty' if talk.api_key_env in environ else 'not set'}\n"
                f"  expected  the API key in it, e.g. export {talk.api_key_env}=..."
            )
    elif talk.api_key_file is not None:
        key, place = _read(Path(talk.api_key_file).expanduser()), f"file {clip(talk.api_key_file)}"
        if not key.strip():
            raise ConfigError(f"talk.api_key_file: {place} is empty\n  expected  the API key on its only line")
    else:
        return dict(talk.headers)
    if not re.fullmatch(r"[\x21-\x7e]+", key.strip()):
        raise ConfigError(f"the API key in {place} cannot be sent\n  expected  one line of ASCII without spaces")
    if any(name.lower() == "authorization" for name in talk.headers):
        raise ConfigError(f"two API keys: {place}, and a header `authorization`\n  expected  one of them")
    return {**talk.headers, "Authorization": f"Bearer {key.strip()}"}


def _read(path: Path) -> str:
    try:
        return path.read_bytes()[:65536].decode("ascii", errors="replace")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no file name"
        raise ConfigError(
            f"talk.api_key_file: cannot read {clip(str(path))}: {reason}\n  expected  a file with the key"
        ) from None
