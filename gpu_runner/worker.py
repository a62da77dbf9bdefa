"""The worker process: beats while its children work, and answers from the spool when it can.

The loop never blocks on a child, the disk is the only thing it waits for; candidate code is two
processes away.
"""

import logging
import os
import secrets
import signal
import time
from dataclasses import dataclass, replace

import zmq

from gpu_runner import wire
from gpu_runner.endpoint import dealer
from gpu_runner.errors import PoolError
from gpu_runner.execution import Execution, ExecutionPlan, not_launched
from gpu_runner.executions import Executions
from gpu_runner.jobs import AnyOutcome, Unserved
from gpu_runner.message import digest_of
from gpu_runner.outcomes import cancelled
from gpu_runner.records import Environment
from gpu_runner.security.keys import Keys
from gpu_runner.spool import Spool
from gpu_runner.spool_log import SpoolLog
from gpu_runner.supervisors import Supervisors
from gpu_runner.wire import Held, Inbox, Malformed, TooLarge

logger = logging.getLogger(__name__)

_HELLO_PAUSE_S = 0.05
_MOST_HELLO_PAUSE_S = 2.0
_MOST_KILL_S = 5.0
_FAREWELL_MS = 200
_MOST_WAIT_S = 10.0
_MOST_SIGNALS = 64


@dataclass(slots=True)
class _Owed:
    """An outcome that the broker has not acknowledged."""

    done: wire.Done
    spec_digest: str
    sent_s: float = 0.0


