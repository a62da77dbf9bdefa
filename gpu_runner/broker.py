"""The broker process: one ROUTER around a Pool. It receives, keeps, sends and tells the time.

No decision is made here; a message that cannot be parsed is answered and counted, one that cannot
be delivered is reported to the pool. What a message promises is kept before it leaves.
"""

import logging
import time
from collections import deque
from pathlib import Path

import zmq

from gpu_runner import wire
from gpu_runner.endpoint import router
from gpu_runner.errors import PoolError
from gpu_runner.keeping import Keeper, MemoryKeeper
from gpu_runner.lock import lock_file
from gpu_runner.operations import Surveyed
from gpu_runner.outbox import Outbox
from gpu_runner.pool import Pool, PoolPlan, Sends
from gpu_runner.publishing import Publisher
from gpu_runner.security.gate import open_gate
from gpu_runner.spool import write_file
from gpu_runner.wire import Inbox, Malformed, Refusal, TooLarge

logger = logging.getLogger(__name__)

_MOST_A_TURN = 200
"""Messages read before the pool's clock is looked at again."""
_TICKS_A_BEAT = 2
_LOCK_PATIENCE_S = 5.0
_HIGHEST_EPOCH = 2**31 - 1


class Broker:
    """Serves one endpoint until it is told to stop."""

    def __init__(
        self,
        endpoint: str,
        plan: PoolPlan,
        *,
        keeper: Keeper | None = None,
        events: str | None = None,
        keys: Path | None = None,
    ) -> None:
        """Listen.

        Args:
            endpoint: where.
            plan: what the pool is told.
            keeper: where changes are kept before what depends on them is sent; by default
                nowhere. It is closed with the broker.
            events: where to publish what happened; by default nowhere.
            keys: folder of the broker's pair and of the list of those who may come in; without
                it only addresses of this machine are allowed.

        Raises:
            PoolError: the endpoint is not allowed or taken, or the keys cannot be used.
            StoreFailed: what was kept cannot be read.
        """
        self._endpoint = endpoint
        self._tick_s = plan.beat_s / _TICKS_A_BEAT
        self._keeper: Keeper = keeper or MemoryKeeper(plan.epoch)
        self._outbox = Outbox()
        self._pool = Pool(plan, time.monotonic(), self._keeper)
        self._pool.restore(self._keeper.restored())
        self._inbox = Inbox(wire.TO_BROKER)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._gate = open_gate(self._context, keys)
        except PoolError:
            self._context.term()
            self._keeper.close()
            raise
        pair = self._gate.pair
        try:
            self._socket = router(self._context, endpoint, pair)
            self._publisher = Publisher(self._context, events, plan.epoch, pair) if events else None
        except PoolError:
            self._gate.close()
            self._context.destroy(linger=0)
            self._keeper.close()
            raise

    @property
    def endpoint(self) -> str:
        """Where it listens, with the port that was chosen for `tcp://127.0.0.1:*`."""
        bound = self._socket.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(bound, bytes)
        return bound.rstrip(b"\0").decode()

    def serve(self, stop: int) -> None:
        """Serve until the descriptor `stop` is readable; close the socket then."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(stop, zmq.POLLIN)
        if self._keeper.fileno is not None:
            poller.register(self._keeper.fileno, zmq.POLLIN)
        logger.info("broker listens endpoint=%s", self.endpoint)
        try:
            next_tick_s = time.monotonic()
            while True:
                wait_s = max(0.0, next_tick_s - time.monotonic())
                ready = dict(poller.poll(int(wait_s * 1000) + 1))
                if stop in ready:
                    return
                if self._keeper.fileno in ready:
                    self._deliver(self._outbox.release(self._keeper.committed()))
                if self._socket in ready:
                    self._receive_waiting()
                if time.monotonic() >= next_tick_s:
                    if self._gate.tick() and self._publisher is not None:
                        self._publisher.begin_anew()
                    self._deliver(self._kept(self._pool.tick(time.monotonic())))
                    self._keeper.flush()
                    if self._publisher is not None:
                        self._publisher.tick(time.monotonic(), self._keeper.span()[1])
                    next_tick_s = time.monotonic() + self._tick_s
                self._publish()
        finally:
            self._socket.close()
            if self._publisher is not None:
                self._publisher.close()
            self._gate.close()
            self._context.term()
            self._keeper.close()
            logger.info("broker ends malformed=%s", dict(self._inbox.refused))

    def _publish(self) -> None:
        fresh = self._keeper.fresh()
        if self._publisher is not None:
            self._publisher.publish(fresh)

    def _receive_waiting(self) -> None:
        for _ in range(_MOST_A_TURN):
            try:
                received = self._gate.receive(self._socket)
            except zmq.Again:
                return
            if received is None:
                continue
            peer, *frames = received
            message = self._inbox.parse(frames)
            if isinstance(message, Malformed):
                self._refuse(peer, message)
            elif why := self._gate.objection(peer, message.kind, wire.claimed_name(message)):
                self._send(peer, wire.Refused(code=Refusal.FORBIDDEN, message=why))
            else:
                logger.debug("received kind=%s", message.kind)
                self._deliver(self._kept(self._pool.receive(peer, message, time.monotonic())))

    def _refuse(self, peer: bytes, malformed: Malformed) -> None:
        count = self._inbox.refused.total()
        if count & (count - 1) == 0:  # a flood fills no log
            logger.warning(
                "message refused reason=%s count=%d: %s", malformed.reason, count, malformed.detail
            )
        code = Refusal.PROTOCOL if malformed.reason == "protocol" else Refusal.MALFORMED
        self._send(peer, wire.Refused(code=code, message=malformed.detail))

    def _kept(self, sends: Sends) -> Sends:
        """Have kept what `sends` depend on; return what may leave now."""
        batch = self._keeper.write(self._pool.entries())
        return self._outbox.hold(sends, batch, self._keeper.committed())

    def _deliver(self, sends: Sends) -> None:
        waiting = deque(sends)
        while waiting:
            peer, message = waiting.popleft()
            if isinstance(message, Surveyed):
                message = self._completed(message)
            if isinstance(message, wire.Lease):
                logger.info("job leased job=%s token=%d", message.job.job_id, message.token)
            elif isinstance(message, wire.Result):
                job_id, kind = message.outcome.job_id, message.outcome.kind
                logger.info("outcome sent job=%s kind=%s", job_id, kind)
            if not self._send(peer, message):
                waiting += self._kept(self._pool.undelivered(peer, message, time.monotonic()))

    def _completed(self, surveyed: Surveyed) -> Surveyed:
        """Add to the pool's state what only its shell knows."""
        return surveyed.model_copy(
            update={
                "is_kept": self._keeper.fileno is not None,
                "unkept_messages": len(self._outbox),
                "malformed": dict(self._inbox.refused),
                "events": self._publisher.endpoint if self._publisher else "",
            }
        )

    def _send(self, peer: bytes, message: wire.FromBroker) -> bool:
        """Send without waiting; false when nobody is there or its queue is full."""
        if not self._gate.reaches(peer):
            return False
        try:
            self._socket.send_multipart([peer, *wire.encode(message)], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in {zmq.EHOSTUNREACH, zmq.EAGAIN}:
                raise
            logger.debug("not delivered kind=%s: %s", message.kind, error)
            return False
        except TooLarge as error:  # grew past the limit by what its sender left out
            logger.error("not delivered: %s", error)  # noqa: TRY400 - the text says it all
            return False
        return True


def next_epoch(state: Path | None) -> int:
    """Return a number larger than any that a broker with this state directory had before.

    The directory stays locked until this process ends. Without one the wall clock serves: right
    as long as it does not go back between two brokers of the same workers.

    Raises:
        PoolError: the directory cannot be written, or another broker uses it.
    """
    if state is None:
        return int(time.time())
    path = state / "epoch"
    try:
        lock_file(state / "broker.lock", patience_s=_LOCK_PATIENCE_S)
        epoch = _last_epoch(path) + 1
        if epoch > _HIGHEST_EPOCH:
            msg = f"{path} is beyond {_HIGHEST_EPOCH}; delete it when no worker is alive"
            raise PoolError(msg)
        write_file(path, str(epoch).encode())
    except OSError as error:
        msg = f"cannot keep the epoch in {state}: {error}"
        raise PoolError(msg) from error
    return epoch


def _last_epoch(path: Path) -> int:
    try:
        return max(0, int(path.read_text()))
    except FileNotFoundError:
        return 0
    except ValueError:  # damaged: the clock is above every count of restarts
        return int(time.time())
