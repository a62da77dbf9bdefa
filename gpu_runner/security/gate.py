"""What stands between a socket and the pool: who sent a message, and may they send it?

The handshake lets a key in once; the gate looks at every message, so that a key that was struck
from the list is neither heard nor answered any more although its connection still stands.
"""

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import zmq

from gpu_runner.security.keys import KeyPair, load_pair
from gpu_runner.security.limits import Allowance, Meter
from gpu_runner.security.peer_file import WatchedPeers
from gpu_runner.security.peers import AllowList, Holder
from gpu_runner.security.zap import ZapThread

logger = logging.getLogger(__name__)

Router = zmq.Socket[bytes]


class Gate(Protocol):
    """What a server asks about those who speak to it."""

    pair: KeyPair | None
    """What it proves itself by; None: it serves anybody who reaches its loopback address."""

    def receive(self, socket: Router) -> list[bytes] | None:
        """Return a message with its routing id first; None: it was not let through.

        Raises:
            zmq.Again: none is waiting.
        """
        ...

    def objection(self, peer: bytes, kind: str, worker: str | None, /) -> str:
        """Return why a peer may not send such a message; empty when it may."""
        ...

    def reaches(self, peer: bytes, /) -> bool:
        """Whether a message may be sent to a peer."""
        ...

    def name_of(self, peer: bytes, /) -> str:
        """Return under which name a peer is known."""
        ...

    def tick(self) -> bool:
        """Let time pass; return whether the list of those who may come in has changed."""
        ...

    def close(self) -> None:
        """Stop letting anybody in; before the context ends."""
        ...


class OpenGate:
    """For sockets that only this machine can reach: the file system or the kernel keeps them."""

    pair: KeyPair | None = None

    def receive(self, socket: Router) -> list[bytes] | None:
        """Return the next message."""
        return socket.recv_multipart(zmq.NOBLOCK)

    def objection(self, _peer: bytes, _kind: str, _worker: str | None, /) -> str:
        """Return nothing: everybody may send everything."""
        return ""

    def reaches(self, _peer: bytes, /) -> bool:
        """Whether a message may be sent: to everybody."""
        return True

    def name_of(self, _peer: bytes, /) -> str:
        """Return the one name of all."""
        return "local"

    def tick(self) -> bool:
        """Return that nothing has changed: there is no list."""
        return False

    def close(self) -> None:
        """Do nothing."""


class Ledger:
    """Which connection belongs to which key, and what each key has sent. No sockets."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._keys: dict[bytes, str] = {}
        self._connections: dict[str, OrderedDict[bytes, None]] = {}
        self._meters: dict[str, Meter] = {}

    def key_of(self, peer: bytes) -> str | None:
        """Return the key of a connection; None for one that has not spoken, or long ago."""
        return self._keys.get(peer)

    def notes(self, peer: bytes, key: str, size_bytes: int, now_s: float) -> bool:
        """Note a message; false where it must not be let through.

        A connection stays its first key's: nobody inherits what another key said under the same
        routing id. Of one key only the newest connections are known.
        """
        if self._keys.setdefault(peer, key) != key:
            return False
        known = self._connections.setdefault(key, OrderedDict())
        known[peer] = None
        known.move_to_end(peer)
        if len(known) > self._allowance.connections:
            del self._keys[known.popitem(last=False)[0]]
        meter = self._meters.setdefault(key, Meter(self._allowance, now_s))
        return meter.takes(size_bytes, now_s)

    def forget(self, allowed: AllowList) -> None:
        """Drop what is known of keys that are not admitted any more."""
        kept = {holder.key for holder in allowed.peer if not holder.revoked}
        for key in self._connections.keys() - kept:
            for peer in self._connections.pop(key):
                del self._keys[peer]
            self._meters.pop(key, None)


class KeyGate:
    """For sockets that others can reach: enrolled keys only, each within its role and name."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        folder: Path,
        *,
        allowance: Allowance | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read keys and list, and begin to answer handshakes of the context.

        Raises:
            PoolError: the folder holds no usable keys or list.
        """
        self._clock = clock
        self.pair: KeyPair | None = load_pair(folder)
        self._watched = WatchedPeers(folder)
        self._known = self._watched.allowed
        self._ledger = Ledger(allowance or Allowance())
        self.dropped: Counter[str] = Counter()
        """Messages that were not let through, by reason."""
        self._zap = ZapThread(context, self._watched.current)

    def receive(self, socket: Router) -> list[bytes] | None:
        """Return the next message of an admitted key within its allowance, or None for any other.

        Raises:
            zmq.Again: none is waiting.
        """
        frames = socket.recv_multipart(zmq.NOBLOCK, copy=False)
        try:
            key = str(frames[-1].get("User-Id"))
        except zmq.ZMQError:  # the handshake gave none: nobody whom we let in
            self._drop("nobody")
            return None
        holder = self._watched.allowed.admitted(key)
        if holder is None:
            self._drop("revoked")
            return None
        content = [frame.bytes for frame in frames]
        size_bytes = sum(map(len, content))
        if not self._ledger.notes(content[0], key, size_bytes, self._clock()):
            self._drop(f"limit {holder.name}")
            return None
        return content

    def objection(self, peer: bytes, kind: str, worker: str | None, /) -> str:
        """Return why the peer's role or name does not allow a message; empty when they do."""
        holder = self._holder(peer)
        why = holder.objection(kind, worker) if holder else "this key is not admitted any more"
        if why:
            self._drop("role", why)
        return why

    def reaches(self, peer: bytes, /) -> bool:
        """Whether the peer's key is still admitted."""
        return self._holder(peer) is not None

    def name_of(self, peer: bytes, /) -> str:
        """Return the name that the peer's key is enrolled under; empty when it is not any more."""
        holder = self._holder(peer)
        return holder.name if holder else ""

    def tick(self) -> bool:
        """Read the list again if it has changed, and see that handshakes are answered."""
        self._zap.tend()
        if self._watched.current() is self._known:
            return False
        self._known = self._watched.allowed
        self._ledger.forget(self._known)
        return True

    def close(self) -> None:
        """Stop letting anybody in."""
        self._zap.close()
        if self.dropped:
            logger.info("messages not let through: %s", dict(self.dropped))

    def _holder(self, peer: bytes) -> Holder | None:
        key = self._ledger.key_of(peer)
        return self._watched.allowed.admitted(key) if key else None

    def _drop(self, reason: str, why: str = "") -> None:
        self.dropped[reason] += 1
        count = self.dropped[reason]
        if count & (count - 1) == 0:  # a flood fills no log
            logger.warning("message dropped reason=%s count=%d %s", reason, count, why)


def open_gate(
    context: zmq.Context[zmq.Socket[bytes]],
    folder: Path | None,
    allowance: Allowance | None = None,
) -> Gate:
    """Return the gate for a folder of keys, or the open one where there is none.

    Raises:
        PoolError: see `KeyGate`.
    """
    return OpenGate() if folder is None else KeyGate(context, folder, allowance=allowance)
