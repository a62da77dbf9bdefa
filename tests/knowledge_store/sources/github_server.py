"""A loopback server with the shape of GitHub's REST interface: pages, tags, limits and faults."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

RESET = 2_000_000_000


@dataclass
class Hub:
    """What the server serves, and what was asked of it."""

    repo: str = "owner/name"
    licence: str = "MIT"
    pulls: dict[int, dict[str, Any]] = field(default_factory=dict)
    diffs: dict[int, bytes] = field(default_factory=dict)
    page_size: int = 100
    faults: list[str] = field(default_factory=list)
    """Taken one a request, first to last; an empty one lets the request through."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """(path with query, Authorization)."""
    too_large: set[int] = field(default_factory=set)
    renamed_from: str = ""
    base_url: str = ""

    def add(self, number: int, diff: bytes, **changes) -> None:
        day = f"2026-01-{number % 28 + 1:02d}"
        self.pulls[number] = {
            "number": number,
            "title": f"Change {number}",
            "body": "Faster.",
            "html_url": f"https://github.com/{self.repo}/pull/{number}",
            "user": {"login": "someone"},
            "labels": [{"name": "perf"}],
            "merged_at": f"{day}T10:00:00Z",
            "updated_at": f"{day}T12:{number % 60:02d}:00Z",
            "merge_commit_sha": f"{number:040x}",
            "base": {"ref": "main"},
            **changes,
        }
        self.diffs[number] = diff

    def asked(self, part: str) -> int:
        """Count the requests whose path holds a text."""
        return sum(part in path for path, _ in self.requests)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *arguments) -> None:
        pass

    def do_GET(self) -> None:
        hub = self.hub
        hub.requests.append((self.path, self.headers.get("Authorization", "")))
        fault = hub.faults.pop(0) if hub.faults else ""
        if fault:
            self._fail(fault)
            return
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if hub.renamed_from and parts.path.startswith(f"/repos/{hub.renamed_from}"):
            to = self.path.replace(hub.renamed_from, hub.repo, 1)
            self._send(301, b"", {"Location": f"{hub.base_url}{to}"})
        elif parts.path == f"/repos/{hub.repo}":
            self._json({"full_name": hub.repo, "license": {"spdx_id": hub.licence}})
        elif parts.path == f"/repos/{hub.repo}/pulls":
            pulls = sorted(hub.pulls.values(), key=lambda pull: pull["updated_at"], reverse=True)
            self._page(pulls, query, parts.path)
        elif parts.path.startswith(f"/repos/{hub.repo}/pulls/"):
            self._pull(parts.path.removeprefix(f"/repos/{hub.repo}/pulls/"), query)
        else:
            self._send(404, b"{}")

    def _pull(self, rest: str, query: dict[str, str]) -> None:
        hub, number = self.hub, int(rest.partition("/")[0])
        if rest.endswith("/files"):
            files = [
                {
                    "filename": f"csrc/part{n}.cu",
                    "status": "added",
                    "patch": f"@@ -0,0 +1 @@\n+p{n}",
                }
                for n in range(3)
            ]
            files.append({"filename": "a.png", "status": "modified"})
            files.append({"filename": "b.cu", "status": "renamed", "previous_filename": "c.cu"})
            self._page(files, query, f"/repos/{hub.repo}/pulls/{rest}")
        elif number in hub.too_large:
            self._send(406, b'{"message": "diff exceeded the maximum number of lines"}')
        elif number in hub.diffs and "diff" in self.headers.get("Accept", ""):
            self._send(200, hub.diffs[number])
        else:
            self._send(404, b"{}")

    def _page(self, values: list[Any], query: dict[str, str], path: str) -> None:
        size = min(self.hub.page_size, int(query.get("per_page", "30")))
        page = int(query.get("page", "1"))
        query = {**query, "page": str(page + 1)}
        headers = {}
        if page * size < len(values):
            following = "&".join(f"{name}={value}" for name, value in query.items())
            headers["Link"] = f'<{self.hub.base_url}{path}?{following}>; rel="next"'
        self._json(values[(page - 1) * size : page * size], headers)

    def _json(self, value: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        tag = f'W/"{hashlib.sha256(body).hexdigest()[:16]}"'
        if self.headers.get("If-None-Match") == tag:
            self._send(304, b"", {"ETag": tag})
        else:
            self._send(200, body, {**(headers or {}), "ETag": tag})

    def _fail(self, fault: str) -> None:
        if fault == "limit":
            spent = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(RESET)}
            self._send(403, b'{"message": "API rate limit exceeded"}', spent)
        elif fault == "secondary":
            self._send(403, b'{"message": "You have exceeded a secondary rate limit"}')
        elif fault == "retry-after":
            self._send(429, b"{}", {"Retry-After": "7"})
        elif fault == "forbidden":
            self._send(403, b'{"message": "Resource not accessible"}')
        elif fault == "cut":
            self._send(200, b'[{"number": 1, "ti', {"Content-Length": "4000"})
        elif fault == "no json":
            self._send(200, b'[{"number": 1, "ti')
        elif fault == "elsewhere":
            self._send(302, b"", {"Location": "http://localhost:1/repos"})
        elif fault == "link elsewhere":
            self._send(200, b"[]", {"Link": '<http://example.invalid/next>; rel="next"'})
        elif fault == "drop":
            self.close_connection = True
        else:
            self._send(int(fault), b"oops")

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {"Content-Length": str(len(body)), **(headers or {})}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def served(hub: Hub) -> Iterator[str]:
    """Serve a hub on a loopback port; yields its base URL."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.base_url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub.base_url
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
