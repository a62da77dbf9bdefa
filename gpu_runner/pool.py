"""The job bus's core: which job is where, who may end it, and what to send next.

Pure: `receive` and `tick` take a message and the time and return what to send; `entries` returns
what has to be written down before that is sent. No sockets, no clock, no files.
"""

from gpu_runner import wire
from gpu_runner.client_desk import ClientDesk
from gpu_runner.journal import Archive, Entry, NoArchive, Restored
from gpu_runner.leases import Leases, PoolPlan, Send, Sends
from gpu_runner.operations_desk import OperationsDesk
from gpu_runner.wire import State
from gpu_runner.worker_desk import WorkerDesk

__all__ = ["Pool", "PoolPlan", "Send", "Sends"]


class Pool:
    """Jobs, workers and the queue between them."""

    def __init__(self, plan: PoolPlan, now_s: float, archive: Archive | None = None) -> None:
        """Begin.

        Args:
            plan: what the pool is told.
            now_s: a clock that never goes back.
            archive: where jobs are looked up that ended long ago; by default nowhere.
        """
        self._leases = Leases(plan, now_s, archive)
        self._clients = ClientDesk(self._leases)
        self._workers = WorkerDesk(self._leases)
        self._operators = OperationsDesk(self._leases, archive or NoArchive())

    def restore(self, restored: Restored) -> None:
        """Go on with the jobs of the broker before; call it before anything else."""
        self._leases.restore(restored)

    def receive(self, peer: bytes, message: wire.ToBroker, now_s: float) -> Sends:
        """Take in one message; return what to send because of it, in order.

        Raises:
            ValueError: time went backwards.
        """
        self._leases.advance(now_s)
        if isinstance(message, wire.FromClient):
            self._clients.receive(peer, message)
        elif isinstance(message, wire.FromOperator):
            self._operators.receive(peer, message)
        else:
            self._workers.receive(peer, message)
        return self._leases.flush()

    def tick(self, now_s: float) -> Sends:
        """Let time pass: leases and deadlines pass, the pool settles."""
        self._leases.advance(now_s)
        for member in self._leases.roster.silent(now_s):
            why = f"worker {member.name} fell silent"
            self._leases.dismiss(member, why, is_charged=not member.is_expected)
        self._leases.expire()
        return self._leases.flush()

    def undelivered(self, peer: bytes, message: wire.AnyMessage, now_s: float) -> Sends:
        """Note that a send failed: nobody is at `peer` any more."""
        self._leases.advance(now_s)
        self._clients.forget(peer)
        self._leases.roster.unreachable(peer)
        if isinstance(message, wire.Lease):
            lost = self._leases.book.known(message.job.job_id)
            if lost and lost.state is State.LEASED and lost.token == message.token:
                self._leases.lose(lost, "the lease could not be delivered", is_charged=False)
        return self._leases.flush()

    def entries(self) -> tuple[Entry, ...]:
        """Hand over the changes made since this was last called, in order.

        What `receive`, `tick` and `undelivered` returned with them may leave only once they are
        kept.
        """
        return self._leases.book.entries()

    def story(self, job_id: str) -> tuple[str, ...]:
        """Return what happened to a job, oldest first; empty for an unknown one."""
        ticket = self._leases.book.find(job_id)
        return tuple(ticket.story) if ticket else ()
