"""A small OpenAI-like server to probe; each path's answer is given as data."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answers = Mapping[str, tuple[int, Any]]

VLLM: Answers = {
    "/health": (200, ""),
    "/version": (200, {"version": "0.32.0"}),
    "/v1/models": (200, {"object": "list", "data": [{"id": "tiny", "max_model_len": 2048}, {"id": "other"}]}),
    "/v1/completions": (200, {"choices": [{"text": "a", "finish_reason": "length"}]}),
}


@contextmanager
def serving(answers: Answers) -> Iterator[tuple[str, list[tuple[str, Any, dict[str, str]]]]]:
    """Serve until the block ends; yields the URL, and the list that grows by (path, body, headers) a request."""
    seen: list[tuple[str, Any, dict[str, str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            size = int(self.headers.get("content-length", 0))
            body = json.loads(self.rfile.read(size)) if size else None
            seen.append((self.path, body, {name.lower(): value for name, value in self.headers.items()}))
            status, answer = answers.get(self.path, (404, {"error": "no such path"}))
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET  # noqa: N815 (the name http.server calls)

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", seen
        finally:
            server.shutdown()
            thread.join()
