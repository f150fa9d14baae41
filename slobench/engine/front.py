"""The OpenAI-compatible front of the simulated server: which path does what."""

from __future__ import annotations

import time

import orjson

from slobench import __version__
from slobench.engine.ask import Limits, RefusedError, parse
from slobench.engine.exposition import ServerMetrics
from slobench.engine.http import HttpConnection, Message
from slobench.engine.model import EngineCore, Request
from slobench.engine.prompts import Vocabulary, block_hashes
from slobench.engine.reply import Reply
from slobench.engine.serving import Live, Serving

_GENERATE = {"/v1/completions": False, "/v1/chat/completions": True}  # whether it is a chat
_PAGES = ("/health", "/ping", "/version", "/v1/models", "/metrics")


class Front:
    """Answers requests; those for tokens when the engine gives them."""

    def __init__(self, core: EngineCore, serving: Serving, metrics: ServerMetrics) -> None:
        self._core = core
        self._serving = serving
        self._metrics = metrics
        self._limits = Limits(metrics.model, core.max_model_len, core.spec.vocab)
        self._words = Vocabulary.below(core.spec.vocab)
        self._created = int(time.time())
        self._live: dict[HttpConnection, Live] = {}
        self._arrivals = 0

    def handle(self, connection: HttpConnection, message: Message) -> None:
        """Answer one request, or hand it to the engine."""
        chat = _GENERATE.get(message.path)
        if chat is None and message.path not in _PAGES:
            _refuse(connection, 404, "Not Found")
        elif message.method != ("GET" if chat is None else "POST"):
            _refuse(connection, 405, "Method Not Allowed")
        elif chat is None:
            self._page(connection, message.path)
        else:
            self._generate(connection, message, chat=chat)

    def lost(self, connection: HttpConnection) -> None:
        """Take the request of a client that is gone out of the engine."""
        live = self._live.pop(connection, None)
        if live is not None:
            self._serving.abort(live)

    def done(self, connection: HttpConnection) -> None:
        """Forget a request whose reply is written."""
        self._live.pop(connection, None)

    def _generate(self, connection: HttpConnection, message: Message, *, chat: bool) -> None:
        try:
            ask = parse(message.body, self._limits, chat=chat)
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
        name = (f"{'chatcmpl' if chat else 'cmpl'}-{self._arrivals}", self._limits.model, self._created)
        live = Live(
            request,
            Reply(connection, ask, name, self._words),
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
        model = {
            "id": self._limits.model,
            "object": "model",
            "created": self._created,
            "owned_by": "slobench",
            "max_model_len": self._limits.max_model_len,
        }
        return orjson.dumps({"object": "list", "data": [model]})


def _refuse(connection: HttpConnection, status: int, message: str) -> None:
    kind = "NotFoundError" if status == 404 else "BadRequestError"
    error = {"message": message, "type": kind, "param": None, "code": status}
    connection.respond(status, orjson.dumps({"error": error}))
