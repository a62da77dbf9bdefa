"""What the broker knows of jobs: their tickets, the queue, and an entry for every change.

Pure. Each move of a ticket goes through here, so that none is left out of the journal. Who may
make which move, and who is told, is decided in `pool.py`.
"""

from collections import deque
from collections.abc import Iterator, Sequence

from gpu_runner.jobs import AnyJob, AnyOutcome
from gpu_runner.journal import Archive, Change, Entry, NoArchive, Row
from gpu_runner.queueing import Queue
from gpu_runner.ticket import Ticket
from gpu_runner.wire import Held, State


class Book:
    """Tickets by job id."""

    def __init__(self, *, most_finished: int, archive: Archive | None = None) -> None:
        """Begin with nothing.

        Args:
            most_finished: ended jobs kept in memory; older ones are the archive's.
            archive: where to look for ended jobs that are not in memory.
        """
        self._most_finished = most_finished
        self._archive = archive or NoArchive()
        self._tickets: dict[str, Ticket] = {}
        self._finished: deque[Ticket] = deque()
        self._entries: list[Entry] = []
        self._last_rank = 0
        self.queue = Queue()
        self.live = 0
        """Jobs that have not ended."""
        self.now_s = 0.0

    def __iter__(self) -> Iterator[Ticket]:
        return iter(tuple(self._tickets.values()))

    def find(self, job_id: str) -> Ticket | None:
        """Return the ticket of a job; one that ended long ago is fetched from the archive."""
        ticket = self._tickets.get(job_id)
        if ticket is None and (kept := self._archive.finished(job_id)) is not None:
            ticket = Ticket(job_id, kept.spec_digest, None, state=State.FINISHED)
            ticket.token, ticket.owner, ticket.outcome = kept.token, kept.owner, kept.outcome
            self._tickets[job_id] = ticket
            self._remember(ticket)
        return ticket

    def known(self, job_id: str) -> Ticket | None:
        """Return the ticket of a job that is in memory, as every live one is."""
        return self._tickets.get(job_id)

    def entries(self) -> tuple[Entry, ...]:
        """Hand over what was written since this was last called, in order."""
        entries, self._entries = tuple(self._entries), []
        return entries

    def note(self, entry: Entry) -> None:
        """Write down what is not a move of a ticket."""
        self._entries.append(entry)

    def restore(self, rows: Sequence[Row], last_rank: int) -> None:
        """Take over the jobs that had not ended when the last broker did; nothing is written."""
        self._last_rank = max(last_rank, *(row.rank for row in rows), 0)
        for row in rows:
            ticket = Ticket(row.job_id, row.spec_digest, None, state=row.state, rank=row.rank)
            ticket.token, ticket.owner, ticket.is_stored = row.token, row.owner, row.is_stored
            ticket.crashes, ticket.losses = row.crashes, row.losses
            ticket.note(f"restored as {row.state}", self.now_s)
            self._tickets[row.job_id] = ticket
            self.live += 1
            if row.state is State.QUEUED:
                self.queue.add(row.job_id, row.rank)

    def content(self, ticket: Ticket) -> AnyJob | None:
        """Return the job itself; None where nobody here knows it."""
        if ticket.job is None and ticket.is_stored:
            return self._archive.content(ticket.job_id)
        return ticket.job

    # -- moves ---------------------------------------------------------------------------------

    def submit(self, job: AnyJob, spec_digest: str) -> Ticket:
        """Open a ticket and queue it; an earlier one of the id has ended unserved."""
        ticket = Ticket(job.job_id, spec_digest, job, rank=self._next_rank())
        ticket.note("submitted", self.now_s)
        self._tickets[job.job_id] = ticket
        self.live += 1
        self.queue.add(ticket.job_id, ticket.rank)
        self._write(Change.SUBMITTED, ticket, job=job)
        return ticket

    def adopt(self, held: Held, worker: str) -> None:
        """Take over an execution of a worker: of a queued job, or of one unknown here."""
        ticket = self._tickets.get(held.job_id)
        if ticket is None:
            ticket = Ticket(held.job_id, held.spec_digest, None, rank=self._next_rank())
            self._tickets[held.job_id] = ticket
            self.live += 1
        else:
            self.queue.remove(held.job_id)
        ticket.adopt(worker, held.token, self.now_s)
        self._write(Change.ADOPTED, ticket)

    def learn(self, ticket: Ticket, job: AnyJob) -> None:
        """Note the content of a job that was adopted without it."""
        ticket.job = job
        self._write(Change.SUBMITTED, ticket, job=job)

    def lease(self, ticket: Ticket, worker: str, token: int, *, beat: int) -> None:
        """Hand a queued job to a worker."""
        ticket.lease(worker, token, self.now_s, beat=beat)
        self.queue.remove(ticket.job_id)
        self._write(Change.LEASED, ticket)

    def start(self, ticket: Ticket) -> None:
        """Note that a leased job runs."""
        ticket.start(self.now_s)
        self._write(Change.STARTED, ticket)

    def cancel(self, ticket: Ticket) -> None:
        """Note that a job is being cancelled by its worker."""
        ticket.cancel(self.now_s)
        self._write(Change.CANCELLING, ticket)

    def requeue(self, ticket: Ticket, why: str) -> None:
        """Put a job whose lease gave no outcome back in its place."""
        ticket.requeue(why, self.now_s)
        self.queue.add(ticket.job_id, ticket.rank)
        self._write(Change.REQUEUED, ticket, detail=why)

    def forget(self, ticket: Ticket, why: str) -> None:
        """Drop a job whose content nobody here knows."""
        if ticket.state is State.QUEUED:
            self.queue.remove(ticket.job_id)
        else:
            ticket.requeue(why, self.now_s)
        del self._tickets[ticket.job_id]
        self.live -= 1
        self.note(Entry(change=Change.FORGOTTEN, job_id=ticket.job_id, detail=why))

    def finish(self, ticket: Ticket, outcome: AnyOutcome) -> None:
        """End a job."""
        was_queued = ticket.state is State.QUEUED
        ticket.finish(outcome, self.now_s)
        if was_queued:
            self.queue.remove(ticket.job_id)
        self.live -= 1
        self._write(Change.FINISHED, ticket, detail=outcome.kind, outcome=outcome)
        self._remember(ticket)

    # -- keeping -------------------------------------------------------------------------------

    def _remember(self, ticket: Ticket) -> None:
        self._finished.append(ticket)
        while len(self._finished) > self._most_finished:
            old = self._finished.popleft()
            if self._tickets.get(old.job_id) is old:
                del self._tickets[old.job_id]

    def _next_rank(self) -> int:
        self._last_rank += 1
        return self._last_rank

    def _write(
        self,
        change: Change,
        ticket: Ticket,
        *,
        detail: str = "",
        job: AnyJob | None = None,
        outcome: AnyOutcome | None = None,
    ) -> None:
        entry = Entry(
            change=change,
            job_id=ticket.job_id,
            worker=ticket.owner,
            detail=detail,
            row=row_of(ticket),
            job=job,
            outcome=outcome,
        )
        self._entries.append(entry)


def row_of(ticket: Ticket) -> Row:
    """Return what has to be known of a ticket after a restart."""
    return Row(
        job_id=ticket.job_id,
        spec_digest=ticket.spec_digest,
        state=ticket.state,
        rank=ticket.rank,
        token=ticket.token,
        owner=ticket.owner,
        crashes=ticket.crashes,
        losses=ticket.losses,
        is_stored=ticket.is_stored or ticket.job is not None,
    )
