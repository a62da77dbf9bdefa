"""What clients ask of the pool: submit, wait, cancel, describe. Pure."""

from typing import assert_never

from gpu_runner import wire
from gpu_runner.leases import Leases
from gpu_runner.message import digest_of
from gpu_runner.outcomes import cancelled, is_final
from gpu_runner.terms import Terms, terms_of
from gpu_runner.wire import Refusal, State


class ClientDesk:
    """Serves clients."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._book = leases.book

    def receive(
        self, peer: bytes, message: wire.Submit | wire.Wait | wire.Cancel | wire.Describe
    ) -> None:
        """Take in one message."""
        match message:
            case wire.Submit():
                self._submit(peer, message)
            case wire.Wait():
                self._wait(peer, message.job_id)
            case wire.Cancel():
                self._cancel(peer, message.job_id)
            case wire.Describe():
                self._describe(peer)
            case _:
                assert_never(message)

    def forget(self, peer: bytes) -> None:
        """Note that nobody waits at `peer` any more."""
        for ticket in self._book:
            ticket.waiters.discard(peer)

    def _submit(self, peer: bytes, message: wire.Submit) -> None:
        job = message.job
        digest = digest_of(job)
        ticket = self._book.find(job.job_id)
        if ticket is not None and ticket.spec_digest != digest:
            self._leases.refuse(
                peer,
                job.job_id,
                Refusal.CONFLICT,
                f"job id {job.job_id!r} is in use for another job; "
                "derive ids from everything that makes a job different",
            )
            return
        if ticket is None or (ticket.outcome is not None and not is_final(ticket.outcome)):
            terms = _terms(message)
            full = self._why_full(terms)
            if full:
                self._leases.refuse(peer, job.job_id, Refusal.BUSY, full)
                return
            self._book.submit(job, digest, terms, deadline_s=message.deadline_s)
        elif ticket.job is None and ticket.outcome is None and not ticket.is_stored:
            self._book.learn(ticket, job, _terms(message))
        self._wait(peer, job.job_id)

    def _why_full(self, terms: Terms) -> str:
        plan = self._leases.plan
        if self._book.live >= plan.most_live:
            return "the queue is full; submit later"
        if self._book.sessions[terms.session] >= plan.most_of_session:
            return (
                f"session {terms.session!r} has {plan.most_of_session} unfinished jobs, as many as "
                "one may have; submit later"
            )
        return ""

    def _wait(self, peer: bytes, job_id: str) -> None:
        ticket = self._book.find(job_id)
        if ticket is None:
            text = f"job {job_id!r} is not known; submit it"
            self._leases.refuse(peer, job_id, Refusal.UNKNOWN, text)
        elif ticket.outcome is not None:
            self._leases.send(peer, wire.Result(outcome=ticket.outcome))
        else:
            ticket.waiters.add(peer)
            workers = self._leases.dispatch.servers(ticket.terms.demand)
            answer = wire.Submitted(job_id=job_id, state=ticket.state, workers=workers)
            self._leases.send(peer, answer)

    def _cancel(self, peer: bytes, job_id: str) -> None:
        ticket = self._book.find(job_id)
        if ticket is not None and ticket.state is State.QUEUED:
            self._leases.finish(ticket, cancelled(job_id))
        elif ticket is not None and ticket.state in {State.LEASED, State.RUNNING}:
            self._book.cancel(ticket)
            self._leases.abort(ticket)
        self._wait(peer, job_id)

    def _describe(self, peer: bytes) -> None:
        roster = self._leases.roster
        # A pool that has a GPU is one for kernels of a GPU, whoever builds them.
        ranked = sorted(roster, key=lambda member: "gpu" not in member.tags)
        environment = ranked[0].environment if ranked else None
        self._leases.send(peer, wire.Described(environment=environment, workers=len(roster)))


def _terms(message: wire.Submit) -> Terms:
    return terms_of(
        message.job, session=message.session, priority=message.priority, need=message.need
    )
