"""A client of GitHub's REST interface: patient with limits and faults, bound to its host."""

import email.message
import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

from knowledge_store.errors import SourceError

BASE_URL = "https://api.github.com"
JSON = "application/vnd.github+json"
DIFF = "application/vnd.github.diff"

_MOST_JSON_BYTES = 64 * 1024 * 1024
_NEXT = re.compile(r'<([^>]+)>;\s*rel="next"')
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_SECONDARY_WAIT_S = 60.0
_BUSY = frozenset({500, 502, 503, 504})
_LIMITED = frozenset({403, 429})
_ANSWERS = frozenset({304, 404, 406, 410, 422, 451})
"""Statuses that callers understand beside success."""


class Limited(SourceError):
    """The forge serves no more for now; what was taken in stays, a later call goes on."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the forge said."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    is_cut: bool = False
    """Whether the body was longer than asked for."""


@dataclass(slots=True)
class Forge:
    """The interface at a base URL."""

    token: str = ""
    """Sent to the base URL's host only."""
    base_url: str = BASE_URL
    most_wait_s: float = 900.0
    """For all limits and faults of one request; a longer one ends as Limited."""
    timeout_s: float = 60.0
    attempts: int = 5
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.time
    requests: int = 0
    _opener: urllib.request.OpenerDirector = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse what would send a token in the clear."""
        parts = urlsplit(self.base_url)
        is_loopback = parts.hostname in _LOOPBACK
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback):
            raise SourceError(f"{self.base_url} is not an https URL")
        proxies = urllib.request.ProxyHandler({} if is_loopback else None)
        self._opener = urllib.request.build_opener(proxies, _SameHost())

    def json(self, path: str) -> Any:
        """Return what a path answers as JSON.

        Raises:
            SourceError: it does not exist, may not be read, or keeps failing.
            Limited: the rate limit ends later than this client waits.
        """
        answer, value = self._json(path, etag="")
        if answer.status != http.HTTPStatus.OK:
            raise SourceError(
                f"{self.base_url}{path}: {answer.status}; does it exist, and may the token read it?"
            )
        return value

    def pages(self, path: str, *, etag: str = "") -> Iterator[tuple[Answer, list[Any]]]:
        """Yield the pages of a list as their `Link` headers lead.

        Args:
            path: of the first page.
            etag: of the first page as it was met before; nothing is yielded where it still holds.
        """
        following = path
        while following:
            answer, value = self._json(following, etag=etag)
            if answer.status == http.HTTPStatus.NOT_MODIFIED:
                return
            if answer.status != http.HTTPStatus.OK or not isinstance(value, list):
                raise SourceError(f"{self.base_url}{following}: {answer.status}, and no list")
            yield answer, value
            link = _NEXT.search(answer.headers.get("link", ""))
            following, etag = (self._own(link[1]), "") if link else ("", "")

    def fetch(self, path: str, *, accept: str, etag: str = "", most: int) -> Answer:
        """Return an answer of at most some bytes; waits for limits, repeats what failed.

        Raises:
            SourceError: it keeps failing, or is forbidden.
            Limited: the rate limit ends later than this client waits.
        """
        return self._fetch(path, accept, etag, most, lambda _body: None)[0]

    def _json(self, path: str, *, etag: str) -> tuple[Answer, Any]:
        return self._fetch(path, JSON, etag, _MOST_JSON_BYTES, json.loads)

    def _fetch(
        self, path: str, accept: str, etag: str, most: int, decode: Callable[[bytes], Any]
    ) -> tuple[Answer, Any]:
        waited = 0.0
        fault = ""
        for attempt in range(self.attempts):
            if attempt:
                wait = self._wait_s(fault, attempt)
                waited += wait
                if waited > self.most_wait_s:
                    until = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(self.now() + wait))
                    raise Limited(
                        f"{self.base_url}: {fault.partition('|')[0]}; go on after {until}"
                    )
                self.sleep(wait)
            try:
                answer = self._once(path, accept, etag, most)
            except (OSError, http.client.HTTPException) as error:
                fault = f"{type(error).__name__} {error}"
                continue
            if answer.status in _LIMITED and (limit := _limit_s(answer, self.now())) is not None:
                fault = f"rate limit|{limit}"
            elif answer.status in _BUSY:
                fault = f"status {answer.status}"
            elif answer.status != http.HTTPStatus.OK and answer.status not in _ANSWERS:
                raise SourceError(
                    f"{self.base_url}{path}: {answer.status}; check the token and its rights"
                )
            elif answer.status != http.HTTPStatus.OK:
                return answer, None
            else:
                try:
                    return answer, decode(answer.body)
                except (ValueError, RecursionError):
                    fault = "an answer that is cut off or no JSON"
        raise SourceError(f"{self.base_url}{path}: {fault}, {self.attempts} times; try again later")

    def _wait_s(self, fault: str, attempt: int) -> float:
        _, is_limit, limit = fault.partition("|")
        return float(limit) if is_limit else float(2 ** (attempt - 1))

    def _once(self, path: str, accept: str, etag: str, most: int) -> Answer:
        request = urllib.request.Request(self.base_url + path)  # noqa: S310 - checked on entry
        request.add_header("Accept", accept)
        request.add_header("User-Agent", "kernelpilot")
        request.add_header("X-GitHub-Api-Version", "2022-11-28")
        if etag:
            request.add_header("If-None-Match", etag)
        if self.token:
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        self.requests += 1
        try:
            with self._opener.open(request, timeout=self.timeout_s) as response:
                return _answer(response.status, response.headers, response, most)
        except urllib.error.HTTPError as error:
            with error:
                return _answer(error.code, error.headers, error, most)

    def _own(self, url: str) -> str:
        """Return the path of a URL on this host; a link elsewhere is not followed."""
        whole = urljoin(self.base_url, url)
        if not whole.startswith(f"{self.base_url}/"):
            raise SourceError(f"{self.base_url} links to another host: {whole[:200]}")
        return whole.removeprefix(self.base_url)


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows a renamed repository, and nothing to another host."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the next request."""
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if (old.scheme, old.netloc) != (new.scheme, new.netloc):
            raise SourceError(f"{old.netloc} redirects to another host: {newurl[:200]}")
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None:
            for name, value in req.unredirected_hdrs.items():
                following.add_unredirected_header(name, value)
        return following


def _answer(
    status: int, headers: email.message.Message | None, body: IO[bytes] | Any, most: int
) -> Answer:
    content = body.read(most + 1)
    lengths = {name.lower(): value for name, value in (headers or {}).items()}
    declared = lengths.get("content-length", "")
    if declared.isdecimal() and len(content) < min(int(declared), most + 1):
        raise http.client.IncompleteRead(content)  # a bounded read does not say so itself
    return Answer(status, lengths, content[:most], is_cut=len(content) > most)


def _limit_s(answer: Answer, now: float) -> float | None:
    """Return how long a refusal asks to wait; None where it is no matter of rates."""
    after = answer.headers.get("retry-after", "")
    if after.isdecimal():
        return float(after)
    reset = answer.headers.get("x-ratelimit-reset", "")
    if answer.headers.get("x-ratelimit-remaining") == "0" and reset.isdecimal():
        return max(0.0, float(reset) - now) + 1.0
    return _SECONDARY_WAIT_S if b"rate limit" in answer.body.lower() else None
