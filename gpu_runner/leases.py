"""Who has which job: the book and the roster kept in step, and what is sent because of it.

Pure. The two desks (`client_desk.py`, `worker_desk.py`) say what is asked; every lease, loss and
end of a job happens here.
"""

from dataclasses import dataclass
from typing import NamedTuple

from gpu_runner import wire
from gpu_runner.book import Book
from gpu_runner.dispatch import Dispatch
from gpu_runner.jobs import AnyOutcome
from gpu_runner.journal import Archive, Entry, Restored
from gpu_runner.operations import Change
from gpu_runner.outcomes import cancelled
from gpu_runner.roster import Member, Roster
from gpu_runner.ticket import Ticket
from gpu_runner.wire import Refusal, State

EPOCH_SHIFT = 32
"""Tokens of one epoch; no broker leases 2^32 jobs."""


@dataclass(frozen=True, kw_only=True)
class PoolPlan:
    """What the pool is told when it starts."""

    epoch: int
    """Larger than that of every earlier broker of these workers."""
    beat_s: float = 2.0
    lease_s: float = 20.0
    settle_s: float = 20.0
    """After its start the pool leases nothing for so long, so that workers that still run jobs
    of the previous broker can say so first; otherwise such a job would run twice. Shorter than
    `lease_s` is safe only where no earlier broker has leased anything."""
    expected_workers: int = 0
    """The pool is settled as soon as so many workers are registered; 0: not known."""
    crash_budget: int = 3
    """Lost runners a job may be charged with."""
    loss_budget: int = 10
    """Lost leases of any kind; ends a job that kills its worker before it is seen to run."""
    most_live: int = 20_000
    """Unfinished jobs; a further submission is refused as busy."""
    most_of_session: int = 5000
    """Of these of one session, so that one cannot keep the others out."""
    most_drain_s: float = 60.0
    """How long builds are held back on a worker for a job that wants all of it."""
    most_finished: int = 32
    """Outcomes kept for repeated questions; older ones are in the workers' spools."""
    retry_after_s: float = 1.0


class Send(NamedTuple):
    """A message and whom it is for."""

    peer: bytes
    message: wire.FromBroker


Sends = tuple[Send, ...]


