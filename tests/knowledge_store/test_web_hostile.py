"""What a server, a provider or a resolver may say that it should not."""

import http.client
import json
from http.server import BaseHTTPRequestHandler

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from knowledge_store.addresses import Forbidden
from knowledge_store.cli_sources import _show_results
from knowledge_store.errors import SourceError
from knowledge_store.routes import RouteLog
from knowledge_store.web import Web, WebSettings, resolved, text_of_html
from tests.knowledge_store.servers import served

PUBLIC = "93.184.216.34"
SITE = "https://docs.nvidia.com"
REDIRECTS = {
    "/brackets": "https://[x",
    "/port": "https://docs.nvidia.com:99999999/",
    "/decimal": "https://2130706433/",
    "/mapped": "https://[::ffff:127.0.0.1]/",
    "/scheme": "file:///etc/passwd",
    "/login": "https://a:b@docs.nvidia.com/",
    "/blank": "https://docs.nvidia.com/a b",
    "/network": "//evil.example/",
    "/backslash": "https://evil.example\\.docs.nvidia.com/",
    "/relative": "page",
    "/deep/up": "../page",
    "/query": "?q=1",
    **{f"/step{n}": f"/step{n + 1}" for n in range(5)},
}
ANSWERS = {
    "/page": ("text/plain", b"here"),
    "/query?q=1": ("text/plain", b"asked"),
    "/step5": ("text/plain", b"far"),
    "/untyped": ("", b"x"),
    "/pdf": ("application/pdf", b"%PDF"),
    "/upper": ("TEXT/PLAIN; charset=x", b"x"),
    "/exact": ("text/plain", b"x" * 100),
    "/over": ("text/plain", b"x" * 101),
    "/empty": ("text/plain", b""),
    "/deep": ("application/json", b"[" * 100_000),
    "/none": ("application/json", b'{"results": []}'),
    "/untitled": ("application/json", b'{"results": [{"url": "https://github.com/x"}]}'),
    "/no-url": ("application/json", b'{"results": [{"title": "x"}]}'),
    "/text": ("application/json", b'{"results": "abc"}'),
    "/null": ("application/json", b"null"),
    "/half": ("application/json", b'{"results": ['),
    "/marked": ("text/html", b"<p>before<![odd[x]]><p>after"),
}


class Pages(BaseHTTPRequestHandler):
    """A site that answers as the tables say."""

    def do_GET(self):
        if self.path in REDIRECTS:
            self.send_response(308)
            self.send_header("Location", REDIRECTS[self.path])
            self.end_headers()
        elif self.path in ANSWERS:
            kind, content = ANSWERS[self.path]
            self.send_response(200)
            if kind:
                self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(content)
        elif self.path == "/nowhere":
            self.send_response(302)
            self.end_headers()
        elif self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"cut off")
        else:
            self.send_error(503)

    def log_message(self, *_arguments):
        pass


@pytest.fixture(scope="module")
def port():
    with served(Pages) as number:
        yield number


@pytest.fixture
def web(port):
    def make(**changes):
        def connect(_host, _address, timeout_s):
            return http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)

        settings = WebSettings(**{"is_on": True, "most_bytes": 200_000, **changes})
        return Web(settings, resolve=lambda _host: (PUBLIC,), connect=connect)

    return make


@pytest.mark.parametrize(
    "path",
    "brackets port decimal mapped scheme login blank network backslash".split(),  # noqa: SIM905 - as one
)
def test_a_redirect_to_what_may_not_be_asked_is_refused(web, path):
    with pytest.raises(Forbidden):
        web().fetch(f"{SITE}/{path}")


@pytest.mark.parametrize(
    ("path", "final"), [("relative", "/page"), ("deep/up", "/page"), ("query", "/query?q=1")]
)
def test_a_relative_redirect_is_taken_from_where_it_stands(web, path, final):
    passage = web().fetch(f"{SITE}/{path}")
    assert (passage.path, passage.source) == (final, SITE + final)


def test_redirects_are_counted(web):
    assert web(most_redirects=5).fetch(f"{SITE}/step0").text == "far"
    with pytest.raises(Forbidden, match="more than 4 redirects"):
        web(most_redirects=4).fetch(f"{SITE}/step0")
    with pytest.raises(Forbidden, match="more than 0 redirects"):
        web(most_redirects=0).fetch(f"{SITE}/step4")


