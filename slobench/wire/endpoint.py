"""Where requests go and how they are worded; knows no socket."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

import orjson

from slobench import __version__
from slobench.errors import ConfigError
from slobench.names import Api


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server as the generator sees it: everything needed to word and send a request.

    `headers` may hold secrets: never stored, logged or put in an argument vector.
    Timeouts in ns, None = none.
    """

    url: str  # scheme://host[:port][/prefix], no /v1
    model: str
    api: Api = "completions"
    stream: bool = True
    transport: Literal["fast", "aiohttp"] = "fast"
    receiver: Literal["auto", "native", "python"] = "auto"
    connection: Literal["pooled", "per-request", "per-session"] = "pooled"
    proxy: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    insecure: bool = False
    ca_bundle: str | None = None
    connect_timeout_ns: int | None = 10 * 10**9
    first_token_timeout_ns: int | None = None
    idle_timeout_ns: int | None = None
    total_timeout_ns: int = 120 * 10**9
    token_ids: tuple[int, int] | None = None
    forces_length: bool = False
    per_event_usage: bool = False
    return_token_ids: bool = False
    cache_salt: bool = False
    extra_body: Mapping[str, object] = field(default_factory=dict)
    max_model_len: int | None = None


_OWN_HEADERS = frozenset(
    {"accept-encoding", "connection", "content-length", "expect", "te", "trailer", "transfer-encoding", "upgrade"}
    | {"x-request-id"}
)
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 §5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 §5.5: no CR, LF, NUL or other control
_COUNT = "{output_tokens}"


@dataclass(frozen=True, slots=True)
class _Call:
    """How the requests of an API are worded."""

    path: str  # after /v1/
    before: bytes  # the prompt's JSON value
    after: bytes = b""
    length: str | None = None  # the field that bounds the output; None: there is no output to bound


_CALLS: Mapping[Api, _Call] = {
    "completions": _Call("completions", b',"prompt":', length="max_tokens"),
    "chat": _Call("chat/completions", b',"messages":[{"role":"user","content":', b"}]", length="max_completion_tokens"),
    "responses": _Call("responses", b',"input":', length="max_output_tokens"),
    "embeddings": _Call("embeddings", b',"input":'),
}


def request_path(endpoint: Endpoint) -> str:
    """Path of the generating call, the URL's own prefix kept."""
    prefix = urlsplit(endpoint.url).path.rstrip("/")
    path = f"{prefix}/v1/{_CALLS[endpoint.api].path}"
    if not path.isascii() or any(c <= " " or c == "\x7f" for c in path):
        raise ConfigError(f"cannot use URL {endpoint.url!r}\n  expected  a path of printable ASCII, %-escaped")
    return path


def request_headers(endpoint: Endpoint) -> dict[str, str]:
    """Headers that every request carries, names in lower case; the endpoint's own win over defaults.

    Without host, content-length and x-request-id, which belong to the transport. Raises ConfigError for a header
    that is not one line of text, or that would change how a reply is framed.
    """
    headers = {
        "accept": "text/event-stream" if endpoint.stream else "application/json",
        "accept-encoding": "identity",  # a compressed stream arrives in the compressor's blocks, not in tokens
        "content-type": "application/json",
        "user-agent": f"slobench/{__version__}",
    }
    for name, value in endpoint.headers.items():
        key = name.lower()
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            # The value may be a secret: it is never shown.
            raise ConfigError(
                f"cannot send header {name!r}\n  expected  a name such as x-tenant, and a value of one line in Latin-1"
            )
        if key in _OWN_HEADERS:
            raise ConfigError(
                f"cannot send header {name!r}\n"
                f"  expected  none of {', '.join(sorted(_OWN_HEADERS))}: they are set by slobench"
            )
        headers[key] = value.strip(" \t")
    return headers