class Leases:
    """Jobs, workers, and what is to be sent."""

    def __init__(self, plan: PoolPlan, now_s: float, archive: Archive | None = None) -> None:
        self.plan = plan
        self.now_s = now_s
        self.last_token = plan.epoch << EPOCH_SHIFT
        self.roster = Roster(beat_s=plan.beat_s, lease_s=plan.lease_s)
        self.book = Book(most_finished=plan.most_finished, archive=archive)
        self.dispatch = Dispatch(self.book, self.roster, most_drain_s=plan.most_drain_s)
        self._settled_at_s = now_s + plan.settle_s
        self._sends: list[Send] = []

    def restore(self, restored: Restored) -> None:
        """Go on with the jobs of the broker before.

        What was leased is its worker's until that worker says otherwise, or is silent for as long
        as a lease lasts from now.
        """
        self.book.now_s = self.now_s
        self.book.restore(restored)
        self.roster.restrictions.update(restored.restrictions)
        for row in restored.rows:
            self.last_token = max(self.last_token, row.token or 0)
            if row.owner is not None and row.state is not State.QUEUED:
                member = self.roster.expect(row.owner, self.now_s)
                member.incarnation = restored.incarnations.get(row.owner, "")
                member.held.add(row.job_id)

    def advance(self, now_s: float) -> None:
        """Let time pass.

        Raises:
            ValueError: it went backwards.
        """
        if now_s < self.now_s:
            msg = f"time went back from {self.now_s} to {now_s}; give a monotonic clock"
            raise ValueError(msg)
        self.now_s = self.book.now_s = now_s

    def expire(self) -> None:
        """End the jobs that no worker took in time."""
        for ticket in self.book.overdue():
            self.finish(ticket, ticket.expired())

    # -- jobs ----------------------------------------------------------------------------------

    def held_by(self, member: Member) -> tuple[Ticket, ...]:
        """Return the live jobs of a worker."""
        held = (self.book.known(job_id) for job_id in sorted(member.held))
        return tuple(ticket for ticket in held if ticket is not None)

    def lose(self, ticket: Ticket, why: str, *, is_charged: bool, is_counted: bool = True) -> None:
        """End a lease that gave no outcome.

        Args:
            ticket: of the job.
            why: for its story.
            is_charged: its worker died of it, as far as is known.
            is_counted: its worker may have died of it; else it was never told of the lease.
        """
        ticket.losses += is_counted
        ticket.crashes += is_charged
        if ticket.state is State.CANCELLING:
            self.finish(ticket, cancelled(ticket.job_id))
            return
        is_spent = (
            ticket.crashes >= self.plan.crash_budget or ticket.losses >= self.plan.loss_budget
        )
        if is_spent:
            ticket.note(why, self.now_s)
            self.finish(ticket, ticket.runner_lost())
            return
        self._release(ticket)
        if ticket.job is None and not ticket.is_stored:
            self._forget(ticket, why)
        else:
            self.book.requeue(ticket, why)

    def finish(self, ticket: Ticket, outcome: AnyOutcome) -> None:
        """End a job and tell those who wait."""
        self._release(ticket)
        self.book.finish(ticket, outcome)
        for peer in sorted(ticket.waiters):
            self.send(peer, wire.Result(outcome=outcome))
        ticket.waiters.clear()

    def abort(self, ticket: Ticket) -> None:
        """Ask the worker that has a job to kill it."""
        member = self.roster.named(ticket.owner or "")
        if member is not None and member.peer is not None and ticket.token is not None:
            self.send(member.peer, wire.Abort(job_id=ticket.job_id, token=ticket.token))

    def dismiss(self, member: Member, why: str, *, is_charged: bool) -> None:
        """Take a worker off the list, and its jobs from it."""
        self.roster.remove(member)
        self.book.note(Entry(change=Change.LEFT, worker=member.name, detail=why))
        for ticket in self.held_by(member):
            self.lose(ticket, why, is_charged=is_charged and ticket.state is State.RUNNING)

    def settle(self) -> None:
        """Lease from now on: everybody who is expected is here."""
        self._settled_at_s = min(self._settled_at_s, self.now_s)

    def _forget(self, ticket: Ticket, why: str) -> None:
        """Drop a job whose content only a client knows; those who wait submit it again."""
        self.book.forget(ticket, why)
        text = f"job {ticket.job_id!r} was lost: {why}; submit it again"
        for peer in sorted(ticket.waiters):
            self.refuse(peer, ticket.job_id, Refusal.UNKNOWN, text)

    def _release(self, ticket: Ticket) -> None:
        member = self.roster.named(ticket.owner or "")
        if member is not None:
            member.held.discard(ticket.job_id)

    # -- sending -------------------------------------------------------------------------------

    def send(self, peer: bytes, message: wire.FromBroker) -> None:
        """Have a message sent with the next flush."""
        self._sends.append(Send(peer, message))

    def refuse(self, peer: bytes, job_id: str, code: Refusal, text: str) -> None:
        """Say that a message had no effect."""
        retry_after_s = self.plan.retry_after_s if code is Refusal.BUSY else None
        refused = wire.Refused(job_id=job_id, code=code, message=text, retry_after_s=retry_after_s)
        self.send(peer, refused)

    def flush(self) -> Sends:
        """Lease what can be leased; return everything that is to be sent, in order."""
        self._lease_what_can_be()
        sends, self._sends = tuple(self._sends), []
        return sends

    def _lease_what_can_be(self) -> None:
        if self.now_s < self._settled_at_s:
            return
        for ticket, member in self.dispatch.pairs(self.now_s):
            job = self.book.content(ticket)
            if job is None:
                self._forget(ticket, "its stored content cannot be read")
                continue
            assert member.peer is not None, "a worker that cannot be reached has no free slot"
            self.last_token += 1
            self.book.lease(ticket, member.name, self.last_token, beat=member.seq)
            member.held.add(ticket.job_id)
            self.send(member.peer, wire.Lease(token=self.last_token, job=job))
