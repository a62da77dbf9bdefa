import multiprocessing
import shutil
import threading

import pytest

from knowledge_store import lexical
from knowledge_store.errors import StoreError
from knowledge_store.lexical import Lexical, question_of
from knowledge_store.truth import Truth
from tests.knowledge_store.stores import SWIZZLE, fill, make_pull


@pytest.fixture
def store(tmp_path):
    return fill(tmp_path / "store")


def updated(store, **options):
    with Truth(store) as truth:
        return lexical.update(store / "lexical", truth, **options)


def by_chunks(store, question, **options):
    index = Lexical(store / "lexical")
    return index.by_chunks(question_of(question), 10, **options)


def by_cards(store, question):
    index = Lexical(store / "lexical")
    return [one.key for one in index.by_cards(question_of(question), 10)]


def test_a_first_update_indexes_everything(store):
    report = updated(store)
    assert (report.replaced, report.dropped, report.is_rebuilt) == (4, 0, False)
    index = Lexical(store / "lexical")
    assert index.cards == 4
    with Truth(store) as truth:
        assert index.chunks == truth.counts().chunks
        assert index.revision == truth.revision


def test_a_diff_is_found_by_the_words_of_its_code(store):
    updated(store)
    (best, *_) = by_chunks(store, "bank swizzle")
    assert (best.key, best.chunk) == ("maker/fastlib#1", 0)


def test_the_place_of_a_chunk_is_its_place_in_the_truth(store):
    updated(store)
    (best, *_) = by_chunks(store, "test_paged assert")
    with Truth(store) as truth:
        assert best.chunk is not None
        assert truth.chunks(best.key)[best.chunk].path == "tests/test_paged.py"


def test_a_pull_request_without_a_diff_is_found_by_its_card(store):
    updated(store)
    assert by_cards(store, "whose diff was lost")[0] == "other/lib#9"


def test_prose_is_title_and_body_alone(store):
    updated(store)
    index = Lexical(store / "lexical")
    written = index.by_prose(question_of("block tables"), 10)
    assert [one.key for one in written] == ["maker/fastlib#2"]
    assert index.by_prose(question_of("store_epilogue"), 10)[0].key == "maker/fastlib#1"
    assert index.by_prose(question_of("umma"), 10) == []
    assert by_cards(store, "umma") == ["other/lib#7"]


def test_the_whole_joins_prose_and_every_part_of_a_diff(store):
    updated(store)
    index = Lexical(store / "lexical")
    # One word from the body, one from each file of the diff.
    asked = question_of("prompts gather_page_table test_paged")
    best, *others = index.by_whole(asked, 10)
    assert best.key == "maker/fastlib#2"
    rival = max((one.score for one in others), default=0.0)
    assert best.score > 2 * rival
    assert best.score > max(one.score for one in index.by_chunks(asked, 10))


def test_repeating_itself_says_no_more_in_the_whole(tmp_path):
    def diff(lines):
        return (
            "diff --git a/x.cu b/x.cu\n--- a/x.cu\n+++ b/x.cu\n"
            f"@@ -0,0 +1,{len(lines)} @@\n" + "".join(f"+{line}\n" for line in lines)
        ).encode()

    with Truth(tmp_path / "store") as truth:
        truth.put(make_pull(1), diff(["swizzle tile"] * 50))
        truth.put(make_pull(2), diff(["swizzle tile"]))
    updated(tmp_path / "store")
    index = Lexical(tmp_path / "store" / "lexical")
    first, second = index.by_whole(question_of("swizzle"), 10)
    assert first.score == second.score


def test_a_question_has_each_term_once_and_its_neighbours():
    asked = question_of("the page table of page tables")
    assert [term for term, _ in asked.terms] == ["page", "tabl"]
    assert [pair[:2] for pair in asked.pairs] == [("page", "tabl"), ("tabl", "page")]
    assert question_of("") == question_of("the of") == lexical.Question(())


def test_aliases_together_weigh_as_much_as_one_word():
    weights = dict(question_of("umma fence", ("tcgen05",)).terms)
    assert weights == {"umma": 1.0, "fenc": 1.0, "tcgen05": 0.5, "tcgen": 0.5}


def test_an_alias_that_was_asked_for_keeps_its_weight():
    assert dict(question_of("tma copy", ("tma",)).terms)["tma"] == 1.0


def test_only_one_repository_where_one_is_named(store):
    updated(store)
    assert {one.key for one in by_chunks(store, "asm page swizzle", repo="other/lib")} == {
        "other/lib#7"
    }


