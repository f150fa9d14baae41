"""The OpenAI-compatible front of the simulated server: which path does what."""

from __future__ import annotations

import time
from collections.abc import Mapping

import orjson

from slobench import __version__
from slobench.engine.ask import Limits, RefusedError, parse
from slobench.engine.exposition import ServerMetrics
from slobench.engine.http import HttpConnection, Message
from slobench.engine.model import EngineCore, Request
from slobench.engine.prompts import Vocabulary, block_hashes
from slobench.engine.reply import ChoiceReply, Name, Reply
from slobench.engine.reply_embeddings import EmbeddingReply
from slobench.engine.reply_responses import ResponsesReply
from slobench.engine.serving import Live, Serving
from slobench.names import Api

_CALLS: Mapping[str, Api] = {
    "/v1/completions": "completions",
    "/v1/chat/completions": "chat",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
}
_REPLIES: Mapping[Api, tuple[type[Reply], str]] = {  # and how its id begins
    "completions": (ChoiceReply, "cmpl"),
    "chat": (ChoiceReply, "chatcmpl"),
    "responses": (ResponsesReply, "resp"),
    "embeddings": (EmbeddingReply, "embd"),
}
_PAGES = ("/health", "/ping", "/version", "/v1/models", "/metrics")


class Front:
    """Answers requests; those for tokens when the engine gives them."""

    def __init__(self, core: EngineCore, serving: Serving, metrics: ServerMetrics) -> None:
        self._core = core
        self._serving = serving
        self._metrics = metrics
        self._limits = Limits((metrics.model, *core.spec.adapters), core.max_model_len, core.spec.vocab)
        self._words = Vocabulary.below(core.spec.vocab)
        self._created = int(time.time())
        self._live: dict[HttpConnection, Live] = {}
        self._arrivals = 0

    def handle(self, connection: HttpConnection, message: Message) -> None:
        """Answer one request, or hand it to the engine."""
        api = _CALLS.get(message.path)
        if (message.method, message.path) == ("POST", "/reset_prefix_cache"):
            self._core.kv.forget()
            connection.respond(200, b"", "text/plain")
        elif api is None and message.path not in _PAGES:
            _refuse(connection, 404, "Not Found")
        elif message.method != ("GET" if api is None else "POST"):
            _refuse(connection, 405, "Method Not Allowed")
        elif api is None:
            self._page(connection, message.path)
        else:
            self._generate(connection, message, api)

    def lost(self, connection: HttpConnection) -> None:
        """Take the request of a client that is gone out of the engine."""
        live = self._live.pop(connection, None)
        if live is not None:
            self._serving.abort(live)

    def done(self, connection: HttpConnection) -> None:
        """Forget a request whose reply is written."""
        self._live.pop(connection, None)

    def _generate(self, connection: HttpConnection, message: Message, api: Api) -> None:
        try:
            ask = parse(message.body, self._limits, api)
        except RefusedError as error:
            self._metrics.ended["error"] += 1
            _refuse(connection, error.status, str(error))
            return
        self._arrivals += 1
        spec = self._core.spec
        hashes: list[int] = []
        if spec.prefix_cache:
            # The reply is known beforehand, so that a later turn of a conversation finds it in the cache.
            reply = self._words.tokens(ask.start, ask.output_tokens, ids=isinstance(ask.prompt[0], int))
            hashes = block_hashes([*ask.prompt, *reply], spec.block_tokens, ask.cache_salt)
        request = Request(self._arrivals, len(ask.prompt), ask.output_tokens, ask.priority, hashes)
        kind, prefix = _REPLIES[api]
        name = Name(f"{prefix}-{self._arrivals}", ask.model, self._created)
        live = Live(
            request,
            kind(connection, ask, name, self._words),
            message.request_id or str(self._arrivals),
            message.received_ns,
        )
        request.client = live
        self._live[connection] = live
        live.reply.open()
        self._serving.submit(live)

    def _page(self, connection: HttpConnection, path: str) -> None:
        if path == "/metrics":
            exposition = self._metrics.render(self._core)
            connection.respond(200, exposition, "text/plain; version=0.0.4; charset=utf-8")
        elif path == "/v1/models":
            connection.respond(200, self._models())
        elif path == "/version":
            connection.respond(200, orjson.dumps({"version": __version__}))
        else:
            connection.respond(200, b"", "text/plain")

    def _models(self) -> bytes:
        base = self._limits.names[0]
        models = [
            {
                "id": name,
                "object": "model",
                "created": self._created,
                "owned_by": "slobench",
                "parent": None if name == base else base,
                "max_model_len": self._limits.max_model_len if name == base else None,
            }
            for name in self._limits.names
        ]
        return orjson.dumps({"object": "list", "data": models})


def _refuse(connection: HttpConnection, status: int, message: str) -> None:
    kind = "NotFoundError" if status == 404 else "BadRequestError"
    error = {"message": message, "type": kind, "param": None, "code": status}
    connection.respond(status, orjson.dumps({"error": error}))
