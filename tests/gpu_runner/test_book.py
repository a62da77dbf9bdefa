"""Every move of a ticket is written down, and what is written tells the whole state."""

from dataclasses import replace

from gpu_runner.book import Book, row_of
from gpu_runner.journal import Finished
from gpu_runner.message import digest_of
from gpu_runner.operations import Change
from gpu_runner.terms import terms_of
from gpu_runner.wire import State
from tests.gpu_runner.executors import make_built, make_job
from tests.gpu_runner.pool_cases import held


class Shelf:
    """An archive with one ended job."""

    def __init__(self, job):
        self.asked: list[str] = []
        self.job = job

    def finished(self, job_id):
        self.asked.append(job_id)
        if job_id != self.job.job_id:
            return None
        return Finished(
            spec_digest=digest_of(self.job), token=7, owner="w1", outcome=make_built(job_id)
        )

    def content(self, job_id):
        return None

    def events(self, after_seq, limit):
        return ()

    def span(self):
        return 0, 0


def make_book(archive=None, most_finished=2):
    return Book(most_finished=most_finished, archive=archive)


def submitted(book, name="job"):
    job = make_job(name)
    return book.submit(job, digest_of(job))


def changes(book):
    return [entry.change for entry in book.entries()]


def test_each_move_is_one_entry_with_the_job_as_it_stands():
    book = make_book()
    ticket = submitted(book)
    moves = [
        (Change.LEASED, lambda: book.lease(ticket, "w1", 7, beat=0)),
        (Change.STARTED, lambda: book.start(ticket)),
        (Change.REQUEUED, lambda: book.requeue(ticket, "lost")),
        (Change.LEASED, lambda: book.lease(ticket, "w2", 8, beat=0)),
        (Change.CANCELLING, lambda: book.cancel(ticket)),
        (Change.FINISHED, lambda: book.finish(ticket, make_built())),
    ]
    (first,) = book.entries()
    assert (first.change, first.job, first.row) == (Change.SUBMITTED, make_job(), row_of(ticket))
    for change, move in moves:
        move()
        (entry,) = book.entries()
        assert (entry.change, entry.job_id, entry.worker) == (change, "job", ticket.owner)
        assert entry.row == row_of(ticket)
    assert entry.outcome == make_built()
    assert book.entries() == ()


def test_the_queue_and_the_count_of_the_living_follow_the_moves():
    book = make_book()
    first, second = submitted(book, "run-r1-a"), submitted(book, "run-r1-b")
    assert (list(book.queue), book.live) == (["run-r1-a", "run-r1-b"], 2)
    book.lease(first, "w1", 1, beat=0)
    assert list(book.queue) == ["run-r1-b"]
    book.requeue(first, "lost")
    assert list(book.queue) == ["run-r1-a", "run-r1-b"]  # it keeps its place in its session
    book.finish(second, make_built("run-r1-b"))
    assert (list(book.queue), book.live) == (["run-r1-a"], 1)
    assert book.sessions == {"run": 1}


def test_an_adopted_job_is_forgotten_without_a_trace():
    book = make_book()
    book.adopt(held(make_job(), 5), "w1")
    ticket = book.known("job")
    assert ticket is not None
    assert (ticket.state, book.live) == (State.RUNNING, 1)
    book.forget(ticket, "lost")
    assert (book.known("job"), book.live) == (None, 0)
    assert changes(book) == [Change.ADOPTED, Change.FORGOTTEN]


def test_an_adopted_job_learns_its_content():
    book, job = make_book(), make_job()
    book.adopt(held(job, 5), "w1")
    ticket = book.known("job")
    assert ticket is not None
    book.learn(ticket, job, terms_of(job, session="mine"))
    adopted, learnt = book.entries()
    assert (adopted.job, learnt.job) == (None, job)
    assert (book.live, book.sessions) == (1, {"mine": 1})
    assert learnt.row == replace(adopted.row, terms=ticket.terms, is_stored=True)


def test_the_newest_ended_jobs_stay_in_memory():
    book = make_book(most_finished=2)
    for name in ("a", "b", "c"):
        book.finish(submitted(book, name), make_built(name))
    assert [book.known(name) is not None for name in ("a", "b", "c")] == [False, True, True]


def test_an_ended_job_is_fetched_from_the_archive_once():
    shelf = Shelf(make_job("old"))
    book = make_book(shelf)
    ticket = book.find("old")
    assert ticket is not None
    assert (ticket.state, ticket.outcome) == (State.FINISHED, make_built("old"))
    assert (ticket.token, ticket.owner) == (7, "w1")
    assert book.find("old") is ticket
    assert book.find("new") is None
    assert shelf.asked == ["old", "new"]
    assert (book.live, book.entries()) == (0, ())
