"""What the broker knows of jobs: their tickets, the queue, and an entry for every change.

Pure. Each move of a ticket goes through here, so that none is left out of the journal. Who may
make which move, and who is told, is decided in `pool.py`.
"""

from collections import Counter, deque
from collections.abc import Iterator
from heapq import heappop, heappush

from gpu_runner.jobs import AnyJob, AnyOutcome
from gpu_runner.journal import Archive, Entry, NoArchive, Restored, Row
from gpu_runner.operations import Change
from gpu_runner.queueing import Queue
from gpu_runner.tally import Tally
from gpu_runner.terms import Terms, session_of, terms_of
from gpu_runner.ticket import Ticket
from gpu_runner.wire import Held, State

_LOOK_AGAIN_S = 1.0
"""When a job that was leased at its deadline is looked at again."""


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
        self.sessions: Counter[str] = Counter()
        """The same by session."""
        self.tally = Tally()
        self._deadlines: list[tuple[float, int, str]] = []
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

    def restore(self, restored: Restored) -> None:
        """Take over the jobs that had not ended when the last broker did; nothing is written."""
        self._last_rank = restored.last_rank
        for row in restored.rows:
            ticket = Ticket(row.job_id, row.spec_digest, None, state=row.state, rank=row.rank)
            ticket.token, ticket.owner, ticket.is_stored = row.token, row.owner, row.is_stored
            ticket.crashes, ticket.losses, ticket.terms = row.crashes, row.losses, row.terms
            ticket.note(f"restored as {row.state}", self.now_s)
            ticket.queued_s = self.now_s
            self._open(ticket)
            if row.state is State.QUEUED:
                self.queue.add(row.job_id, row.rank, row.terms)
            if row.left_s is not None:
                self._set_deadline(ticket, row.left_s)

    def content(self, ticket: Ticket) -> AnyJob | None:
        """Return the job itself; None where nobody here knows it."""
        if ticket.job is None and ticket.is_stored:
            return self._archive.content(ticket.job_id)
        return ticket.job

    # -- moves ---------------------------------------------------------------------------------

    def submit(
        self,
        job: AnyJob,
        spec_digest: str,
        terms: Terms | None = None,
        *,
        deadline_s: float | None = None,
    ) -> Ticket:
        """Open a ticket and queue it; an earlier one of the id has ended unserved.

        Args:
            job: what to run.
            spec_digest: of the job.
            terms: by default those that follow from the job.
            deadline_s: how long it may wait for a worker, from now.
        """
        ticket = Ticket(job.job_id, spec_digest, job, rank=self._next_rank())
        ticket.terms, ticket.queued_s = terms or terms_of(job), self.now_s
        ticket.note("submitted", self.now_s)
        self._open(ticket)
        self.queue.add(ticket.job_id, ticket.rank, ticket.terms)
        if deadline_s is not None:
            self._set_deadline(ticket, deadline_s)
        self._write(Change.SUBMITTED, ticket, job=job)
        return ticket

    def adopt(self, held: Held, worker: str) -> None:
        """Take over an execution of a worker: of a queued job, or of one unknown here."""
        ticket = self._tickets.get(held.job_id)
        if ticket is None:
            ticket = Ticket(held.job_id, held.spec_digest, None, rank=self._next_rank())
            ticket.terms = Terms(session=session_of(held.job_id))
            self._open(ticket)
        else:
            self.queue.remove(held.job_id)
        ticket.adopt(worker, held.token, self.now_s)
        self._write(Change.ADOPTED, ticket)

    def learn(self, ticket: Ticket, job: AnyJob, terms: Terms) -> None:
        """Note the content of a job that was adopted without it."""
        self._close(ticket)
        ticket.job, ticket.terms = job, terms
        self._open(ticket)
        self._write(Change.SUBMITTED, ticket, job=job)

    def lease(self, ticket: Ticket, worker: str, token: int, *, beat: int) -> None:
        """Hand a queued job to a worker."""
        ticket.lease(worker, token, self.now_s, beat=beat)
        self.queue.serve(ticket.job_id)
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
        self.queue.add(ticket.job_id, ticket.rank, ticket.terms)
        self._write(Change.REQUEUED, ticket, detail=why)

    def forget(self, ticket: Ticket, why: str) -> None:
        """Drop a job whose content nobody here knows."""
        if ticket.state is State.QUEUED:
            self.queue.remove(ticket.job_id)
        else:
            ticket.requeue(why, self.now_s)
        self._close(ticket)
        del self._tickets[ticket.job_id]
        self.note(Entry(change=Change.FORGOTTEN, job_id=ticket.job_id, detail=why))

    def finish(self, ticket: Ticket, outcome: AnyOutcome) -> None:
        """End a job."""
        was_queued = ticket.state is State.QUEUED
        ticket.finish(outcome, self.now_s)
        if was_queued:
            self.queue.remove(ticket.job_id)
        self._close(ticket)
        leased_s = ticket.leased_s
        self.tally.add(
            ticket.terms.kind,
            outcome,
            wait_s=None if leased_s is None else max(0.0, leased_s - ticket.queued_s),
            run_s=None if leased_s is None else self.now_s - leased_s,
        )
        self._write(Change.FINISHED, ticket, detail=outcome.kind, outcome=outcome)
        self._remember(ticket)

    def overdue(self) -> Iterator[Ticket]:
        """Yield, once, the jobs that still wait at their deadline."""
        while self._deadlines and self._deadlines[0][0] <= self.now_s:
            _, rank, job_id = heappop(self._deadlines)
            ticket = self._tickets.get(job_id)
            if ticket is None or ticket.rank != rank:
                continue
            if ticket.state is State.QUEUED:
                yield ticket
            elif ticket.is_live:  # it may come back to the queue
                heappush(self._deadlines, (self.now_s + _LOOK_AGAIN_S, rank, job_id))

    # -- keeping -------------------------------------------------------------------------------

    def _remember(self, ticket: Ticket) -> None:
        self._finished.append(ticket)
        while len(self._finished) > self._most_finished:
            old = self._finished.popleft()
            if self._tickets.get(old.job_id) is old:
                del self._tickets[old.job_id]

    def _open(self, ticket: Ticket) -> None:
        self._tickets[ticket.job_id] = ticket
        self.live += 1
        self.sessions[ticket.terms.session] += 1

    def _close(self, ticket: Ticket) -> None:
        session = ticket.terms.session
        self.live -= 1
        self.sessions[session] -= 1
        if not self.sessions[session]:
            del self.sessions[session]

    def _set_deadline(self, ticket: Ticket, left_s: float) -> None:
        ticket.deadline_s = self.now_s + left_s
        heappush(self._deadlines, (ticket.deadline_s, ticket.rank, ticket.job_id))

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
            row=row_of(ticket, self.now_s),
            job=job,
            outcome=outcome,
        )
        self._entries.append(entry)


def row_of(ticket: Ticket, now_s: float = 0.0) -> Row:
    """Return what has to be known of a ticket after a restart; its deadline counts from `now_s`."""
    return Row(
        job_id=ticket.job_id,
        spec_digest=ticket.spec_digest,
        state=ticket.state,
        rank=ticket.rank,
        token=ticket.token,
        owner=ticket.owner,
        crashes=ticket.crashes,
        losses=ticket.losses,
        terms=ticket.terms,
        left_s=None if ticket.deadline_s is None else ticket.deadline_s - now_s,
        is_stored=ticket.is_stored or ticket.job is not None,
    )