def test_a_second_update_changes_nothing(store):
    updated(store)
    stamp = (store / "lexical" / "chunks" / "stamp.json").read_bytes()
    report = updated(store)
    assert (report.replaced, report.dropped, report.is_rebuilt) == (0, 0, False)
    assert (store / "lexical" / "chunks" / "stamp.json").read_bytes() == stamp


def test_an_update_replaces_what_changed(store):
    updated(store)
    with Truth(store) as truth:
        truth.put(make_pull(1, title="Something about prefetching"), SWIZZLE.encode())
    assert updated(store).replaced == 1
    assert by_cards(store, "prefetching") == ["maker/fastlib#1"]
    assert by_cards(store, "conflicts") == []


def test_what_was_dropped_is_found_no_more(store):
    updated(store)
    with Truth(store) as truth:
        truth.drop("maker/fastlib#1", "licence withdrawn")
    assert updated(store).dropped == 1
    assert "maker/fastlib#1" not in [one.key for one in by_chunks(store, "bank swizzle")]
    assert "maker/fastlib#1" not in by_cards(store, "bank conflicts epilogue")


def test_updates_one_by_one_give_what_one_update_gives(store, tmp_path):
    with Truth(store) as truth:
        keys = list(truth.keys())
        piecewise = tmp_path / "piecewise"
        with Truth(piecewise) as other:
            for key in keys:
                pull = truth.pull(key)
                assert pull is not None
                other.put(pull, truth.diff(key) or None)
                lexical.update(piecewise / "lexical", other)
    updated(store)
    for question in ("swizzle bank", "page table", "tcgen05 fence", "lost"):
        ahead, behind = by_chunks(store, question), by_chunks(piecewise, question)
        assert {(one.key, one.chunk) for one in ahead} == {(one.key, one.chunk) for one in behind}


@pytest.mark.parametrize("part", ["chunks", "cards", "prose", "whole"])
def test_a_damaged_index_is_refused_and_made_anew(store, part):
    updated(store)
    victim = max((store / "lexical" / part).glob("*.idx"), key=lambda path: path.stat().st_size)
    victim.write_bytes(b"\0" * victim.stat().st_size)
    with pytest.raises(StoreError):
        Lexical(store / "lexical")
    report = updated(store)
    assert report.is_rebuilt
    assert "damaged" in report.reason
    assert by_chunks(store, "bank swizzle")[0].key == "maker/fastlib#1"


def test_indices_of_two_makings_are_not_mixed(store, tmp_path):
    updated(store)
    shutil.copytree(store / "lexical" / "cards", tmp_path / "cards")
    with Truth(store) as truth:
        truth.put(make_pull(11), None)
    updated(store)
    shutil.rmtree(store / "lexical" / "cards")
    shutil.copytree(tmp_path / "cards", store / "lexical" / "cards")
    with pytest.raises(StoreError, match="not of one making"):
        Lexical(store / "lexical")


def test_a_withheld_title_is_in_no_entry(store):
    updated(store, withheld="title")
    assert by_cards(store, "conflicts") == []
    assert by_cards(store, "replays") == ["maker/fastlib#1"]
    with Truth(store) as truth:
        truth.put(make_pull(12, title="Unheardof", body="again: unheardof words"), None)
    updated(store, withheld="title")
    assert by_cards(store, "unheardof") == []


def test_a_withheld_body_is_in_no_entry(store):
    updated(store, withheld="body")
    assert by_cards(store, "replays") == []
    assert by_cards(store, "conflicts") == ["maker/fastlib#1"]


def test_an_index_that_withholds_is_made_anew_for_another_purpose(store):
    updated(store, withheld="body")
    report = updated(store)
    assert report.is_rebuilt
    assert "withholds body" in report.reason


def test_progress_ends_at_the_total(store):
    heard = []
    updated(store, tell=lambda done, total: heard.append((done, total)))
    assert heard[-1] == (4, 4)


def test_readers_search_while_an_index_is_made_anew(store):
    updated(store)
    failures = []
    stop = threading.Event()

    def read():
        while not stop.is_set():
            try:
                assert by_chunks(store, "bank swizzle")
            except (StoreError, AssertionError) as error:
                failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for withheld in ("title", "", "body", ""):
        updated(store, withheld=withheld)
    stop.set()
    reader.join()
    assert failures == []


@pytest.mark.processes
def test_two_processes_that_update_at_once_make_one_index(store):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=updated, args=(store,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert Lexical(store / "lexical").cards == 4
