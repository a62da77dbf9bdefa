"""Evidence from a real store, or the reason why there is none."""

import shutil
from pathlib import Path

import pytest

from graph.library import Library, store_of
from knowledge_store import operations
from knowledge_store.embedders import choose
from knowledge_store.own import ingest
from knowledge_store.routes import RouteLog
from tests.knowledge_store.models import write_model


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store of the project's own recipes."""
    folder = tmp_path_factory.mktemp("library") / "store"
    operations.build(folder, [lambda truth, tell: ingest(truth, tell=tell)], choose("none"))
    return folder


def test_a_search_gives_passages_and_says_what_was_asked(store, tmp_path):
    evidence = Library(store=store).evidence("softmax rows in registers", tmp_path / "routes")
    assert evidence.passages
    assert any("softmax" in f"{p.path} {p.text}".lower() for p in evidence.passages)
    assert all(p.licence == "Apache-2.0" and p.pr is not None for p in evidence.passages)
    (told,) = evidence.searched
    assert told.startswith("knowledge store, by meaning for 'softmax rows in registers': ")
    (entry,) = RouteLog(tmp_path / "routes").entries()
    assert entry.query == "softmax rows in registers"
    assert len(entry.keys) == len(evidence.passages)


def test_vectors_rank_where_the_store_has_some_and_their_model_is_at_hand(store, tmp_path):
    model = f"local:{write_model(tmp_path / 'model')}"
    copy = shutil.copytree(store, tmp_path / "store")
    operations.build(copy, [], choose(model))

    def told(embedder):
        library = Library(store=copy, embedder=embedder)
        return library.evidence("page copy of a warp", tmp_path / "routes").searched[0]

    assert told(model).endswith(", ranked by words and vectors")
    assert told("none").endswith(
        ", ranked by words alone: vectors: none, as asked; words alone rank"
    )
    assert "ranked by words alone: /nowhere" in told("local:/nowhere")


def test_passages_are_short_and_their_lines_add_up(store, tmp_path):
    for passage in Library(store=store).evidence("gemm tile", tmp_path / "routes").passages:
        lines = passage.text.split("\n")
        assert len(lines) <= 40
        assert passage.last_line - passage.first_line + 1 == len(lines)


def test_an_identifier_in_quotes_is_searched_for_exactly(store, tmp_path):
    (told,) = Library(store=store).evidence('"wgmma"', tmp_path / "routes").searched
    assert "by literal" in told or "by word" in told
    (entry,) = RouteLog(tmp_path / "routes").entries()
    assert entry.route == "lines"


def test_the_setting_comes_before_the_environment_and_that_before_the_usual_place(store, tmp_path):
    named = {"KERNELPILOT_KNOWLEDGE": "elsewhere"}
    assert store_of("", {}, tmp_path) is None
    (tmp_path / "knowledge").symlink_to(store)
    assert store_of("", {}, tmp_path) == tmp_path / "knowledge"
    assert store_of("", named, tmp_path) == Path("elsewhere")
    assert store_of("mine", named, tmp_path) == Path("mine")
    assert store_of("~/mine", {}, tmp_path) == Path.home() / "mine"


def test_without_a_store_nothing_is_found_and_the_remedy_is_named(tmp_path):
    evidence = Library().evidence("softmax", tmp_path / "routes")
    assert evidence.passages == ()
    assert "make knowledge" in evidence.searched[0]
    assert not (tmp_path / "routes").exists()


def test_a_store_that_is_not_there_is_no_reason_to_end(tmp_path):
    evidence = Library(store=tmp_path / "nothing").evidence("softmax", tmp_path / "routes")
    assert evidence.passages == ()
    assert evidence.searched[0].startswith("the knowledge store cannot be used: ")
