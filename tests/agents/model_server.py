"""A loopback server that speaks chat completions and messages, with named misbehaviours.

Tests queue what it answers next and read what it was sent.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Say:
    """An answer: text, or a misbehaviour."""

    text: str = ""
    status: int = 200
    reason: str = "stop"
    """`stop`, `length`, or empty for a stream that just ends."""
    read: int = 11
    written: int = 7
    silence_s: float = 0.0
    body: bytes | None = None
    """Sent instead of an answer, as it is."""


@dataclass
class ModelServer:
    """What to say next, and what was asked."""

    url: str
    answers: list[Say] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def say(self, *answers: str | Say) -> None:
        self.answers += [Say(text=a) if isinstance(a, str) else a for a in answers]


@contextmanager
def model_server() -> Iterator[ModelServer]:
    server = ModelServer(url="")
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    server.url = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.stop.set()
        httpd.shutdown()
        thread.join()
        httpd.server_close()


def _handler(server: ModelServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            server.requests.append(json.loads(self.rfile.read(length)))
            server.paths.append(self.path)
            server.headers.append({k.lower(): v for k, v in self.headers.items()})
            # The last answer is repeated, so that retries meet the same misbehaviour.
            say = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
            server.stop.wait(say.silence_s)
            if say.body is not None or say.status != 200:
                self._plain(say)
                return
            events = _chat(say) if self.path.endswith("/chat/completions") else _messages(say)
            self._send(200, "text/event-stream", "".join(events).encode())

        def _plain(self, say: Say) -> None:
            error = {"type": "error", "error": {"type": "x", "message": say.text, "code": None}}
            self._send(say.status, "application/json", say.body or json.dumps(error).encode())

        def _send(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep test output clean."""

    return Handler


def _pieces(text: str) -> list[str]:
    return [text[i : i + 200] for i in range(0, len(text), 200)]


def _chat(say: Say) -> Iterator[str]:
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    for piece in _pieces(say.text):
        delta = {"index": 0, "delta": {"role": "assistant", "content": piece}}
        yield _event({**head, "choices": [{**delta, "finish_reason": None}]})
    if not say.reason:
        return
    yield _event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": say.reason}]})
    usage = {
        "prompt_tokens": say.read,
        "completion_tokens": say.written,
        "total_tokens": say.read + say.written,
    }
    yield _event({**head, "choices": [], "usage": usage})
    yield "data: [DONE]\n\n"


def _messages(say: Say) -> Iterator[str]:
    reason = {"stop": "end_turn", "length": "max_tokens"}.get(say.reason)
    message: dict[str, Any] = {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": say.read, "output_tokens": 0},
    }
    yield _named("message_start", {"message": message})
    block = {"index": 0, "content_block": {"type": "text", "text": ""}}
    yield _named("content_block_start", block)
    for piece in _pieces(say.text):
        delta = {"index": 0, "delta": {"type": "text_delta", "text": piece}}
        yield _named("content_block_delta", delta)
    if reason is None:
        return
    yield _named("content_block_stop", {"index": 0})
    end = {"delta": {"stop_reason": reason, "stop_sequence": None}}
    yield _named("message_delta", {**end, "usage": {"output_tokens": say.written}})
    yield _named("message_stop", {})


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value)}\n\n"


def _named(kind: str, value: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **value})}\n\n"
