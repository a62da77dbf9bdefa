"""The live web: one page of an official host as evidence, or addresses from a search provider.

Off unless settings turn it on. A name is resolved once, checked, and that very address is connected
to, so an answer that changes between check and use gains nothing; each redirect is checked again.
"""

import http.client
import json
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Protocol
from urllib.parse import quote_plus, urljoin

from knowledge_store.addresses import OFFICIAL, Address, Forbidden, checked, public
from knowledge_store.errors import SourceError
from knowledge_store.records import Passage

_TYPES = ("text/html", "text/plain", "text/markdown", "text/x-", "application/json")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_OK = 200
_AT_ONCE = 65536
_SILENT = frozenset({"script", "style", "noscript", "svg", "nav", "header", "footer", "template"})
_BLOCKS = frozenset(
    {"p", "div", "li", "tr", "br", "pre", "h1", "h2", "h3", "h4", "section", "table"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """What the web route may do."""

    is_on: bool = False
    hosts: tuple[str, ...] = OFFICIAL
    most_bytes: int = 2_000_000
    most_redirects: int = 4
    timeout_s: float = 15.0
    search_url: str = ""
    """Of a provider that answers JSON `{"results": [{"url": ..., "title": ...}]}`, with `{query}`
    where the words go; its host must be allowed as well. Empty: no provider."""


class Connection(Protocol):
    """What fetching needs of `http.client.HTTPSConnection`."""

    def request(self, method: str, url: str, *, headers: dict[str, str]) -> None:
        """Send a request."""
        ...

    def getresponse(self) -> http.client.HTTPResponse:
        """Return the answer."""
        ...

    def close(self) -> None:
        """Close the socket."""
        ...


Resolve = Callable[[str], tuple[str, ...]]
"""From a host to all its addresses."""
Connect = Callable[[str, str, float], Connection]
"""From host, address and time-out to a connection whose certificate is checked for the host."""


class PinnedConnection(http.client.HTTPSConnection):
    """A connection to one address that presents, and checks, the name of its host."""

    def __init__(self, host: str, address: str, timeout_s: float) -> None:
        super().__init__(host, timeout=timeout_s, context=ssl.create_default_context())
        self._address = address
        self._tls = ssl.create_default_context()

    def connect(self) -> None:
        """Connect to the address that was checked, whatever the name leads to by now."""
        plain = socket.create_connection((self._address, self.port), self.timeout)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


def resolved(host: str) -> tuple[str, ...]:
    """Return every address of a host.

    Raises:
        SourceError: the name does not resolve.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # a label that is empty or too long is the latter
        raise SourceError(f"{host} does not resolve: {error}") from error
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


class Web:
    """Fetches pages within its settings."""

    def __init__(
        self,
        settings: WebSettings,
        *,
        resolve: Resolve = resolved,
        connect: Connect = PinnedConnection,
    ) -> None:
        self._settings = settings
        self._resolve = resolve
        self._connect = connect

    def fetch(self, url: str) -> Passage:
        """Return a page as text that can be cited by its final address.

        Raises:
            Forbidden: the route is off, or an address, a type or a size is not allowed.
            SourceError: the server does not answer as it should.
        """
        final, kind, raw = self._get(url)
        text = raw.decode("utf-8", "replace")
        if kind == "text/html":
            text = text_of_html(text)
        return Passage(
            path=final.target,
            source=final.url,
            first_line=1,
            last_line=max(1, text.count("\n") + 1),
            text=text,
            licence="unknown",
        )

    def search(self, words: str) -> tuple[tuple[str, str], ...]:
        """Return (address, title) of what the provider finds, allowed hosts only.

        Raises:
            Forbidden: the route is off, or no provider is set.
            SourceError: the provider does not answer as it should.
        """
        if not self._settings.search_url:
            raise Forbidden("no search provider is set; name one, search_url, or fetch a URL")
        _, _, raw = self._get(self._settings.search_url.replace("{query}", quote_plus(words)))
        try:
            told = json.loads(raw)["results"]
            rows = [(str(row["url"]), str(row.get("title", ""))) for row in told]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise SourceError(
                f"the provider's answer is not of the agreed shape: {error}"
            ) from error
        return tuple(row for row in rows if self._is_allowed(row[0]))

    def _is_allowed(self, url: str) -> bool:
        try:
            checked(url, self._settings.hosts)
        except Forbidden:
            return False
        return True

    def _get(self, url: str) -> tuple[Address, str, bytes]:
        if not self._settings.is_on:
            raise Forbidden("the web route is off; turn it on with --web, or in settings")
        for _ in range(self._settings.most_redirects + 1):
            address = checked(url, self._settings.hosts)
            answer = self._ask(address)
            if isinstance(answer, str):
                url = _joined(address, answer)
                continue
            return address, *answer
        raise Forbidden(f"{url}: more than {self._settings.most_redirects} redirects")

    def _ask(self, address: Address) -> tuple[str, bytes] | str:
        """Return type and content, or where a redirect leads."""
        where = public(self._resolve(address.host), address.host)
        connection = self._connect(address.host, where, self._settings.timeout_s)
        headers = {
            "Accept-Encoding": "identity",
            "User-Agent": "kernelpilot",
            "Connection": "close",
        }
        try:
            connection.request("GET", address.target, headers=headers)
            answer = connection.getresponse()
            if answer.status in _REDIRECTS and (place := answer.getheader("Location")):
                return place
            if answer.status != _OK:
                raise SourceError(f"{address.url} answered {answer.status} {answer.reason}")
            kind = (answer.getheader("Content-Type") or "").partition(";")[0].strip().lower()
            if not kind.startswith(_TYPES):
                raise Forbidden(f"{address.url} is {kind or 'of no type'}, not text")
            return kind, self._read(answer, address)
        except (OSError, http.client.HTTPException) as error:
            raise SourceError(f"{address.url} cannot be read: {error}") from error
        finally:
            connection.close()

    def _read(self, answer: http.client.HTTPResponse, address: Address) -> bytes:
        most = self._settings.most_bytes
        parts: list[bytes] = []
        size = 0
        while part := answer.read(_AT_ONCE):
            size += len(part)
            if size > most:
                raise Forbidden(f"{address.url} is larger than {most} bytes")
            parts.append(part)
        if answer.length:  # a read of a given size ends in silence where the server hangs up
            raise http.client.IncompleteRead(b"".join(parts), answer.length)
        return b"".join(parts)


def _joined(address: Address, place: str) -> str:
    """Return where a redirect from an address leads."""
    try:
        return urljoin(address.url, place)
    except ValueError as error:
        raise Forbidden(f"{address.url} leads to {place!r}, which is not a URL: {error}") from error


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self._silent += tag in _SILENT
        if tag in _BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        if tag in _BLOCKS:
            self.parts.append("\n")

    def parse_marked_section(self, i: int, report: int = 1) -> int:
        """Pass over `<![...]>`, of which the library knows a few kinds and asserts the others."""
        del report
        end = self.rawdata.find(">", i)
        return end + 1 if end >= 0 else -1

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(data)


def text_of_html(html: str) -> str:
    """Return what a reader sees of a page, in lines; scripts, styles and menus are left out."""
    parser = _Text()
    parser.feed(html)
    parser.close()
    rows = (re.sub(r"[ \t\xa0]+", " ", row).strip() for row in "".join(parser.parts).split("\n"))
    return "\n".join(row for row in rows if row)
