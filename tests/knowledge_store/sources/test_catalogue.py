import pytest

from knowledge_store.diffs import parse
from knowledge_store.errors import SourceError
from knowledge_store.sources.catalogue import (
    Catalogue,
    LedgerRow,
    Upstream,
    read_catalogue,
    shipped_catalogue,
)
from tests.knowledge_store.diff_builders import make_diff

KEY = "owner/name#1"


def files(*paths):
    return parse(KEY, make_diff({path: (["x"], ["y"]) for path in paths})).files


def test_the_shipped_list_names_fourteen_repositories_with_licence_and_paths():
    catalogue = shipped_catalogue()
    assert len(catalogue.upstreams) == 14
    assert len({upstream.repo for upstream in catalogue.upstreams}) == 14
    for upstream in catalogue.upstreams:
        assert upstream.licence != "unknown"
        assert upstream.kernel_paths
        assert upstream.since >= "2024-01-01"


@pytest.mark.parametrize(
    ("name", "repo"),
    [
        ("NVIDIA/cutlass", "NVIDIA/cutlass"),
        ("nvidia/CUTLASS", "NVIDIA/cutlass"),
        ("cccl-cub", "NVIDIA/cccl"),
        ("tensorrt-llm", "NVIDIA/TensorRT-LLM"),
    ],
)
def test_an_upstream_is_found_by_any_of_its_names(name, repo):
    found = shipped_catalogue().find(name)
    assert found is not None
    assert found.repo == repo


def test_an_unlisted_repository_is_none_of_ours():
    assert shipped_catalogue().find("owner/name") is None
    assert shipped_catalogue().licence("owner/name") == "unknown"


@pytest.mark.parametrize(
    ("paths", "decision"),
    [
        (("csrc/a.cu",), "include"),
        (("docs/x.md", "csrc/deep/a.py"), "include"),
        (("docs/x.md",), "defer"),
        (("other/a.cu",), "defer"),
    ],
)
def test_kernel_paths_decide_with_a_reason(paths, decision):
    upstream = Upstream(repo="owner/name", kernel_paths=("csrc/*",))
    found, reason = Catalogue(upstreams=(upstream,)).decide(KEY, files(*paths))
    assert found == decision
    assert "csrc/" in reason


def test_an_unlisted_repository_is_decided_by_what_looks_like_a_kernel():
    catalogue = Catalogue()
    assert catalogue.decide(KEY, files("src/x.cu"))[0] == "include"
    assert catalogue.decide(KEY, files("docs/x.md", "setup.py"))[0] == "defer"


def test_a_callers_paths_replace_the_list():
    upstream = Upstream(repo="owner/name", kernel_paths=("csrc/*",))
    catalogue = Catalogue(upstreams=(upstream,))
    assert catalogue.decide(KEY, files("docs/x.md"), ("docs/*",))[0] == "include"
    assert catalogue.decide(KEY, files("csrc/x.cu"), ("docs/*",))[0] == "defer"


def test_a_change_whose_diff_cannot_be_had_is_included():
    assert Catalogue().decide(KEY, ())[0] == "include"


def test_a_decision_by_hand_comes_first():
    row = LedgerRow(pull=KEY, decision="defer", reason="a release")
    assert Catalogue(ledger=(row,)).decide(KEY, files("csrc/x.cu")) == ("defer", "a release")


GOOD = "upstreams: [{repo: a/b, kernel_paths: [x/*]}]"
LEDGER = "decisions: []"


@pytest.mark.parametrize(
    ("sources", "ledger", "name"),
    [
        ("upstreams: [{repo: no-owner, kernel_paths: [x]}]", LEDGER, "sources.yaml"),
        ("upstreams: [{repo: a/b, kernel_paths: []}]", LEDGER, "sources.yaml"),
        ("upstreams: [{repo: a/b, kernel_paths: [x], colour: red}]", LEDGER, "sources.yaml"),
        ("upstreams: [{repo: a/b, kernel_paths: [x], since: soon}]", LEDGER, "sources.yaml"),
        ("{", LEDGER, "sources.yaml"),
        (GOOD, "decisions: [{pull: a/b, decision: defer, reason: none}]", "ledger.yaml"),
        (GOOD, "decisions: [{pull: a/b#1, decision: maybe, reason: none}]", "ledger.yaml"),
        (GOOD, "decisions: [{pull: a/b#1, decision: defer, reason: ''}]", "ledger.yaml"),
        (GOOD, None, "ledger.yaml"),
    ],
)
def test_a_malformed_list_is_said_with_its_file(tmp_path, sources, ledger, name):
    (tmp_path / "sources.yaml").write_text(sources)
    if ledger is not None:
        (tmp_path / "ledger.yaml").write_text(ledger)
    with pytest.raises(SourceError, match=name):
        read_catalogue(tmp_path)


def test_a_list_of_ones_own_is_read(tmp_path):
    (tmp_path / "sources.yaml").write_text(GOOD)
    (tmp_path / "ledger.yaml").write_text(LEDGER)
    assert read_catalogue(tmp_path).upstreams == (Upstream(repo="a/b", kernel_paths=("x/*",)),)
