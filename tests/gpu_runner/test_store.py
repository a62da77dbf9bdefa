"""The broker's database: what was kept is there, whole or not at all."""

import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.book import Book, row_of
from gpu_runner.jobs import Unserved
from gpu_runner.journal import Entry
from gpu_runner.message import digest_of
from gpu_runner.operations import Change
from gpu_runner.store import SCHEMA_VERSION, Store, StoreFailed
from gpu_runner.wire import State
from tests.gpu_runner.executors import make_built, make_job
from tests.gpu_runner.pool_cases import held

UNSERVED = Unserved(job_id="job", cause="no_space", message="full", is_retryable=True)


def keep(store, book, at_s=100.0):
    return store.keep(book.entries(), epoch=3, at_s=at_s)


def make_book():
    return Book(most_finished=100)


def submitted(book, name="job"):
    job = make_job(name)
    return book.submit(job, digest_of(job))


def test_a_job_is_there_again_with_all_that_was_known(tmp_path):
    book, store = make_book(), Store(tmp_path / "db")
    ticket = submitted(book)
    book.lease(ticket, "w1", 7, beat=3)
    ticket.losses, ticket.crashes = 2, 1
    book.start(ticket)
    keep(store, book)
    store.close()
    again = Store(tmp_path / "db")
    (row,) = again.rows()
    assert row == row_of(ticket)
    assert (row.state, row.owner, row.token) == (State.RUNNING, "w1", 7)
    assert (row.losses, row.crashes, row.is_stored) == (2, 1, True)
    assert again.content("job") == make_job()
    assert again.finished("job") is None


def test_an_ended_job_is_found_and_is_live_no_more():
    book, store = make_book(), Store(None)
    ticket = submitted(book)
    book.lease(ticket, "w1", 7, beat=0)
    book.finish(ticket, make_built())
    keep(store, book)
    finished = store.finished("job")
    assert finished is not None
    assert (finished.outcome, finished.token, finished.owner) == (make_built(), 7, "w1")
    assert finished.spec_digest == digest_of(make_job())
    assert (list(store.rows()), store.content("job")) == ([], None)


def test_what_was_not_served_keeps_its_content_and_can_be_live_again():
    book, store = make_book(), Store(None)
    book.finish(submitted(book), UNSERVED)
    keep(store, book)
    assert store.content("job") == make_job()
    submitted(book)
    keep(store, book)
    assert store.finished("job") is None
    assert [row.state for row in store.rows()] == [State.QUEUED]
    assert store.restored().last_rank == 2


def test_a_forgotten_job_leaves_nothing_but_events():
    book, store = make_book(), Store(None)
    book.adopt(held(make_job(), 5), "w1")
    keep(store, book)
    assert [row.is_stored for row in store.rows()] == [False]
    ticket = book.known("job")
    assert ticket is not None
    book.forget(ticket, "lost")
    keep(store, book)
    assert list(store.rows()) == []
    assert [e.change for e in store.events(0, 9)] == [Change.ADOPTED, Change.FORGOTTEN]


def test_events_are_numbered_without_gaps_over_restarts(tmp_path):
    book, store = make_book(), Store(tmp_path / "db")
    submitted(book, "a")
    first = keep(store, book)
    store.close()
    store = Store(tmp_path / "db")
    submitted(book, "b")
    second = keep(store, book, at_s=200.0)
    assert store.events(0, 10) == (*first, *second)
    assert [(e.seq, e.epoch, e.at_s, e.job_id) for e in store.events(1, 1)] == [(2, 3, 200.0, "b")]
    assert store.span() == (1, 2)


def test_a_transaction_that_fails_leaves_nothing(tmp_path):
    book, store = make_book(), Store(tmp_path / "db")
    submitted(book, "a")
    keep(store, book)
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    for number in range(40):
        submitted(book, f"b{number}")
    with pytest.raises(StoreFailed, match="full; nothing unsaved was promised"):
        keep(store, book)
    assert [row.job_id for row in store.rows()] == ["a"]
    assert [e.job_id for e in store.events(0, 99)] == ["a"]


def test_a_database_of_a_newer_version_is_refused(tmp_path):
    Store(tmp_path / "db").close()
    with sqlite3.connect(tmp_path / "db") as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(StoreFailed, match="written by a newer version"):
        Store(tmp_path / "db")


@pytest.mark.parametrize("how", ["torn page", "no database"])
def test_a_damaged_database_is_refused(tmp_path, how):
    book, store = make_book(), Store(tmp_path / "db")
    for number in range(200):
        submitted(book, f"job-{number}")
    keep(store, book)
    store.close()
    content = bytearray((tmp_path / "db").read_bytes())
    if how == "torn page":
        content[8192:] = b"\x00" * len(content[8192:])
    else:
        content = bytearray(b"some other file" * 1000)
    (tmp_path / "db").write_bytes(content)
    with pytest.raises(StoreFailed, match=r"damaged|not a database|malformed"):
        Store(tmp_path / "db")


