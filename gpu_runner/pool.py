"""The job bus's core: which job is where, who may end it, and what to send next.

Pure: `receive` and `tick` take a message and the time and return what to send. No sockets, no
clock, no files. What it knows dies with the broker: running jobs are adopted from the workers that
run them, waiting jobs come again from the clients that want them, and finished ones from the
workers' spools. A durable broker replays its log through this same class.
"""

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple, assert_never

from gpu_runner import wire
from gpu_runner.jobs import AnyOutcome
from gpu_runner.message import digest_of
from gpu_runner.outcomes import cancelled, is_final
from gpu_runner.roster import Member, Roster
from gpu_runner.ticket import Ticket
from gpu_runner.wire import Held, Refusal, State

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
    most_live: int = 5000
    """Unfinished jobs; a further submission is refused as busy."""
    most_finished: int = 32
    """Outcomes kept for repeated questions; older ones are in the workers' spools."""
    retry_after_s: float = 1.0


class Send(NamedTuple):
    """A message and whom it is for."""

    peer: bytes
    message: wire.ToClient | wire.ToWorker


Sends = tuple[Send, ...]


class Pool:
    """Jobs, workers and the queue between them."""

    def __init__(self, plan: PoolPlan, now_s: float) -> None:
        self._plan = plan
        self._now_s = now_s
        self._settled_at_s = now_s + plan.settle_s
        self._last_token = plan.epoch << EPOCH_SHIFT
        self._roster = Roster(beat_s=plan.beat_s, lease_s=plan.lease_s)
        self._tickets: dict[str, Ticket] = {}
        self._queue: deque[str] = deque()
        self._finished: deque[Ticket] = deque()
        self._sends: list[Send] = []

    def receive(self, peer: bytes, message: wire.ToBroker, now_s: float) -> Sends:
        """Take in one message; return what to send because of it, in order.

        Raises:
            ValueError: time went backwards.
        """
        self._advance(now_s)
        match message:
            case wire.Submit() | wire.Wait() | wire.Cancel() | wire.Describe():
                self._receive_from_client(peer, message)
            case wire.Hello():
                self._receive_hello(peer, message)
            case wire.Beat() | wire.Started() | wire.Done() | wire.Drain() | wire.Bye():
                member = self._roster.at(peer)
                if member is None:
                    self._send(peer, wire.Who())
                else:
                    member.heard_s = now_s
                    self._receive_from_worker(member, peer, message)
            case _:
                assert_never(message)
        return self._flush()

    def tick(self, now_s: float) -> Sends:
        """Let time pass: leases expire, the pool settles."""
        self._advance(now_s)
        for member in self._roster.silent(now_s):
            self._dismiss(member, f"worker {member.name} fell silent", is_charged=True)
        return self._flush()

    def undelivered(self, peer: bytes, message: wire.AnyMessage, now_s: float) -> Sends:
        """Note that a send failed: nobody is at `peer` any more."""
        self._advance(now_s)
        for ticket in self._tickets.values():
            ticket.waiters.discard(peer)
        self._roster.unreachable(peer)
        if isinstance(message, wire.Lease):
            lost = self._tickets.get(message.job.job_id)
            if lost and lost.state is State.LEASED and lost.token == message.token:
                self._lose(lost, "the lease could not be delivered", is_charged=False)
        return self._flush()

    def story(self, job_id: str) -> tuple[str, ...]:
        """Return what happened to a job, oldest first; empty for an unknown one."""
        ticket = self._tickets.get(job_id)
        return tuple(ticket.story) if ticket else ()

    # -- clients -------------------------------------------------------------------------------

    def _receive_from_client(
        self, peer: bytes, message: wire.Submit | wire.Wait | wire.Cancel | wire.Describe
    ) -> None:
        match message:
            case wire.Submit():
                self._submit(peer, message)
            case wire.Wait():
                self._wait(peer, message.job_id)
            case wire.Cancel():
                self._cancel(peer, message.job_id)
            case wire.Describe():
                first = next(iter(self._roster), None)
                environment = first.environment if first else None
                answer = wire.Described(environment=environment, workers=len(self._roster))
                self._send(peer, answer)

    def _submit(self, peer: bytes, message: wire.Submit) -> None:
        job = message.job
        digest = digest_of(job)
        ticket = self._tickets.get(job.job_id)
        if ticket is not None and ticket.spec_digest != digest:
            self._refuse(
                peer,
                job.job_id,
                Refusal.CONFLICT,
                f"job id {job.job_id!r} is in use for another job; "
                "derive ids from everything that makes a job different",
            )
            return
        if ticket is None or (ticket.outcome is not None and not is_final(ticket.outcome)):
            if sum(t.state is not State.FINISHED for t in self._tickets.values()) >= (
                self._plan.most_live
            ):
                self._refuse(peer, job.job_id, Refusal.BUSY, "the queue is full; submit later")
                return
            ticket = Ticket(job.job_id, digest, job)
            ticket.note("submitted", self._now_s)
            self._tickets[job.job_id] = ticket
            self._queue.append(job.job_id)
        elif ticket.job is None:
            ticket.job = job
        self._wait(peer, job.job_id)

    def _wait(self, peer: bytes, job_id: str) -> None:
        ticket = self._tickets.get(job_id)
        if ticket is None:
            self._refuse(peer, job_id, Refusal.UNKNOWN, f"job {job_id!r} is not known; submit it")
        elif ticket.outcome is not None:
            self._send(peer, wire.Result(outcome=ticket.outcome))
        else:
            ticket.waiters.add(peer)
            workers = len(self._roster)
            self._send(peer, wire.Submitted(job_id=job_id, state=ticket.state, workers=workers))

    def _cancel(self, peer: bytes, job_id: str) -> None:
        ticket = self._tickets.get(job_id)
        if ticket is not None and ticket.state is State.QUEUED:
            self._finish_cancelled(ticket)
        elif ticket is not None and ticket.state in {State.LEASED, State.RUNNING}:
            ticket.cancel(self._now_s)
            self._abort(ticket)
        self._wait(peer, job_id)

    # -- workers -------------------------------------------------------------------------------

    def _receive_hello(self, peer: bytes, hello: wire.Hello) -> None:
        if self._roster.is_taken(hello, self._now_s):
            self._send(peer, wire.Busy(retry_after_s=self._plan.beat_s))
            return
        known = self._roster.named(hello.worker)
        has_crashed = known is not None and known.incarnation != hello.incarnation
        member = self._roster.register(peer, hello, self._now_s)
        if 0 < self._plan.expected_workers <= len(self._roster):
            self._settled_at_s = min(self._settled_at_s, self._now_s)
        running = {(held.job_id, held.token) for held in hello.running}
        for ticket in self._held_by(member):
            if (ticket.job_id, ticket.token) not in running:
                why = f"worker {member.name} came back without it"
                is_charged = has_crashed and ticket.state is State.RUNNING
                self._lose(ticket, why, is_charged=is_charged)
        drop = tuple(held for held in hello.running if not self._claim(member, held))
        welcome = wire.Welcome(
            seq=hello.seq,
            epoch=self._plan.epoch,
            beat_s=self._plan.beat_s,
            lease_s=self._plan.lease_s,
            drop=drop,
        )
        self._send(peer, welcome)
        for ticket in self._held_by(member):
            if ticket.state is State.CANCELLING:
                self._abort(ticket)

    def _claim(self, member: Member, held: Held) -> bool:
        """Whether the worker may go on with an execution it says it has."""
        self._last_token = max(self._last_token, held.token)
        ticket = self._tickets.get(held.job_id)
        if ticket is not None and ticket.is_live and ticket.owner == member.name:
            if ticket.state is State.LEASED:
                ticket.start(self._now_s)
            return True
        if len(member.held) >= member.slots:
            return False
        if ticket is None:
            ticket = Ticket(held.job_id, held.spec_digest, None)
            self._tickets[held.job_id] = ticket
        elif (
            ticket.state is not State.QUEUED
            or ticket.spec_digest != held.spec_digest
            or (ticket.token or 0) > held.token
        ):
            return False
        else:
            self._queue.remove(held.job_id)
        ticket.adopt(member.name, held.token, self._now_s)
        member.held.add(held.job_id)
        return True

    def _receive_from_worker(
        self,
        member: Member,
        peer: bytes,
        message: wire.Beat | wire.Started | wire.Done | wire.Drain | wire.Bye,
    ) -> None:
        match message:
            case wire.Beat():
                member.seq = message.seq
                self._send(peer, wire.Pong(seq=message.seq))
                self._compare(member, message)
            case wire.Started():
                ticket = self._tickets.get(message.job_id)
                if (
                    ticket is not None
                    and ticket.state is State.LEASED
                    and self._is_current(member, ticket, message.token)
                ):
                    ticket.start(self._now_s)
            case wire.Done():
                self._done(member, peer, message)
            case wire.Drain():
                member.is_draining = True
            case wire.Bye():
                self._dismiss(member, f"worker {member.name} left", is_charged=False)

    def _compare(self, member: Member, beat: wire.Beat) -> None:
        """Find what was lost on the way: messages overtake each other only by being lost."""
        running = {(held.job_id, held.token) for held in beat.running}
        for ticket in self._held_by(member):
            if (ticket.job_id, ticket.token) in running:
                if ticket.state is State.CANCELLING:
                    self._abort(ticket)
            elif beat.heard > ticket.beat:
                self._lose(ticket, f"worker {member.name} does not have it", is_charged=False)

    def _done(self, member: Member, peer: bytes, done: wire.Done) -> None:
        job_id = done.outcome.job_id
        ticket = self._tickets.get(job_id)
        is_known = ticket is not None and (ticket.owner, ticket.token) == (member.name, done.token)
        if ticket is not None and self._is_current(member, ticket, done.token):
            self._finish(ticket, done.outcome)
        if is_final(done.outcome):
            member.spooled.add(job_id)
        self._send(peer, wire.Ack(job_id=job_id, token=done.token, is_accepted=is_known))

    @staticmethod
    def _is_current(member: Member, ticket: Ticket, token: int) -> bool:
        return ticket.is_live and (ticket.owner, ticket.token) == (member.name, token)

    def _dismiss(self, member: Member, why: str, *, is_charged: bool) -> None:
        self._roster.remove(member)
        for ticket in self._held_by(member):
            self._lose(ticket, why, is_charged=is_charged and ticket.state is State.RUNNING)

    # -- tickets -------------------------------------------------------------------------------

    def _held_by(self, member: Member) -> tuple[Ticket, ...]:
        return tuple(self._tickets[job_id] for job_id in sorted(member.held))

    def _lose(self, ticket: Ticket, why: str, *, is_charged: bool) -> None:
        """End a lease that gave no outcome."""
        ticket.losses += 1
        ticket.crashes += is_charged
        if ticket.state is State.CANCELLING:
            self._finish_cancelled(ticket)
            return
        is_spent = (
            ticket.crashes >= self._plan.crash_budget or ticket.losses >= self._plan.loss_budget
        )
        if is_spent:
            ticket.note(why, self._now_s)
            self._finish(ticket, ticket.runner_lost())
            return
        self._release(ticket)
        ticket.requeue(why, self._now_s)
        if ticket.job is None:
            self._forget(ticket)
        else:
            self._queue.appendleft(ticket.job_id)

    def _forget(self, ticket: Ticket) -> None:
        """Drop a job whose content only a client knows; those who wait submit it again."""
        del self._tickets[ticket.job_id]
        text = f"job {ticket.job_id!r} was lost with its worker; submit it again"
        for peer in sorted(ticket.waiters):
            self._refuse(peer, ticket.job_id, Refusal.UNKNOWN, text)

    def _finish(self, ticket: Ticket, outcome: AnyOutcome) -> None:
        if ticket.state is State.QUEUED:
            self._queue.remove(ticket.job_id)
        self._release(ticket)
        ticket.finish(outcome, self._now_s)
        for peer in sorted(ticket.waiters):
            self._send(peer, wire.Result(outcome=outcome))
        ticket.waiters.clear()
        self._finished.append(ticket)
        while len(self._finished) > self._plan.most_finished:
            old = self._finished.popleft()
            if self._tickets.get(old.job_id) is old:
                del self._tickets[old.job_id]

    def _finish_cancelled(self, ticket: Ticket) -> None:
        self._finish(ticket, cancelled(ticket.job_id))

    def _release(self, ticket: Ticket) -> None:
        member = self._roster.named(ticket.owner or "")
        if member is not None:
            member.held.discard(ticket.job_id)

    def _abort(self, ticket: Ticket) -> None:
        member = self._roster.named(ticket.owner or "")
        if member is not None and member.peer is not None and ticket.token is not None:
            self._send(member.peer, wire.Abort(job_id=ticket.job_id, token=ticket.token))

    # -- sending -------------------------------------------------------------------------------

    def _advance(self, now_s: float) -> None:
        if now_s < self._now_s:
            msg = f"time went back from {self._now_s} to {now_s}; give a monotonic clock"
            raise ValueError(msg)
        self._now_s = now_s

    def _send(self, peer: bytes, message: wire.ToClient | wire.ToWorker) -> None:
        self._sends.append(Send(peer, message))

    def _refuse(self, peer: bytes, job_id: str, code: Refusal, text: str) -> None:
        retry_after_s = self._plan.retry_after_s if code is Refusal.BUSY else None
        refused = wire.Refused(job_id=job_id, code=code, message=text, retry_after_s=retry_after_s)
        self._send(peer, refused)

    def _flush(self) -> Sends:
        self._lease_what_can_be()
        sends, self._sends = tuple(self._sends), []
        return sends

    def _lease_what_can_be(self) -> None:
        if self._now_s < self._settled_at_s:
            return
        for job_id in tuple(self._queue):
            if not any(member.has_free_slot for member in self._roster):
                return
            ticket = self._tickets[job_id]
            member = self._roster.server_of(job_id)
            if member is None or member.peer is None or ticket.job is None:
                continue
            self._queue.remove(job_id)
            self._last_token += 1
            ticket.lease(member.name, self._last_token, self._now_s, beat=member.seq)
            member.held.add(job_id)
            self._send(member.peer, wire.Lease(token=self._last_token, job=ticket.job))
