import pytest

from knowledge_store import ingestion
from knowledge_store.errors import SourceError
from knowledge_store.progress import silent
from knowledge_store.sources.catalogue import shipped_catalogue
from knowledge_store.truth import Truth
from tests.knowledge_store.sources.github_server import Hub, served
from tests.knowledge_store.stores import PAGED


def test_sources_are_in_the_order_of_their_options(tmp_path):
    found = ingestion.sources(bundles=[tmp_path], git=[tmp_path], patches=[tmp_path], is_own=True)
    assert len(found) == 4
    assert ingestion.sources() == []


def test_a_path_that_does_not_exist_is_refused_before_anything_is_read(tmp_path):
    absent = [tmp_path / "absent"]
    for refused in (
        lambda: ingestion.sources(bundles=absent),
        lambda: ingestion.sources(git=absent),
        lambda: ingestion.sources(patches=absent),
    ):
        with pytest.raises(SourceError, match="does not exist"):
            refused()


def test_patches_are_taken_in(tmp_path):
    (tmp_path / "one.diff").write_text(PAGED)
    (source,) = ingestion.sources(patches=[tmp_path])
    with Truth(tmp_path / "store") as truth:
        assert source(truth, silent).changed == 1
        assert truth.counts().files == 2


def test_the_project_s_own_recipes_are_taken_in(tmp_path):
    (source,) = ingestion.sources(is_own=True)
    with Truth(tmp_path / "store") as truth:
        report = source(truth, silent)
        assert report.changed == truth.counts().pulls > 0
        assert source(truth, silent).changed == 0


def test_a_repository_that_cannot_be_fetched_keeps_no_other_out(tmp_path):
    hub = Hub(repo="NVIDIA/cutlass")
    hub.add(7, PAGED.encode())
    with served(hub) as base_url, Truth(tmp_path / "store") as truth:
        reports = [one(truth, silent) for one in ingestion.fetches("all", base_url=base_url)]
        (alone,) = ingestion.fetches("owner/gone", base_url=base_url)
        with pytest.raises(SourceError, match="404"):
            alone(truth, silent)
        kept = {key.rpartition("#")[0] for key in truth.keys()} | {  # noqa: SIM118 - not a mapping
            one.key.rpartition("#")[0] for one in truth.decisions()
        }
    assert kept == {"NVIDIA/cutlass"}
    stopped = [one for one in reports if one.stopped]
    assert len(stopped) == len(reports) - 1
    assert all("404" in one.stopped and one.problems for one in stopped)


def test_every_upstream_is_fetched_for_all():
    assert len(ingestion.fetches("all")) == len(shipped_catalogue().upstreams)
    assert len(ingestion.fetches("owner/name")) == 1
