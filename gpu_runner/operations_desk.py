"""What operators ask of the pool: its state, its history, and orders. Pure."""

from typing import assert_never

from gpu_runner.journal import Archive, Entry
from gpu_runner.leases import Leases
from gpu_runner.message import digest_of
from gpu_runner.operations import (
    Action,
    Change,
    Manage,
    Managed,
    Replay,
    Replayed,
    SessionState,
    Survey,
    Surveyed,
    Waiting,
    WorkerState,
)
from gpu_runner.outcomes import is_final
from gpu_runner.roster import Member
from gpu_runner.terms import terms_of
from gpu_runner.wire import Refusal, State

_MOST_SESSIONS = 100


class OperationsDesk:
    """Serves operators."""

    def __init__(self, leases: Leases, archive: Archive) -> None:
        self._leases = leases
        self._book = leases.book
        self._roster = leases.roster
        self._archive = archive
        self._begun_s = leases.now_s

    def receive(self, peer: bytes, message: Survey | Replay | Manage) -> None:
        """Take in one message."""
        match message:
            case Survey():
                self._leases.send(peer, self._surveyed())
            case Replay():
                self._leases.send(peer, self._replayed(message))
            case Manage():
                self._manage(peer, message)
            case _:
                assert_never(message)

    def _replayed(self, replay: Replay) -> Replayed:
        first_seq, last_seq = self._archive.span()
        return Replayed(
            epoch=self._leases.plan.epoch,
            events=self._archive.events(replay.after_seq, replay.limit),
            first_seq=first_seq,
            last_seq=last_seq,
        )

    # -- state ---------------------------------------------------------------------------------

    def _surveyed(self) -> Surveyed:
        _, last_seq = self._archive.span()
        sessions = self._book.sessions.most_common(_MOST_SESSIONS)
        return Surveyed(
            epoch=self._leases.plan.epoch,
            last_seq=last_seq,
            up_s=self._leases.now_s - self._begun_s,
            is_kept=False,
            unkept_messages=0,
            workers=tuple(self._state_of(member) for member in self._roster.everybody()),
            waiting=self._waiting(),
            sessions=tuple(SessionState(session=name, unfinished=n) for name, n in sessions),
            served=self._book.tally.served(),
        )

    def _state_of(self, member: Member) -> WorkerState:
        environment = member.environment
        return WorkerState(
            worker=member.name,
            machine=environment.machine if environment else "",
            tags=tuple(sorted(member.tags)),
            slots=member.slots,
            jobs=tuple(sorted(member.held)),
            silent_s=self._leases.now_s - member.heard_s,
            is_draining=member.is_draining,
            restriction=self._roster.restrictions.get(member.name, ""),
        )

    def _waiting(self) -> tuple[Waiting, ...]:
        lines: dict[tuple[str, int], list[float]] = {}
        for job_id in self._book.queue:
            ticket = self._book.known(job_id)
            if ticket is not None:
                place = (ticket.terms.kind or "unknown", -ticket.terms.priority)
                lines.setdefault(place, []).append(self._leases.now_s - ticket.queued_s)
        return tuple(
            Waiting(job=kind, priority=-urgency, jobs=len(waits), oldest_s=max(waits))
            for (kind, urgency), waits in sorted(lines.items())
        )

    # -- orders --------------------------------------------------------------------------------

    def _manage(self, peer: bytes, order: Manage) -> None:
        match order.action:
            case Action.DRAIN | Action.QUARANTINE:
                self._restrict(peer, order)
            case Action.RELEASE:
                self._free(peer, order.subject)
            case Action.REQUEUE:
                self._requeue(peer, order.subject)
            case _:
                assert_never(order.action)

    def _restrict(self, peer: bytes, order: Manage) -> None:
        name = order.subject
        change = Change.DRAINED if order.action is Action.DRAIN else Change.QUARANTINED
        detail = f"{change}: {order.reason}" if order.reason else str(change)
        if self._roster.restrictions.get(name) != detail:
            self._roster.restrictions[name] = detail
            self._book.note(Entry(change=change, worker=name, detail=detail))
        member = self._roster.named(name)
        left = len(member.held) if member else 0
        here = f"it finishes the {left} that it has" if member else "it is not registered now"
        text = f"worker {name} gets no further job until it is released; {here}"
        self._leases.send(peer, Managed(message=text))

    def _free(self, peer: bytes, name: str) -> None:
        if self._roster.restrictions.pop(name, None) is not None:
            self._book.note(Entry(change=Change.RELEASED, worker=name))
        self._leases.send(peer, Managed(message=f"worker {name} gets jobs again"))

    def _requeue(self, peer: bytes, job_id: str) -> None:
        ticket = self._book.find(job_id)
        if ticket is None:
            text = f"job {job_id!r} is not known here"
            self._leases.refuse(peer, job_id, Refusal.UNKNOWN, text)
        elif ticket.state is State.QUEUED:
            self._leases.send(peer, Managed(message=f"job {job_id} waits already"))
        elif ticket.state in {State.LEASED, State.RUNNING}:
            ticket.is_recalled = True
            self._leases.abort(ticket)
            text = f"job {job_id} is queued again as soon as worker {ticket.owner} has killed it"
            self._leases.send(peer, Managed(message=text))
        elif ticket.outcome is None or is_final(ticket.outcome):
            text = f"job {job_id!r} has ended or is being cancelled; it is not run again"
            self._leases.refuse(peer, job_id, Refusal.CONFLICT, text)
        else:
            self._again(peer, job_id)

    def _again(self, peer: bytes, job_id: str) -> None:
        """Queue a job that was not served, from its content."""
        job = self._archive.content(job_id)
        if job is None:
            text = f"the content of job {job_id!r} is not kept; submit it again"
            self._leases.refuse(peer, job_id, Refusal.UNKNOWN, text)
            return
        self._book.submit(job, digest_of(job), terms_of(job))
        self._leases.send(peer, Managed(message=f"job {job_id} is queued again"))