class Worker:
    """One worker of a pool."""

    def __init__(  # noqa: PLR0913 - each is what another part of the program has made
        self,
        endpoint: str,
        name: str,
        environment: Environment,
        plan: ExecutionPlan,
        *,
        lock: int,
        spared: frozenset[int] = frozenset(),
        supervisors: Supervisors | None = None,
        keys: Keys | None = None,
    ) -> None:
        """Connect, and write again what a machine that stopped has lost of the spool.

        Args:
            endpoint: the broker's.
            name: unique in the pool; a restarted worker keeps it.
            environment: this machine, told to the broker.
            plan: how jobs are run.
            lock: the spool's lock; every child inherits it.
            spared: processes below this one that belong to no job and outlive them.
            supervisors: where children come from; by default each is a new interpreter.
            keys: of this worker, where the broker wants them. Children get none of it.

        Raises:
            PoolError: the endpoint cannot be understood.
            OSError: the spool cannot be written.
        """
        self._name = name
        self._incarnation = secrets.token_hex(8)
        self._environment = environment
        self._plan = plan
        supervisors = supervisors or Supervisors()
        self._spool = Spool(plan.workspace)
        self._executions = Executions(
            replace(plan, is_flushed=False),
            self._spool,
            SpoolLog(self._spool, name),
            supervisors,
            spared | supervisors.spared,
            lock,
        )
        self._inbox = Inbox(wire.TO_WORKER)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = dealer(self._context, endpoint, keys)
        self._owed: dict[str, _Owed] = {}
        self._welcome: wire.Welcome | None = None
        self._is_draining = False
        self._is_over = False
        self.quarantine = ""
        """Why the device may not be used any more; the worker ends, and its caller says so."""
        self._beats: dict[int, float] = {}
        self._seq = 0
        self._heard = 0
        self._hello_pause_s = _HELLO_PAUSE_S
        self._next_s = time.monotonic()
        self._confirmed_s = time.monotonic()
        self._lease_s = float("inf")

    def run(self, signals: int) -> None:
        """Work until a SIGTERM or SIGINT, or a SIGUSR1 (drain) and the end of the job in hand.

        Args:
            signals: descriptor that gives one byte a signal (`signals_as_bytes`).

        Raises:
            PoolError: the broker speaks another protocol.
        """
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(signals, zmq.POLLIN)
        try:
            while not self._is_over:
                watched = tuple(self._executions)
                for execution in watched:
                    poller.register(execution.pidfd, zmq.POLLIN)
                ready = dict(poller.poll(self._wait_ms()))
                for execution in watched:
                    poller.unregister(execution.pidfd)
                if signals in ready:
                    self._receive_signals(signals)
                self._finish([e for e in watched if e.pidfd in ready])
                if self._socket in ready:
                    self._receive_waiting()
                self._tick(time.monotonic())
        finally:
            self._leave()

    # -- time ----------------------------------------------------------------------------------

    def _wait_ms(self) -> int:
        due_s = min(self._next_s, time.monotonic() + _MOST_WAIT_S)
        if self._executions:
            due_s = min(due_s, self._executions.deadline_s, self._fence_s())
        return max(0, int((due_s - time.monotonic()) * 1000) + 1)

    def _fence_s(self) -> float:
        """When children must be dead: before the broker may lease their jobs to somebody else.

        Counted from when the last answered beat was sent, which is before the broker heard it.
        """
        return self._confirmed_s + self._lease_s - min(_MOST_KILL_S, self._lease_s / 4)

    def _tick(self, now_s: float) -> None:
        if self._executions and now_s >= self._fence_s():
            jobs = [execution.job.job_id for execution in self._executions]
            logger.warning("no broker for a lease, jobs killed jobs=%s", ",".join(jobs))
            self._executions.drop(list(self._executions))
        self._finish(self._executions.end_overdue(now_s))
        if now_s >= self._next_s:
            if self._welcome is None:
                self._say_hello(now_s)
            else:
                self._beat(self._welcome.beat_s, now_s)
        if self._is_draining and not self._executions and not self._owed:
            self._is_over = True

    def _beat(self, beat_s: float, now_s: float) -> None:
        self._seq += 1
        beat = wire.Beat(seq=self._seq, heard=self._heard, running=self._held())
        if self._send(beat):
            self._beats[self._seq] = now_s
        for seq in [s for s, sent_s in self._beats.items() if now_s - sent_s > self._lease_s]:
            del self._beats[seq]
        for owed in self._owed.values():
            if now_s - owed.sent_s > self._lease_s / 2:
                self._send_owed(owed)
        self._next_s = now_s + beat_s

    def _held(self) -> tuple[Held, ...]:
        """Return the jobs in hand and those whose outcome is not acknowledged."""
        held = [(job_id, o.done.token, o.spec_digest) for job_id, o in self._owed.items()]
        held += [(e.job.job_id, e.token, e.spec_digest) for e in self._executions]
        return tuple(Held(job_id=i, token=t, spec_digest=d) for i, t, d in held)

    def _say_hello(self, now_s: float) -> None:
        self._seq += 1
        hello = wire.Hello(
            worker=self._name,
            incarnation=self._incarnation,
            environment=self._environment,
            seq=self._seq,
            slots=self._plan.slots,
            running=self._held(),
            spooled=self._spool.job_ids(),
            tags=self._plan.tags,
        )
        if not self._send(hello):
            self._next_s = now_s + _HELLO_PAUSE_S
            return
        self._beats = {self._seq: now_s}
        # Growing, for a welcome that comes after the next hello is not taken.
        self._next_s = now_s + self._hello_pause_s
        self._hello_pause_s = min(2 * self._hello_pause_s, _MOST_HELLO_PAUSE_S)

    # -- messages ------------------------------------------------------------------------------

    def _receive_waiting(self) -> None:
        while not self._is_over:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            message = self._inbox.parse(frames)
            if isinstance(message, Malformed):
                logger.warning("message refused reason=%s: %s", message.reason, message.detail)
            elif isinstance(message, wire.Lease | wire.Abort | wire.Ack):
                self._receive_about_job(message)
            else:
                self._receive_about_worker(message)

    def _receive_about_worker(
        self, message: wire.Welcome | wire.Who | wire.Busy | wire.Pong | wire.Refused
    ) -> None:
        match message:
            case wire.Welcome():
                self._receive_welcome(message)
            case wire.Who():
                if self._welcome is not None:
                    self._welcome, self._next_s = None, time.monotonic()
            case wire.Busy():
                self._next_s = time.monotonic() + message.retry_after_s
            case wire.Pong():
                self._confirmed_s = self._beats.pop(message.seq, self._confirmed_s)
                self._heard = message.seq
            case wire.Refused():
                msg = f"the broker refuses what this worker sends: {message.message}"
                raise PoolError(msg)

    def _receive_about_job(self, message: wire.Lease | wire.Abort | wire.Ack) -> None:
        match message:
            case wire.Lease():
                self._receive_lease(message)
            case wire.Abort():
                self._receive_abort(message)
            case wire.Ack():
                owed = self._owed.get(message.job_id)
                if owed is not None and owed.done.token == message.token:
                    del self._owed[message.job_id]

    def _receive_welcome(self, welcome: wire.Welcome) -> None:
        if welcome.seq != self._seq:
            return  # for an earlier hello; the answer to the last one is on its way
        logger.info("registered worker=%s epoch=%d", self._name, welcome.epoch)
        self._welcome, self._hello_pause_s = welcome, _HELLO_PAUSE_S
        self._lease_s = welcome.lease_s
        self._confirmed_s = self._beats.pop(welcome.seq)
        self._next_s = time.monotonic() + welcome.beat_s
        for held in welcome.drop:
            self._owed.pop(held.job_id, None)
            execution = self._executions.find(held.job_id)
            if execution is not None and execution.token == held.token:
                self._executions.drop([execution])
        if self._is_draining:
            self._send(wire.Drain())
        for owed in self._owed.values():
            self._send_owed(owed)

    def _receive_lease(self, lease: wire.Lease) -> None:
        job, digest = lease.job, digest_of(lease.job)
        running = self._executions.find(job.job_id)
        spooled = self._spool.find(job.job_id)
        if spooled is not None:
            outcome = spooled.outcome
            if spooled.spec_digest != digest:
                outcome = _id_used_twice(job.job_id)
            (outcome,) = self._executions.kept([outcome])
            self._owe(outcome, lease.token, digest)
        elif self._welcome is None:
            logger.info("lease from before the last hello ignored job=%s", job.job_id)
        elif time.monotonic() >= self._fence_s():  # it was long on the way: not ours any more
            self._welcome, self._next_s = None, time.monotonic()
        elif self.quarantine:  # it was leased before the broker heard of it
            self._owe(_out_of_service(job.job_id, self.quarantine), lease.token, digest)
        elif running is not None and running.spec_digest == digest:
            running.token = lease.token
            self._send(wire.Started(job_id=job.job_id, token=lease.token))
        elif running is None and self._executions.has_room(job):
            self._launch(lease)
        else:  # the broker's picture of this worker is wrong: draw it again
            self._welcome, self._next_s = None, time.monotonic()

    def _launch(self, lease: wire.Lease) -> None:
        job = lease.job
        try:
            execution = self._executions.begin(job, lease.token)
        except OSError as error:
            self._owe(not_launched(job, error), lease.token, digest_of(job))
            return
        logger.info("job started job=%s token=%d pid=%d", job.job_id, lease.token, execution.pid)
        self._send(wire.Started(job_id=job.job_id, token=lease.token))

    def _receive_abort(self, abort: wire.Abort) -> None:
        if abort.job_id in self._owed:
            return  # it has ended; the outcome is on its way
        execution = self._executions.find(abort.job_id)
        if execution is None:
            self._send(wire.Done(token=abort.token, outcome=cancelled(abort.job_id)))
            return
        self._executions.drop([execution])
        spooled = self._spool.find(abort.job_id)  # it may have won the race
        outcome: AnyOutcome = cancelled(abort.job_id)
        if spooled is not None:
            (outcome,) = self._executions.kept([spooled.outcome])
        self._owe(outcome, abort.token, execution.spec_digest)

    def _receive_signals(self, signals: int) -> None:
        for number in os.read(signals, _MOST_SIGNALS):
            if number == signal.SIGUSR1:
                self._is_draining = True
                self._send(wire.Drain())
            elif number in {signal.SIGTERM, signal.SIGINT}:
                self._is_over = True

    # -- executions ----------------------------------------------------------------------------

    def _finish(self, ended: list[Execution]) -> None:
        for execution, outcome in self._executions.finish(ended):
            logger.info("job ended job=%s kind=%s", execution.job.job_id, outcome.kind)
            if isinstance(outcome, Unserved) and outcome.cause == "unhealthy_device":
                self._leave_service(outcome.message)
            self._owe(outcome, execution.token, execution.spec_digest)

    def _leave_service(self, reason: str) -> None:
        """Take no further job: the device must not be measured on. The worker ends by draining."""
        logger.error("out of service: %s", reason)
        self.quarantine, self._is_draining = reason, True
        self._send(wire.Drain())

    def _owe(self, outcome: AnyOutcome, token: int, spec_digest: str) -> None:
        owed = _Owed(wire.Done(token=token, outcome=outcome), spec_digest)
        self._owed[outcome.job_id] = owed
        self._send_owed(owed)

    def _send_owed(self, owed: _Owed) -> None:
        try:
            self._send(owed.done)
        except TooLarge as error:
            job_id = owed.done.outcome.job_id
            outcome = Unserved(
                job_id=job_id, cause="internal_error", message=str(error), is_retryable=False
            )
            owed.done = wire.Done(token=owed.done.token, outcome=outcome)
            self._send(owed.done)
        owed.sent_s = time.monotonic()

    def _send(self, message: wire.FromWorker) -> bool:
        """Send without waiting; false when no broker is connected."""
        try:
            self._socket.send_multipart(wire.encode(message), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _leave(self) -> None:
        self._executions.close()
        self._send(wire.Bye())
        self._socket.close(linger=_FAREWELL_MS)
        self._context.term()


def _out_of_service(job_id: str, reason: str) -> Unserved:
    return Unserved(job_id=job_id, cause="unhealthy_device", message=reason, is_retryable=True)


def _id_used_twice(job_id: str) -> Unserved:
    return Unserved(
        job_id=job_id,
        cause="internal_error",
        message=f"job id {job_id!r} has an outcome for another job; "
        "derive ids from everything that makes a job different",
        is_retryable=False,
    )
