"""What workers say to the pool: who they are, that they live, what came of a job. Pure."""

from gpu_runner import wire
from gpu_runner.journal import Entry
from gpu_runner.leases import Leases
from gpu_runner.operations import Change
from gpu_runner.outcomes import is_final
from gpu_runner.roster import Member
from gpu_runner.ticket import Ticket
from gpu_runner.wire import Held, State


class WorkerDesk:
    """Serves workers."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._book = leases.book
        self._roster = leases.roster

    def receive(self, peer: bytes, message: wire.FromWorker) -> None:
        """Take in one message."""
        if isinstance(message, wire.Hello):
            self._receive_hello(peer, message)
            return
        member = self._roster.at(peer)
        if member is None:
            self._leases.send(peer, wire.Who())
            return
        member.heard_s = self._leases.now_s
        match message:
            case wire.Beat():
                member.seq = message.seq
                self._leases.send(peer, wire.Pong(seq=message.seq))
                self._compare(member, message)
            case wire.Started():
                ticket = self._book.known(message.job_id)
                if (
                    ticket is not None
                    and ticket.state is State.LEASED
                    and _is_current(member, ticket, message.token)
                ):
                    self._book.start(ticket)
            case wire.Done():
                self._done(member, peer, message)
            case wire.Drain():
                member.is_draining = True
            case wire.Bye():
                self._leases.dismiss(member, f"worker {member.name} left", is_charged=False)

    def _receive_hello(self, peer: bytes, hello: wire.Hello) -> None:
        leases, plan = self._leases, self._leases.plan
        if self._roster.is_taken(hello, leases.now_s):
            leases.send(peer, wire.Busy(retry_after_s=plan.beat_s))
            return
        known = self._roster.named(hello.worker)
        is_new = known is None or known.is_expected
        has_crashed = not is_new and known is not None and known.incarnation != hello.incarnation
        member = self._roster.register(peer, hello, leases.now_s)
        if is_new or has_crashed:
            self._book.note(
                Entry(change=Change.JOINED, worker=member.name, detail=hello.incarnation)
            )
        if 0 < plan.expected_workers <= len(self._roster):
            leases.settle()
        running = {(held.job_id, held.token) for held in hello.running}
        for ticket in leases.held_by(member):
            if (ticket.job_id, ticket.token) not in running:
                why = f"worker {member.name} came back without it"
                is_charged = has_crashed and ticket.state is State.RUNNING
                # Who asks again without having beaten has heard no welcome, so no lease either.
                is_untold = known is not None and (known.incarnation, known.seq) == (
                    hello.incarnation,
                    ticket.beat,
                )
                leases.lose(ticket, why, is_charged=is_charged, is_counted=not is_untold)
        drop = tuple(held for held in hello.running if not self._claim(member, held))
        welcome = wire.Welcome(
            seq=hello.seq,
            epoch=plan.epoch,
            beat_s=plan.beat_s,
            lease_s=plan.lease_s,
            drop=drop,
        )
        leases.send(peer, welcome)
        for ticket in leases.held_by(member):
            if _is_to_be_killed(ticket):
                leases.abort(ticket)

    def _claim(self, member: Member, held: Held) -> bool:
        """Whether the worker may go on with an execution it says it has."""
        self._leases.last_token = max(self._leases.last_token, held.token)
        ticket = self._book.find(held.job_id)
        if ticket is not None and ticket.is_live and ticket.owner == member.name:
            if ticket.state is State.LEASED:
                self._book.start(ticket)
            return True
        if len(member.held) >= member.slots:
            return False
        if ticket is not None and (
            ticket.state is not State.QUEUED
            or ticket.spec_digest != held.spec_digest
            or (ticket.token or 0) > held.token
        ):
            return False
        self._book.adopt(held, member.name)
        member.held.add(held.job_id)
        return True

    def _compare(self, member: Member, beat: wire.Beat) -> None:
        """Find what was lost on the way: messages overtake each other only by being lost."""
        running = {(held.job_id, held.token) for held in beat.running}
        for ticket in self._leases.held_by(member):
            if (ticket.job_id, ticket.token) in running:
                if _is_to_be_killed(ticket):
                    self._leases.abort(ticket)
            elif beat.heard > ticket.beat:
                why = f"worker {member.name} does not have it"
                self._leases.lose(ticket, why, is_charged=False)

    def _done(self, member: Member, peer: bytes, done: wire.Done) -> None:
        job_id = done.outcome.job_id
        ticket = self._book.find(job_id)
        is_known = ticket is not None and (ticket.owner, ticket.token) == (member.name, done.token)
        if ticket is not None and _is_current(member, ticket, done.token):
            if ticket.is_recalled and not is_final(done.outcome):
                self._leases.lose(ticket, "an operator queued it again", is_charged=False)
            else:
                self._leases.finish(ticket, done.outcome)
        if is_final(done.outcome):
            member.keep_in_spool(job_id)
        self._leases.send(peer, wire.Ack(job_id=job_id, token=done.token, is_accepted=is_known))


def _is_current(member: Member, ticket: Ticket, token: int) -> bool:
    return ticket.is_live and (ticket.owner, ticket.token) == (member.name, token)


def _is_to_be_killed(ticket: Ticket) -> bool:
    return ticket.state is State.CANCELLING or ticket.is_recalled
