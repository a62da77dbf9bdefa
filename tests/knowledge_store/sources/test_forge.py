import pytest

from knowledge_store.errors import SourceError
from knowledge_store.sources.forge import DIFF, Forge
from tests.knowledge_store.sources.github_server import Hub, served


@pytest.mark.parametrize(
    "url", ["http://api.github.com", "ftp://127.0.0.1", "file:///etc/passwd", "api.github.com"]
)
def test_a_token_is_never_sent_in_the_clear(url):
    with pytest.raises(SourceError, match="not an https URL"):
        Forge(token="secret", base_url=url)


def test_the_token_is_sent_and_not_shown():
    hub = Hub()
    with served(hub) as base_url:
        forge = Forge(token="secret", base_url=base_url)
        forge.json("/repos/owner/name")
    assert hub.requests == [("/repos/owner/name", "Bearer secret")]
    assert forge.requests == 1


def test_without_a_token_none_is_sent():
    hub = Hub()
    with served(hub) as base_url:
        Forge(base_url=base_url).json("/repos/owner/name")
    assert hub.requests[0][1] == ""


def test_an_answer_is_cut_where_it_is_longer_than_asked_for():
    hub = Hub()
    hub.add(1, b"x" * 1000)
    with served(hub) as base_url:
        forge = Forge(base_url=base_url)
        path = "/repos/owner/name/pulls/1"
        cut = forge.fetch(path, accept=DIFF, most=100)
        whole = forge.fetch(path, accept=DIFF, most=1000)
    assert (len(cut.body), cut.is_cut) == (100, True)
    assert (len(whole.body), whole.is_cut) == (1000, False)


def test_a_tag_that_still_holds_yields_no_page():
    hub = Hub()
    hub.add(1, b"")
    with served(hub) as base_url:
        forge = Forge(base_url=base_url)
        path = "/repos/owner/name/pulls?per_page=100"
        ((answer, listed),) = forge.pages(path)
        assert [pull["number"] for pull in listed] == [1]
        assert list(forge.pages(path, etag=answer.headers["etag"])) == []
        hub.add(2, b"")
        ((_, listed),) = forge.pages(path, etag=answer.headers["etag"])
    assert len(listed) == 2


def test_a_host_that_does_not_answer_is_said():
    slept: list[float] = []
    forge = Forge(base_url="http://127.0.0.1:9", sleep=slept.append, attempts=3)
    with pytest.raises(SourceError, match="3 times"):
        forge.json("/repos/owner/name")
    assert slept == [1.0, 2.0]