def request_head(endpoint: Endpoint, host: str | None = None) -> bytes:
    """Render the request line and the static header lines, each ended by CRLF; the blank line is the transport's.

    host: value of the Host header; None: that of the URL.
    """
    headers = request_headers(endpoint)
    lines = [
        f"POST {request_path(endpoint)} HTTP/1.1",
        f"host: {headers.pop('host', host or _host(endpoint.url))}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


def _host(url: str) -> str:
    netloc = urlsplit(url).netloc.rpartition("@")[2]
    if not netloc or not _VALUE.fullmatch(netloc):
        raise ConfigError(f"cannot use URL {url!r}\n  expected  e.g. http://localhost:8000")
    return netloc.encode("idna").decode() if not netloc.isascii() else netloc


class BodyTemplate:
    """Request bodies of one endpoint, rendered once around what varies.

    extra_body wins over our own fields; a null removes the field, and the text "{output_tokens}" becomes the
    request's number of output tokens, so a chat server that knows only the older field takes
    `extra_body: {max_completion_tokens: null, max_tokens: "{output_tokens}"}`.
    The prompt, the priority and `stream` cannot be replaced that way: ConfigError.
    """

    __slots__ = ("_after", "_before", "_counts", "_n_counts")

    def __init__(self, endpoint: Endpoint, nonce: str) -> None:
        taken = sorted({"prompt", "messages", "input", "priority", "stream"} & endpoint.extra_body.keys())
        if taken:
            raise ConfigError(
                f"extra_body cannot set {', '.join(taken)}\n"
                "  expected  prompt and priority from the workload, stream from `talk.stream`"
            )
        fields = _own_fields(endpoint, nonce) | dict(endpoint.extra_body)
        counted = [name for name, value in fields.items() if value == _COUNT]
        fixed = {name: value for name, value in fields.items() if value is not None and value != _COUNT}
        call = _CALLS[endpoint.api]
        self._before = _dumps(fixed)[:-1] + call.before
        self._after = call.after
        self._counts = b"".join(b",%b:%%d" % _dumps(name).replace(b"%", b"%%") for name in counted)
        self._n_counts = len(counted)

    def body(self, prompt_json: bytes, output_tokens: int, priority: int | None) -> bytes:
        """One body; `prompt_json` is the JSON value of the prompt, as PromptMaker makes it."""
        counts = self._counts % ((output_tokens,) * self._n_counts)
        last = b"}" if priority is None else b',"priority":%d}' % priority
        return b"".join((self._before, prompt_json, self._after, counts, last))


def _own_fields(endpoint: Endpoint, nonce: str) -> dict[str, object]:
    """Body fields by name, without prompt and priority.

    Chat: `max_completion_tokens` alone. OpenAI refuses it beside the deprecated `max_tokens`; vLLM takes both.
    `ignore_eos` without `min_tokens`: vLLM then ignores every end token, and min_tokens would only add a mask over
    the logits of each step, work that the server is not to be measured with.
    Responses: usage comes with the last event unasked for; `store: false`, or OpenAI keeps every reply for a month.
    """
    length = _CALLS[endpoint.api].length
    fields: dict[str, object] = {"model": endpoint.model}
    if length is not None:
        fields |= {"stream": endpoint.stream, length: _COUNT}
    if endpoint.api == "responses":
        fields["store"] = False
    elif endpoint.stream and length is not None:
        fields["stream_options"] = {"include_usage": True} | (
            {"continuous_usage_stats": True} if endpoint.per_event_usage else {}
        )
    if endpoint.forces_length and length is not None:
        fields["ignore_eos"] = True
    if endpoint.return_token_ids and endpoint.api in {"completions", "chat"}:
        fields["return_token_ids"] = True
    if endpoint.cache_salt:
        fields["cache_salt"] = nonce
    return fields


def _dumps(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except (orjson.JSONEncodeError, TypeError) as error:
        raise ConfigError(f"cannot write extra_body as JSON: {error}\n  expected  text, numbers, lists, maps") from None
