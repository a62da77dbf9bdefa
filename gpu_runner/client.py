"""Asking the pool: submit a job, or attach again to one submitted before, and wait for its end.

Imports no torch and nothing of the graph: an orchestrator, a script or a test uses it alike.
"""

import asyncio
import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import zmq
import zmq.asyncio

from gpu_runner import wire
from gpu_runner.endpoint import dealer
from gpu_runner.envelope import MIDDLE_PRIORITY
from gpu_runner.errors import PoolError
from gpu_runner.jobs import AnyJob, AnyOutcome, Unserved
from gpu_runner.records import Environment
from gpu_runner.security.keys import load_keys
from gpu_runner.wire import Inbox, Malformed, Refusal

logger = logging.getLogger(__name__)

_FIRST_WAIT_S = 0.02
_MOST_WAIT_S = 2.0
_FAREWELL_MS = 100
_MOST_ANSWERED = 64


class JobPool(Protocol):
    """What runs jobs, wherever it is."""

    async def run(self, job: AnyJob) -> AnyOutcome:
        """Submit a job, or attach again to its id, and wait for its outcome."""
        ...

    async def environment(self) -> Environment:
        """Return the machine that the pool measures on."""
        ...

    async def close(self) -> None:
        """Free what the pool holds here."""
        ...