def test_a_place_where_nothing_can_be_written_is_named(tmp_path):
    with pytest.raises(StoreFailed, match="unable to open"):
        Store(tmp_path / "no folder" / "db")


def test_a_reader_writes_nothing_and_sees_what_was_committed(tmp_path):
    book, store = make_book(), Store(tmp_path / "db")
    reader = Store(tmp_path / "db", is_reader=True)
    submitted(book)
    keep(store, book)
    assert [row.job_id for row in reader.rows()] == ["job"]
    with pytest.raises(StoreFailed, match="readonly"):
        reader.begin_epoch(1)


def test_epochs_grow_whatever_the_caller_believes():
    store = Store(None)
    assert store.is_new
    assert [store.begin_epoch(n) for n in (4, 2, 9)] == [4, 5, 9]
    assert not store.is_new


def test_what_is_old_is_pruned_and_the_living_stay():
    book, store = make_book(), Store(None)
    submitted(book, "live")
    book.finish(submitted(book, "old"), make_built("old"))
    keep(store, book, at_s=100.0)
    book.finish(submitted(book, "new"), make_built("new"))
    keep(store, book, at_s=200.0)
    store.prune(most_events=2, finished_before_s=150.0)
    assert store.finished("old") is None
    assert store.finished("new") is not None
    assert [row.job_id for row in store.rows()] == ["live"]
    assert store.span() == (4, 5)


def test_an_outcome_of_an_unknown_kind_is_as_good_as_none(caplog):
    book, store = make_book(), Store(None)
    book.finish(submitted(book), make_built())
    keep(store, book)
    store._db.execute('UPDATE outcome SET outcome = \'{"kind":"dreamt"}\'')
    assert store.finished("job") is None
    assert "outcome cannot be read job=job" in caplog.text


def test_a_job_of_an_unknown_kind_is_as_good_as_none(caplog):
    book, store = make_book(), Store(None)
    submitted(book)
    keep(store, book)
    store._db.execute("UPDATE content SET job = 'what?'")
    assert store.content("job") is None
    assert "job cannot be read job=job" in caplog.text


NAMES = ("run-r1-a", "run-r1-b", "run-r1-c")
"""Of one session: whose turn it was is not kept."""
LEASED = {State.LEASED, State.RUNNING}
UNENDED = {State.QUEUED, *LEASED, State.CANCELLING}
LEGAL = {
    "lease": {State.QUEUED},
    "start": {State.LEASED},
    "cancel": LEASED,
    "requeue": LEASED,
    "finish": UNENDED,
    "unserved": UNENDED,
}


def move_on(book, move, name, token):
    """Make a move if it is legal."""
    ticket = book.known(name)
    if ticket is None or ticket.outcome == unserved(name):
        submitted(book, name)
    elif ticket.state in LEGAL[move]:
        {
            "lease": lambda: book.lease(ticket, "w1", token, beat=0),
            "start": lambda: book.start(ticket),
            "cancel": lambda: book.cancel(ticket),
            "requeue": lambda: book.requeue(ticket, "lost"),
            "finish": lambda: book.finish(ticket, make_built(name)),
            "unserved": lambda: book.finish(ticket, unserved(name)),
        }[move]()


def unserved(name):
    return UNSERVED.model_copy(update={"job_id": name})


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(LEGAL)), st.sampled_from(NAMES), st.booleans()),
        max_size=40,
    )
)
def test_the_database_agrees_with_the_book_however_commits_fall(moves):
    book, store = make_book(), Store(None)
    for token, (move, name, is_commit) in enumerate(moves, start=1):
        move_on(book, move, name, token)
        if is_commit:
            keep(store, book)
    keep(store, book)
    living = [row_of(t) for t in book if t.outcome is None]
    assert list(store.rows()) == sorted(living, key=lambda row: row.rank)
    for ticket in book:
        finished = store.finished(ticket.job_id)
        assert (finished.outcome if finished else None) == ticket.outcome
    restored = make_book()
    restored.restore(store.restored())
    assert [row_of(t) for t in restored] == list(store.rows())
    assert list(restored.queue) == list(book.queue)


def test_keeping_the_same_entries_twice_changes_no_job():
    book, store = make_book(), Store(None)
    book.finish(submitted(book), make_built())
    submitted(book, "live")
    entries: tuple[Entry, ...] = book.entries()
    store.keep(entries, epoch=1, at_s=0.0)
    before = (list(store.rows()), store.finished("job"))
    store.keep(entries, epoch=1, at_s=0.0)
    assert (list(store.rows()), store.finished("job")) == before