@pytest.mark.parametrize(("path", "why"), [("nowhere", "302"), ("absent", "503")])
def test_an_answer_that_is_no_page_is_an_error_with_its_status(web, path, why):
    with pytest.raises(SourceError, match=why):
        web().fetch(f"{SITE}/{path}")


def test_a_page_that_was_cut_off_is_never_taken_for_whole(web):
    with pytest.raises(SourceError, match="cannot be read"):
        web().fetch(f"{SITE}/short")


@pytest.mark.parametrize(("path", "kind"), [("untyped", "of no type"), ("pdf", "application/pdf")])
def test_only_text_is_read(web, path, kind):
    with pytest.raises(Forbidden, match=kind):
        web().fetch(f"{SITE}/{path}")
    assert web().fetch(f"{SITE}/upper").text == "x"


def test_a_page_of_exactly_the_most_bytes_is_read(web):
    assert len(web(most_bytes=100).fetch(f"{SITE}/exact").text) == 100
    with pytest.raises(Forbidden, match="larger than 100 bytes"):
        web(most_bytes=100).fetch(f"{SITE}/over")


def test_an_empty_page_has_one_line(web):
    passage = web().fetch(f"{SITE}/empty")
    assert (passage.text, passage.first_line, passage.last_line) == ("", 1, 1)


@pytest.mark.parametrize("host", ["a" * 64 + ".github.com", "a..github.com"])
def test_a_name_that_no_resolver_takes_is_an_error_of_the_source(host):
    with pytest.raises(SourceError, match="does not resolve"):
        resolved(host)


@pytest.mark.parametrize("path", ["deep", "no-url", "text", "null", "half"])
def test_a_provider_that_says_anything_else_is_an_error(web, path):
    with pytest.raises(SourceError, match="agreed shape"):
        web(search_url=f"{SITE}/{path}").search("x")


def test_a_result_needs_no_title(web):
    assert web(search_url=f"{SITE}/untitled").search("x") == (("https://github.com/x", ""),)


def test_a_provider_elsewhere_is_not_asked(web):
    with pytest.raises(Forbidden, match="allowed hosts"):
        web(search_url="https://evil.example/?q={query}").search("x")


def test_a_search_is_off_like_a_fetch(web):
    with pytest.raises(Forbidden, match="off"):
        web(is_on=False, search_url=f"{SITE}/none").search("x")


def test_a_search_of_a_provider_is_one_object_and_one_entry(web, tmp_path, capsys):
    log = tmp_path / "routes.jsonl"
    _show_results(web(search_url=f"{SITE}/untitled"), "tma copy", log, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told == {"results": [{"url": "https://github.com/x", "title": ""}]}
    (entry,) = RouteLog(log).entries()
    assert (entry.route, entry.query) == ("web", "tma copy")
    assert (entry.keys, entry.searched) == (("https://github.com/x",), 1)


def test_a_search_without_results_says_so_by_its_exit_code(web, tmp_path, capsys):
    log = tmp_path / "routes.jsonl"
    with pytest.raises(typer.Exit) as caught:
        _show_results(web(search_url=f"{SITE}/none"), "x", log, as_json=True)
    assert caught.value.exit_code == 1
    assert json.loads(capsys.readouterr().out) == {"results": []}
    assert RouteLog(log).entries()[0].keys == ()


def test_declarations_that_no_one_knows_do_not_end_a_page(web):
    assert web().fetch(f"{SITE}/marked").text == "before\nafter"


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("a<nav>menu<svg>x</svg></nav>b", "ab"),
        ("<nav><nav>x</nav>y</nav>z", "z"),
        ("</nav></nav>a<nav>b</nav>c", "ac"),
        ("<p>a<br/>b</p>", "a\nb"),
        ("&amp;&#65;&#x42;&bogus;", "&AB&bogus;"),
        ("a<!-- <script> -->b", "ab"),
        ("x < y && z > w", "x < y && z > w"),
        ("", ""),
    ],
)
def test_what_a_reader_sees(html, text):
    assert text_of_html(html) == text


@given(st.lists(st.sampled_from(["<![", "<!", "]]>", "<p", ">", "<script>", "x", "&#", "<nav>"])))
def test_any_markup_is_read_to_its_end(parts):
    for row in text_of_html("".join(parts)).split("\n"):
        assert row == row.strip()
