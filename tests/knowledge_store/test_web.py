import http.client
import json
from http.server import BaseHTTPRequestHandler

import pytest

from knowledge_store.addresses import Forbidden
from knowledge_store.errors import SourceError
from knowledge_store.web import PinnedConnection, Web, WebSettings, text_of_html
from tests.knowledge_store.servers import served

PUBLIC = "93.184.216.34"
PAGE = """<html><head><title>T</title><style>p{}</style><script>alert(1)</script></head>
<body><nav>Menu</nav><h1>TMA&nbsp;guide</h1><p>Use <b>bulk</b>   copies.</p><ul><li>one<li>two</ul>
</body></html>"""


class Pages(BaseHTTPRequestHandler):
    """A site with one page of each kind."""

    def do_GET(self):
        kinds = {
            "/html": ("text/html; charset=utf-8", PAGE.encode()),
            "/text": ("text/plain", b"line one\nline two"),
            "/latin": ("text/plain", b"caf\xe9"),
            "/binary": ("application/octet-stream", b"\0" * 10),
            "/large": ("text/plain", b"x" * 5000),
            "/results?q=tma+copy": (
                "application/json",
                json.dumps(
                    {
                        "results": [
                            {"url": "https://docs.nvidia.com/a", "title": "A"},
                            {"url": "https://evil.example/b", "title": "B"},
                        ]
                    }
                ).encode(),
            ),
            "/odd": ("application/json", b"[]"),
        }
        places = {
            "/moved": "/text",
            "/inside": "https://127.0.0.1/secret",
            "/other": "https://evil.example/",
            "/plain": "http://docs.nvidia.com/text",
            "/round": "/round",
            "/rebound": "https://rebound.docs.nvidia.com/text",
        }
        if self.path in places:
            self.send_response(302)
            self.send_header("Location", places[self.path])
            self.end_headers()
        elif self.path in kinds:
            kind, content = kinds[self.path]
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(content)
        else:
            self.send_error(404)

    def log_message(self, *_arguments):
        pass


@pytest.fixture(scope="module")
def port():
    with served(Pages) as number:
        yield number


class Maker:
    """Makes a Web whose names lead to public addresses, which a loopback server answers for."""

    def __init__(self, port):
        self.port = port
        self.connected: list[tuple[str, str]] = []

    def resolve(self, host):
        return ("10.0.0.5",) if host.startswith("rebound") else (PUBLIC,)

    def connect(self, host, address, timeout_s):
        self.connected.append((host, address))
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)

    def __call__(self, **changes):
        settings = WebSettings(**{"is_on": True, "most_bytes": 4000, **changes})
        return Web(settings, resolve=self.resolve, connect=self.connect)


@pytest.fixture
def web(port):
    return Maker(port)


def test_a_page_becomes_a_passage_that_can_be_cited(web):
    passage = web().fetch("https://docs.nvidia.com/text")
    assert passage.source == "https://docs.nvidia.com/text"
    assert (passage.path, passage.text) == ("/text", "line one\nline two")
    assert (passage.first_line, passage.last_line) == (1, 2)
    assert passage.licence == "unknown"


def test_html_is_read_as_a_reader_would(web):
    text = web().fetch("https://docs.nvidia.com/html").text
    assert text.split("\n") == ["T", "TMA guide", "Use bulk copies.", "one", "two"]


def test_the_address_that_was_checked_is_the_one_connected_to(web):
    web().fetch("https://docs.nvidia.com/text")
    assert web.connected == [("docs.nvidia.com", PUBLIC)]


def test_the_route_is_off_unless_it_is_turned_on(web):
    with pytest.raises(Forbidden, match="off"):
        Web(WebSettings()).fetch("https://docs.nvidia.com/text")
    with pytest.raises(Forbidden, match="off"):
        web(is_on=False).fetch("https://docs.nvidia.com/text")
    assert web.connected == []


def test_a_redirect_on_the_same_site_is_followed(web):
    assert web().fetch("https://docs.nvidia.com/moved").path == "/text"


@pytest.mark.parametrize("path", ["inside", "other", "plain", "rebound", "round"])
def test_a_redirect_is_checked_like_any_address(web, path):
    with pytest.raises(Forbidden):
        web().fetch(f"https://docs.nvidia.com/{path}")
    assert all(address == PUBLIC for _, address in web.connected)


def test_a_name_that_leads_inside_is_not_connected_to(web):
    with pytest.raises(Forbidden, match="not a public address"):
        web().fetch("https://rebound.docs.nvidia.com/text")
    assert web.connected == []


def test_what_is_not_text_is_refused(web):
    with pytest.raises(Forbidden, match="octet-stream"):
        web().fetch("https://docs.nvidia.com/binary")


def test_a_page_that_is_too_large_is_refused(web):
    with pytest.raises(Forbidden, match="larger than 4000"):
        web().fetch("https://docs.nvidia.com/large")


def test_text_of_another_encoding_is_read_with_replacement(web):
    assert web().fetch("https://docs.nvidia.com/latin").text == "caf\N{REPLACEMENT CHARACTER}"


def test_a_page_that_is_not_there_is_an_error(web):
    with pytest.raises(SourceError, match="404"):
        web().fetch("https://docs.nvidia.com/absent")


def test_a_server_that_does_not_answer_is_an_error(web):
    def refuse(host, address, timeout_s):
        return http.client.HTTPConnection("127.0.0.1", 9, timeout=timeout_s)

    made = Web(WebSettings(is_on=True), resolve=lambda _host: (PUBLIC,), connect=refuse)
    with pytest.raises(SourceError, match="cannot be read"):
        made.fetch("https://docs.nvidia.com/text")


def test_a_provider_s_answers_are_those_of_allowed_hosts(web):
    made = web(search_url="https://docs.nvidia.com/results?q={query}")
    assert made.search("tma copy") == (("https://docs.nvidia.com/a", "A"),)


def test_without_a_provider_search_says_what_to_set(web):
    with pytest.raises(Forbidden, match="search_url"):
        web().search("tma")


def test_a_provider_of_another_shape_is_an_error(web):
    with pytest.raises(SourceError, match="agreed shape"):
        web(search_url="https://docs.nvidia.com/odd").search("tma")


def test_a_connection_presents_the_name_of_its_host():
    connection = PinnedConnection("docs.nvidia.com", PUBLIC, 1.0)
    assert (connection.host, connection.port) == ("docs.nvidia.com", 443)


def test_text_of_broken_html_is_what_can_be_read():
    assert text_of_html("<p>a<script>x") == "a"
    assert text_of_html("</script>b &lt;c&gt;") == "b <c>"
