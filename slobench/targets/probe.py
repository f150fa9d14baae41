"""What a running server says of itself: its models, their context, its version, the token ids it takes."""

from __future__ import annotations

import http.client
import re
from dataclasses import dataclass
from typing import Any

from slobench.config.target import Talk
from slobench.errors import ConfigError, TargetStartError
from slobench.targets.base import Found
from slobench.targets.http import Answer, Server, not_reached

_VERSION = re.compile(r"\d+\.\d+\S*")


@dataclass(frozen=True, slots=True)
class Probed:
    """What was found, and the same for run.json."""

    found: Found
    observed: dict[str, object]


def ask(server: Server, path: str) -> Answer:
    """GET a path. Raises TargetStartError with the root cause where no reply comes."""
    try:
        return server.get(path)
    except (OSError, http.client.HTTPException) as error:
        raise not_reached(server.url, error) from None


def probe(server: Server, talk: Talk, *, own: bool) -> Probed:
    """Ask who answers. `own`: a server that we started, whose list of models is complete.

    Generates nothing, save one token where token ids are to be sent.
    Raises TargetStartError where it cannot be reached or refuses, ConfigError where the settings do not fit it.
    """
    models = _models(server)
    version = _version(server)
    model = _choose(talk, models, complete=own or version is not None)
    entry = next((entry for entry in models if entry["id"] == model), {})
    length = entry.get("max_model_len")
    observed: dict[str, object] = {"url": server.url, "model": model, "models": [entry["id"] for entry in models]}
    if isinstance(length, int):
        observed["max_model_len"] = length
    if version is not None:
        observed["version"] = version
    if models and not entry:
        observed["note"] = f"{model} is not in the server's list of models"
    if talk.token_ids is not None:
        _try_token_ids(server, talk, model)
        observed["probe_requests"] = 1  # the server's own request counter includes it
    # A version that reads like vLLM's means a server that honours ignore_eos; a setting by hand stands above it.
    forces = version is not None and "forces_length" not in talk.model_fields_set
    return Probed(Found(server.url, model, length if isinstance(length, int) else None, forces), observed)


def _models(server: Server) -> list[dict[str, Any]]:
    answer = ask(server, "/v1/models")
    if answer.status in (401, 403):
        raise ConfigError(
            f"{server.url} refuses without a valid key (HTTP {answer.status})\n"
            "  expected  --api-key-env NAME, or talk.api_key_env in the target"
        )
    if answer.status >= 500:
        raise TargetStartError(f"{server.url}/v1/models: HTTP {answer.status}\n  it said  {answer.text()}")
    listed = answer.json() if answer.status == 200 else None
    data = listed.get("data") if isinstance(listed, dict) else None
    entries = data if isinstance(data, list) else []
    return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]


def _version(server: Server) -> str | None:
    answer = ask(server, "/version")
    said = answer.json() if answer.status == 200 else None
    version = said.get("version") if isinstance(said, dict) else None
    return version if isinstance(version, str) and _VERSION.match(version) else None


def _choose(talk: Talk, models: list[dict[str, Any]], *, complete: bool) -> str:
    names: list[str] = [entry["id"] for entry in models]
    if talk.model is None:
        if not names:
            raise ConfigError(
                "the server does not list its models\n  expected  --model NAME, or talk.model in the target"
            )
        return names[0]
    if complete and names and talk.model not in names:
        raise ConfigError(f"the server has no model {talk.model!r}\n  it serves  {', '.join(names[:8])}")
    return talk.model


def _try_token_ids(server: Server, talk: Talk, model: str) -> None:
    assert talk.token_ids is not None
    low, high = talk.token_ids
    embeds = talk.api == "embeddings"
    path = "/v1/embeddings" if embeds else "/v1/completions"
    least: dict[str, object] = {"input": [low, high - 1]} if embeds else {"prompt": [low, high - 1], "max_tokens": 1}
    try:
        answer = server.post(path, {**talk.extra_body, "model": model, **least})
    except (OSError, http.client.HTTPException) as error:
        raise not_reached(server.url, error) from None
    if answer.status in (400, 422):
        raise ConfigError(
            f"the server does not take token ids from talk.token_ids: [{low}, {high})\n"
            f"  it said   {answer.text()}\n"
            "  expected  a range inside the model's vocabulary, or `token_ids: null` for prompts as text"
        )
    if answer.status != 200:
        raise TargetStartError(
            f"a first request of one token failed: HTTP {answer.status} from {server.url}{path}\n"
            f"  it said  {answer.text()}"
        )
