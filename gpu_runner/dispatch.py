"""Which worker gets which job next. Pure.

What measures or runs a kernel owns its worker; builds share one that has several slots. Builds go
to workers without a GPU first. A job that owns its worker, waiting for one on which builds run,
stops further builds there for a while, or it would wait for all of them.
"""

from collections.abc import Iterator

from gpu_runner.book import Book
from gpu_runner.roster import Member, Roster
from gpu_runner.terms import Demand
from gpu_runner.ticket import Ticket


class Dispatch:
    """Pairs of a waiting job and the worker that gets it."""

    def __init__(self, book: Book, roster: Roster, *, most_drain_s: float) -> None:
        """Look at a book and a roster that others change.

        Args:
            book: the jobs.
            roster: the workers.
            most_drain_s: how long a worker may stand partly idle for a job that wants all of it;
                builds are let in again for as long after that.
        """
        self._book = book
        self._roster = roster
        self._most_drain_s = most_drain_s

    def pairs(self, now_s: float) -> Iterator[tuple[Ticket, Member]]:
        """Yield the next job and its worker, until no free worker may take any that waits.

        The caller leases or drops each job before it asks for the next pair.
        """
        for member in sorted(self._roster, key=lambda member: "gpu" in member.tags):
            while self._book.queue and (ticket := self._next_for(member, now_s)) is not None:
                yield ticket, member

    def servers(self, demand: Demand) -> int:
        """Return how many registered workers may serve a demand, now or later."""
        return sum(self._serves(member, demand) for member in self._roster)

    def _next_for(self, member: Member, now_s: float) -> Ticket | None:
        if not (member.has_free_slot and self._roster.is_open(member)):
            return None
        held = [ticket for job in member.held if (ticket := self._book.known(job)) is not None]
        if not all(ticket.terms.demand.is_shared for ticket in held):
            return None
        if not held:
            member.drained_since_s = None
        lowest = self._lowest_priority(member, now_s) if held else 0

        def accepts(demand: Demand) -> bool:
            return (demand.is_shared or not held) and self._serves(member, demand)

        for job_id, terms in self._book.queue.candidates(accepts):
            if terms.priority < lowest:
                return None
            if not self._is_awaited_elsewhere(job_id, member):
                return self._book.known(job_id)
        return None

    def _serves(self, member: Member, demand: Demand) -> bool:
        if not demand.need <= member.tags:
            return False
        return demand.wish <= member.tags or not any(demand.wish <= m.tags for m in self._roster)

    def _is_awaited_elsewhere(self, job_id: str, member: Member) -> bool:
        """Whether other workers have the outcome: here the job would be executed once more."""
        holders = [m for m in self._roster if job_id in m.spooled and self._roster.is_open(m)]
        return bool(holders) and member not in holders

    def _lowest_priority(self, member: Member, now_s: float) -> int:
        """Return the priority that a further build needs on a worker where builds run."""

        def owns(demand: Demand) -> bool:
            return not demand.is_shared and self._serves(member, demand)

        waiting = next(self._book.queue.candidates(owns), None)
        if waiting is None:
            member.drained_since_s = None
            return 0
        if member.drained_since_s is None:
            owners = sum(n for d, n in self._book.queue.waiting.items() if not d.is_shared)
            if sum(m.drained_since_s is not None for m in self._roster) >= owners:
                return 0
            member.drained_since_s = now_s
        elif now_s - member.drained_since_s >= 2 * self._most_drain_s:
            member.drained_since_s = now_s
        _, terms = waiting
        is_draining = now_s - member.drained_since_s < self._most_drain_s
        return terms.priority + 1 if is_draining else 0
