"""Replies of the simulated server to /v1/embeddings: one vector when the step that reads the input has ended."""

from __future__ import annotations

import orjson

from slobench.engine.reply import Reply

_DIMENSIONS = 64


class EmbeddingReply(Reply):
    """A vector: the same one for the same body."""

    def last(self, cached_tokens: int) -> None:
        """Write the vector and the usage; the input's cached tokens are not told, as vLLM does not."""
        del cached_tokens
        start, n = self.ask.start, len(self.ask.prompt)
        vector = [(start * (k + 1) % 2001 - 1000) / 1000 for k in range(_DIMENSIONS)]
        reply = {
            "id": self._name.id,
            "object": "list",
            "created": self._name.created,
            "model": self._name.model,
            "data": [{"index": 0, "object": "embedding", "embedding": vector}],
            "usage": {"prompt_tokens": n, "total_tokens": n},
        }
        self.connection.respond(200, orjson.dumps(reply))
