import json
import multiprocessing
import os
import signal
import time
from functools import partial

import pytest

from knowledge_store import operations
from knowledge_store.embedders import Choice
from knowledge_store.errors import StoreError
from knowledge_store.lexical import Lexical
from knowledge_store.progress import Progress, Report
from knowledge_store.search import Searcher
from knowledge_store.semantic import opened
from knowledge_store.truth import Truth
from tests.knowledge_store.models import WordEmbedder
from tests.knowledge_store.stores import fill, small_corpus

NONE = Choice(None, "vectors: none")


def corpus(truth, tell, *, stop_after=None):
    """Ingest the small corpus, as a source does."""
    report = Report(source="small")
    for pull, diff in small_corpus()[:stop_after]:
        report.count("changed" if truth.put(pull, diff) else "unchanged")
        if diff is None:
            report.missing.append(pull.key)
    return report


def said(built):
    return {stage.stage: stage.said for stage in built.stages}


def test_a_build_goes_through_its_stages_in_order(tmp_path):
    built = operations.build(tmp_path, [corpus], NONE)
    assert [stage.stage for stage in built.stages] == [
        "ingest",
        "derive",
        "exact",
        "words",
        "vectors",
    ]
    assert said(built)["ingest"] == "small: 4 changed, 0 unchanged, 1 without a diff"
    assert said(built)["vectors"] == "vectors: none"
    assert built.is_changed
    times = [stage.ready_s for stage in built.stages]
    assert times == sorted(times)
    assert json.loads(json.dumps(operations.as_dict(built)))["sources"][0]["changed"] == 4


def test_a_second_build_changes_nothing(tmp_path):
    operations.build(tmp_path, [corpus], NONE)
    again = operations.build(tmp_path, [corpus], NONE)
    assert not again.is_changed
    assert said(again)["words"] == "0 indexed, 0 taken out"
    assert said(again)["exact"].startswith("0 indexed")


def test_a_build_with_a_model_puts_vectors_once(tmp_path):
    choice = Choice(WordEmbedder(), "words")
    first = operations.build(tmp_path, [corpus], choice, chunks_a_pull=2)
    again = operations.build(tmp_path, [], choice, chunks_a_pull=2)
    assert said(first)["vectors"] == "words: 8 put, 0 taken out, 8 held"
    assert said(again)["vectors"] == "words: 0 put, 0 taken out, 8 held"


def test_vectors_that_another_process_owns_are_left(tmp_path):
    operations.build(tmp_path, [corpus], NONE)
    owner, _ = opened(tmp_path / "chroma", WordEmbedder())
    built = operations.build(tmp_path, [], Choice(WordEmbedder(), "words"))
    owner.close()
    assert "left as they are" in said(built)["vectors"]


def test_damaged_vectors_are_made_anew(tmp_path):
    choice = Choice(WordEmbedder(), "words")
    operations.build(tmp_path, [corpus], choice)
    (tmp_path / "chroma" / "chroma.sqlite3").write_bytes(b"damage" * 9000)
    built = operations.build(tmp_path, [], choice)
    assert "made anew" in said(built)["vectors"]
    with Searcher(tmp_path, WordEmbedder()) as searcher:
        found = searcher.search("a cache in pages").found[0]
    assert "card vector" in {reason.ranker for reason in found.why}


@pytest.mark.parametrize("part", ["lexical", "exact"])
def test_a_damaged_index_is_made_anew_from_the_truth(tmp_path, part):
    operations.build(tmp_path, [corpus], NONE)
    for path in (tmp_path / part).rglob("*"):
        if path.is_file() and path.stat().st_size > 50:
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 0xFF
            path.write_bytes(bytes(content))
    operations.build(tmp_path, [], NONE)
    with Searcher(tmp_path) as searcher:
        assert searcher.search("swizzle_bank").found[0].key == "maker/fastlib#1"
        assert searcher.search("avoid bank conflicts").found[0].key == "maker/fastlib#1"


def test_sources_are_read_in_order_and_added_up(tmp_path):
    some = partial(corpus, stop_after=1)
    built = operations.build(tmp_path, [some, corpus], NONE)
    assert [report.changed for report in built.sources] == [1, 3]


def test_progress_is_told_for_each_stage(tmp_path):
    heard: list[Progress] = []
    operations.build(tmp_path, [corpus], Choice(WordEmbedder(), "words"), tell=heard.append)
    assert {one.stage for one in heard} >= {"words", "vectors"}


def test_figures_of_a_store(tmp_path):
    operations.build(tmp_path, [corpus], NONE)
    told = operations.stats(tmp_path)
    assert (told["pulls"], told["diffs"], told["missing"]) == (4, 3, ("other/lib#9",))
    assert told["repos"] == {"maker/fastlib": 2, "other/lib": 2}
    assert told["indices"]["words"] == f"{told['chunks']} chunks, 4 cards"
    assert told["indices"]["exact"] == "3 diffs"
    assert told["bytes"]["truth.sqlite"] > 0
    json.dumps(told)


def test_figures_name_an_index_that_is_behind_or_gone(tmp_path):
    fill(tmp_path)
    assert operations.stats(tmp_path)["indices"]["words"].startswith("unusable")
    assert operations.stats(tmp_path)["indices"]["exact"].startswith("unusable")
    operations.build(tmp_path, [], NONE)
    with Truth(tmp_path) as truth:
        truth.drop("other/lib#7", "withdrawn")
    assert operations.stats(tmp_path)["indices"]["words"].startswith("behind")


def test_figures_of_no_store_are_an_error(tmp_path):
    with pytest.raises(StoreError):
        operations.stats(tmp_path / "absent")


def build_here(folder):
    operations.build(folder, [corpus], NONE)


@pytest.mark.processes
def test_two_builds_at_once_make_one_store(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=build_here, args=(tmp_path,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert operations.stats(tmp_path)["indices"]["words"].endswith("4 cards")


@pytest.mark.processes
@pytest.mark.parametrize("delay_s", [0.5, 0.62, 0.7, 0.8, 0.95])
def test_a_build_that_was_killed_is_finished_by_the_next(tmp_path, delay_s):
    context = multiprocessing.get_context("spawn")
    worker = context.Process(target=build_here, args=(tmp_path,))
    worker.start()
    time.sleep(delay_s)
    if worker.pid is not None:
        os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    operations.build(tmp_path, [corpus], NONE)
    index = Lexical(tmp_path / "lexical")
    assert index.cards == 4
    with Searcher(tmp_path) as searcher:
        assert searcher.search("gather_page_table").total_lines == 2


@pytest.mark.processes
def test_much_is_indexed_by_two_processes_with_the_same_result(tmp_path, monkeypatch):
    monkeypatch.setattr(operations, "_MANY", 1)
    built = operations.build(tmp_path, [corpus], NONE)
    assert [stage.stage for stage in built.stages][2:4] == ["words", "exact"]
    assert said(built)["exact"] == "4 indexed, 0 taken out"
    with Searcher(tmp_path) as searcher:
        assert searcher.search("gather_page_table").total_lines == 2
        assert searcher.search("avoid bank conflicts").found[0].key == "maker/fastlib#1"