class BusClient:
    """A pool behind a broker.

    Any number of jobs may be in flight. What is lost on the way is sent again, with growing
    pauses; a broker that was restarted is given the jobs anew and knows them by their ids.
    Cancelling the task that awaits `run` cancels the job.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        patience_s: float = 120.0,
        session: str | None = None,
        priority: int = MIDDLE_PRIORITY,
        keys: Path | None = None,
    ) -> None:
        """Connect; the first message leaves with the first call.

        Args:
            endpoint: the broker's.
            keys: folder of this client's pair and the broker's public key, where it wants them.
            patience_s: how long to go on without an answer, or without any worker registered,
                before a job ends as `Unserved(runner_lost)`.
            session: who takes turns with the other sessions of the broker; by default the run
                that a job's id begins with.
            priority: 0 to 9 of every job; 9 is served first.

        Raises:
            PoolError: the endpoint cannot be understood, or the keys cannot be used.
        """
        self._endpoint = endpoint
        self._patience_s = patience_s
        self._session = session
        self._priority = priority
        self._about_keys = ""
        if keys:
            asked = f"kernelpilot-runner keys check --endpoint {endpoint} --keys {keys}"
            self._about_keys = f", or see whether this key is enrolled: {asked}"
        proofs = load_keys(keys) if keys else None
        self._context = zmq.asyncio.Context()
        self._socket: Any = dealer(self._context, endpoint, proofs)
        self._inbox = Inbox(wire.TO_CLIENT)
        self._tickets: dict[str, _Ticket] = {}
        self._answered: dict[str, AnyJob] = {}
        """The last jobs that got their outcome here, by id. An outcome may come once more, and
        names its id only: it must not be taken for that of another job under the same id."""
        self._described: asyncio.Future[Environment] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._served_s = time.monotonic()
        self._has_worker = True

    async def run(self, job: AnyJob) -> AnyOutcome:
        """Submit a job, or attach again to its id, and wait for its outcome.

        Raises:
            PoolError: the job is too large, its id is in use for another job, the broker speaks
                another protocol, or the client was closed.
        """
        ticket = self._tickets.get(job.job_id)
        if ticket is not None and ticket.job != job:
            msg = f"job id {job.job_id!r} is awaited here for another job"
            raise PoolError(msg)
        if self._answered.get(job.job_id, job) != job:
            msg = f"job id {job.job_id!r} was used here for another job; give each its own"
            raise PoolError(msg)
        if ticket is None:
            submit = wire.Submit(job=job, session=self._session, priority=self._priority)
            frames = wire.encode(submit)
            ticket = self._tickets[job.job_id] = _Ticket(job, frames)
            self._start_patience()
        ticket.callers += 1
        try:
            return await self._awaited(ticket)
        except asyncio.CancelledError:
            if ticket.callers == 1:
                await self._send(wire.Cancel(job_id=job.job_id))
            raise
        finally:
            ticket.callers -= 1
            if ticket.callers == 0:
                self._tickets.pop(job.job_id, None)

    async def environment(self) -> Environment:
        """Return the machine that the pool measures on.

        Raises:
            PoolError: no worker was there within the patience.
        """
        self._start_patience()
        if self._described is None or self._described.done():
            self._described = asyncio.get_running_loop().create_future()
        wait_s = _FIRST_WAIT_S
        while True:
            await self._send(wire.Describe())
            with suppress(TimeoutError):
                return await asyncio.wait_for(asyncio.shield(self._described), wait_s)
            if self._is_out_of_patience():
                raise PoolError(self._why_nothing_happens())
            wait_s = min(2 * wait_s, _MOST_WAIT_S)

    def abandon(self, why: str) -> None:
        """End every wait with a PoolError; calls made later wait again."""
        for ticket in self._tickets.values():
            ticket.fail(why)
        if self._described is not None and not self._described.done():
            self._described.set_exception(PoolError(why))
            self._described.exception()  # seen: nobody may be waiting

    async def close(self) -> None:
        """Disconnect; whoever still waits gets a PoolError."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            with suppress(asyncio.CancelledError):
                await reader
        self.abandon("the client was closed")
        if not self._socket.closed:
            self._socket.close(linger=_FAREWELL_MS)
            self._context.term()

    async def _awaited(self, ticket: "_Ticket") -> AnyOutcome:
        wait_s = _FIRST_WAIT_S
        while True:
            has_asked = await self._ask(ticket)
            with suppress(TimeoutError):
                return await asyncio.wait_for(asyncio.shield(ticket.outcome), wait_s)
            if self._is_out_of_patience():
                return self._lost(ticket.job)
            if has_asked:
                wait_s = min(2 * wait_s, _MOST_WAIT_S)

    async def _ask(self, ticket: "_Ticket") -> bool:
        """Submit, or show that we still wait; false when nothing is connected."""
        if time.monotonic() < ticket.silent_until_s:
            return True
        if ticket.is_known:
            return await self._send(wire.Wait(job_id=ticket.job.job_id))
        return await self._send_frames(ticket.frames)

    async def _send(self, message: wire.FromClient) -> bool:
        return await self._send_frames(wire.encode(message))

    async def _send_frames(self, frames: list[bytes]) -> bool:
        if self._socket.closed:
            msg = "the client was closed; open another one"
            raise PoolError(msg)
        if self._reader is None:
            self._reader = asyncio.create_task(self._read())
        try:
            await self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    async def _read(self) -> None:
        while True:
            message = self._inbox.parse(await self._socket.recv_multipart())
            if isinstance(message, Malformed):
                logger.warning("message refused reason=%s: %s", message.reason, message.detail)
                if message.reason == "protocol":
                    self.abandon(message.detail)
                continue
            self._receive(message)
            if isinstance(message, wire.Refused) and message.code is Refusal.UNKNOWN:
                await self._submit_again(message.job_id)

    async def _submit_again(self, job_id: str | None) -> None:
        """Give a job to a broker that was restarted, or that lost it with its worker."""
        ticket = self._tickets.get(job_id or "")
        if ticket is not None:
            ticket.is_known = False
            await self._send_frames(ticket.frames)

    def _receive(self, message: wire.ToClient) -> None:
        match message:
            case wire.Submitted():
                self._note_workers(message.workers)
                if (ticket := self._tickets.get(message.job_id)) is not None:
                    ticket.is_known = True
            case wire.Result():
                self._served_s = time.monotonic()
                ticket = self._tickets.get(message.outcome.job_id)
                if ticket is not None and not ticket.outcome.done():
                    ticket.outcome.set_result(message.outcome)
                    self._remember(ticket.job)
            case wire.Described():
                self._note_workers(message.workers)
                described = self._described
                if message.environment and described and not described.done():
                    described.set_result(message.environment)
            case wire.Refused():
                self._receive_refusal(message)

    def _remember(self, job: AnyJob) -> None:
        self._answered[job.job_id] = job
        while len(self._answered) > _MOST_ANSWERED:
            del self._answered[next(iter(self._answered))]

    def _receive_refusal(self, refused: wire.Refused) -> None:
        ticket = self._tickets.get(refused.job_id or "")
        if refused.code in {Refusal.MALFORMED, Refusal.PROTOCOL, Refusal.FORBIDDEN}:
            self.abandon(f"the broker at {self._endpoint} refuses: {refused.message}")
        elif ticket is None:
            return
        elif refused.code is Refusal.CONFLICT:
            ticket.fail(refused.message)
        elif refused.code is Refusal.BUSY:
            self._served_s = time.monotonic()
            ticket.silent_until_s = time.monotonic() + (refused.retry_after_s or _MOST_WAIT_S)

    def _note_workers(self, count: int) -> None:
        self._has_worker = count > 0
        if self._has_worker:
            self._served_s = time.monotonic()

    def _start_patience(self) -> None:
        if len(self._tickets) <= 1:
            self._served_s, self._has_worker = time.monotonic(), True

    def _is_out_of_patience(self) -> bool:
        return time.monotonic() - self._served_s > self._patience_s

    def _why_nothing_happens(self) -> str:
        what, command = ("broker answered", "broker")
        if not self._has_worker:
            what, command = ("worker was registered", "worker")
        return (
            f"no {what} at {self._endpoint} for {self._patience_s:g} s; "
            f"start one with: kernelpilot-runner {command} --endpoint {self._endpoint}"
            f"{self._about_keys}"
        )

    def _lost(self, job: AnyJob) -> Unserved:
        message = self._why_nothing_happens()
        return Unserved(job_id=job.job_id, cause="runner_lost", message=message, is_retryable=True)


class _Ticket:
    """A job awaited here."""

    def __init__(self, job: AnyJob, frames: list[bytes]) -> None:
        self.job = job
        self.frames = frames
        self.outcome: asyncio.Future[AnyOutcome] = asyncio.get_running_loop().create_future()
        self.callers = 0
        self.is_known = False
        self.silent_until_s = 0.0

    def fail(self, why: str) -> None:
        """End the wait with an error."""
        if not self.outcome.done():
            self.outcome.set_exception(PoolError(why))
            self.outcome.exception()  # seen: the callers may have gone
