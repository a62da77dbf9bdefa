"""A loopback server that speaks chat completions and messages, with named misbehaviours.

Tests queue what it answers next, or give a function of the request, and read what it was sent.
What a `Say.style` does to the stream is in `wire_formats.py`.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.agents.wire_formats import Say, chat, messages, tool_reply

__all__ = ["ModelServer", "Say", "model_server"]


@dataclass
class ModelServer:
    """What to say next, and what was asked."""

    url: str
    answers: list[Say] = field(default_factory=list)
    reply: Callable[[dict[str, Any]], Say] | None = None
    """Answers instead of the queue."""
    models: dict[str, dict[str, Any]] | None = None
    """What the list of models says, by name; None: there is no list."""
    refuses: tuple[str, ...] = ()
    """Fields of a request that are answered with 400."""
    is_one_at_a_time: bool = False
    requests: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    most_at_once: int = 0
    _at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def say(self, *answers: str | Say) -> None:
        self.answers += [Say(text=a) if isinstance(a, str) else a for a in answers]

    def forget(self) -> None:
        """Be as new, at the same address."""
        for known in (self.answers, self.requests, self.paths, self.headers):
            known.clear()
        self.reply, self.models, self.refuses = None, None, ()
        self.is_one_at_a_time, self.most_at_once = False, 0

    def next(self, request: dict[str, Any]) -> Say:
        """Return what is said to a request."""
        for name in self.refuses:
            if name in request:
                return Say(text=f"unknown field {name}", status=400)
        if self.reply is not None:
            return self.reply(request)
        with self._lock:
            # The last answer is repeated, so that retries meet the same misbehaviour.
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Count the requests in flight; in a queue where only one is answered at a time."""
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            if self.is_one_at_a_time:
                with self._turn:
                    yield
            else:
                yield
        finally:
            with self._lock:
                self._at_once -= 1


@contextmanager
def model_server() -> Iterator[ModelServer]:
    server = ModelServer(url="")
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"model": server}))
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


class _Handler(BaseHTTPRequestHandler):
    model: ModelServer

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        request = json.loads(self.rfile.read(length))
        self.model.requests.append(request)
        self.model.paths.append(self.path)
        self.model.headers.append({k.lower(): v for k, v in self.headers.items()})
        with self.model.serving():
            say = self.model.next(request)
            self.model.stop.wait(say.silence_s)
            self._answer(say, request)

    def do_GET(self) -> None:
        known = self.model.models
        name = self.path.rpartition("/models/")[2] if "/models/" in self.path else ""
        if known is None or (name and name not in known):
            self._plain(Say(text="no such thing", status=404))
            return
        listed = [
            {"id": key, "object": "model", "created": 1, "owned_by": "x", **value}
            for key, value in known.items()
        ]
        body = json.dumps(
            {
                "type": "model",
                "display_name": name,
                "created_at": "2026-01-01T00:00:00Z",
                "lifecycle": "active",
                "id": name,
                **known[name],
            }
            if name
            else {"object": "list", "data": listed}
        )
        self._send(200, "application/json", body.encode())

    def _answer(self, say: Say, request: dict[str, Any]) -> None:
        is_chat = self.path.endswith("/chat/completions")
        if say.body is not None or say.status != 200:
            self._plain(say)
        elif not request.get("stream"):
            body = json.dumps(tool_reply(say, is_chat=is_chat))
            self._send(200, "application/json", body.encode())
        elif say.style == "keep_alive":
            self._keep_alive(is_chat=is_chat)
        else:
            events = chat(say) if is_chat else messages(say)
            self._send(200, "text/event-stream", "".join(events).encode())

    def _keep_alive(self, *, is_chat: bool) -> None:
        """Send what keeps a connection open and says nothing, until the client has gone."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        sign = b": still here\n\n" if is_chat else b'event: ping\ndata: {"type": "ping"}\n\n'
        try:
            while not self.model.stop.wait(0.02):
                self.wfile.write(sign)
        except OSError:
            pass  # the client gave up, as it should

    def _plain(self, say: Say) -> None:
        told = say.text
        if say.style == "echo_key":
            told = f"{self.headers.get('Authorization')} {self.headers.get('X-Api-Key')}"
        error = {"type": "error", "error": {"type": "x", "message": told, "code": None}}
        body = say.body if say.body is not None else json.dumps(error).encode()
        self._send(say.status, "application/json", body, say.headers)

    def _send(
        self, status: int, kind: str, body: bytes, more: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (more or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep test output clean."""
