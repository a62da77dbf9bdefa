"""The thread that keeps entries: what it says is kept is kept, and its end is the broker's."""

import select

import pytest

from gpu_runner.book import Book
from gpu_runner.journal import Restored
from gpu_runner.keeping import MemoryKeeper, StoreKeeper
from gpu_runner.message import digest_of
from gpu_runner.operations import Change
from gpu_runner.store import FILE_NAME, Store, StoreFailed
from tests.gpu_runner.executors import make_built, make_job


@pytest.fixture
def keeper(tmp_path):
    keeper = StoreKeeper(tmp_path, 1)
    yield keeper
    keeper.close()


def submit(book, name="job"):
    job = make_job(name)
    return book.submit(job, digest_of(job))


def wait_for(keeper, batch):
    """The number of the newest kept batch, once `batch` is."""
    poll = select.poll()
    poll.register(keeper.fileno, select.POLLIN)
    while (committed := keeper.committed()) < batch:
        assert poll.poll(10_000), "nothing was kept"
    return committed


def test_what_is_said_to_be_kept_is_in_the_file(keeper, tmp_path):
    book = Book(most_finished=9)
    submit(book)
    batch = keeper.write(book.entries())
    assert wait_for(keeper, batch) == batch == 1
    assert [row.job_id for row in Store(tmp_path / FILE_NAME, is_reader=True).rows()] == ["job"]


def test_nothing_written_is_nothing_to_wait_for(keeper):
    assert keeper.write(()) == keeper.committed() == 0


def test_a_start_waits_for_the_next_entry_that_matters_or_a_flush(keeper):
    book = Book(most_finished=9)
    ticket = submit(book)
    book.lease(ticket, "w1", 1, beat=0)
    first = keeper.write(book.entries())
    book.start(ticket)
    assert keeper.write(book.entries()) == first
    keeper.flush()
    keeper.flush()
    wait_for(keeper, first + 1)
    assert [e.change for e in keeper._reader.events(0, 9)] == [
        Change.SUBMITTED,
        Change.LEASED,
        Change.STARTED,
    ]


def test_many_batches_are_kept_in_order(keeper):
    book = Book(most_finished=9)
    for number in range(200):
        submit(book, f"job-{number}")
        batch = keeper.write(book.entries())
    assert wait_for(keeper, batch) == 200
    assert [e.job_id for e in keeper._reader.events(0, 300)] == [f"job-{n}" for n in range(200)]


def test_an_outcome_is_found_before_and_after_it_is_kept(keeper):
    book = Book(most_finished=9)
    book.finish(submit(book), make_built())
    batch = keeper.write(book.entries())
    fresh = keeper.finished("job")
    wait_for(keeper, batch)
    assert keeper.finished("job") == fresh
    assert fresh is not None
    assert (fresh.outcome, keeper._fresh) == (make_built(), {})
    assert keeper.finished("other") is None


def test_the_next_broker_goes_on_where_this_one_was_closed(tmp_path):
    first = StoreKeeper(tmp_path, 4)
    book = Book(most_finished=9)
    ticket = submit(book)
    submit(book, "second")
    book.finish(ticket, make_built())
    first.write(book.entries())
    assert (first.is_new, first.epoch) == (True, 4)
    first.close()
    second = StoreKeeper(tmp_path, 2)
    restored = second.restored()
    assert ([row.job_id for row in restored.rows], restored.last_rank) == (["second"], 2)
    assert (second.is_new, second.epoch) == (False, 5)
    assert second.content("second") == make_job("second")
    second.close()


def test_old_events_are_deleted_while_it_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("gpu_runner.keeping.MOST_EVENTS", 30)
    monkeypatch.setattr("gpu_runner.keeping._PRUNE_EVERY", 20)
    keeper, book = StoreKeeper(tmp_path, 1), Book(most_finished=9)
    for number in range(100):
        submit(book, f"job-{number}")
        batch = keeper.write(book.entries())
        wait_for(keeper, batch)
    first, last = keeper.span()
    assert (last, 30 <= last - first + 1 <= 50) == (100, True)
    keeper.close()


def test_a_disk_that_fails_is_said_at_every_further_question(keeper, caplog):
    (pages,) = keeper._store._db.execute("PRAGMA page_count").fetchone()
    keeper._store._db.execute(f"PRAGMA max_page_count = {pages}")
    book = Book(most_finished=9)
    for number in range(60):
        submit(book, f"job-{number}")
    batch = keeper.write(book.entries())
    with pytest.raises(StoreFailed, match="full"):
        wait_for(keeper, batch)
    with pytest.raises(StoreFailed, match="start the broker again"):
        keeper.committed()
    assert "the broker's database" in caplog.text


def test_a_broker_in_memory_waits_for_nothing():
    keeper, book = MemoryKeeper(7), Book(most_finished=9)
    submit(book)
    assert keeper.write(book.entries()) == keeper.committed() == 0
    assert (keeper.restored(), keeper.finished("job"), keeper.content("job")) == (
        Restored(),
        None,
        None,
    )
    (event,) = keeper.fresh()
    assert (event.seq, event.epoch, event.change) == (1, 7, Change.SUBMITTED)
    assert (keeper.fresh(), keeper.events(0, 9), keeper.events(1, 9)) == ((), (event,), ())
    assert keeper.span() == (1, 1)
    assert keeper.fileno is None
    keeper.flush()
    keeper.close()
