"""Messages between the supervisor and the device processes it starts: JSON, and descriptors.

Both ends are trusted code; no candidate code runs on a host here. One message is a frame of a
4-byte length and JSON text; file descriptors travel beside the first byte.
"""

import array
import json
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any, Final

from gpu_runner.errors import RunnerError

_LENGTH: Final = struct.Struct("<I")
_LARGEST: Final = 64 << 20
_MOST_DESCRIPTORS: Final = 250
"""Linux passes 253 at most with one message."""

Message = dict[str, Any]


class ChannelClosed(RunnerError):
    """The other end is gone."""


class ChannelTimedOut(RunnerError):
    """The other end did not answer in time."""


class Channel:
    """One end of a connected stream socket."""

    def __init__(self, end: socket.socket) -> None:
        """Take over the socket."""
        self._end = end

    def fileno(self) -> int:
        """Return the descriptor, for handing it to a process."""
        return self._end.fileno()

    def close(self) -> None:
        """Close this end; the other one then reads `ChannelClosed`."""
        self._end.close()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message, with descriptors that stay open here.

        Raises:
            ChannelClosed: nobody reads any more.
        """
        text = json.dumps(message).encode()
        frame = _LENGTH.pack(len(text)) + text
        ancillary = []
        if descriptors:
            fds = array.array("i", descriptors)
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)]
        try:
            self._end.settimeout(None)
            self._end.sendmsg([struct.pack("<I", len(descriptors))], ancillary)
            self._end.sendall(frame)
        except OSError as error:
            raise ChannelClosed(str(error)) from error

    def receive(self, timeout_s: float | None = None) -> tuple[Message, list[int]]:
        """Return the next message and the descriptors that came with it.

        Raises:
            ChannelClosed: the other end is gone.
            ChannelTimedOut: nothing, or not all of it, came in time.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        descriptors = self._descriptors(deadline)
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size, deadline))
        if length > _LARGEST:
            raise ChannelClosed(f"a message of {length} bytes; at most {_LARGEST}")
        message = json.loads(self._exactly(length, deadline))
        return dict(message), descriptors

    def _descriptors(self, deadline: float | None) -> list[int]:
        space = socket.CMSG_SPACE(_MOST_DESCRIPTORS * array.array("i").itemsize)
        self._wait(deadline)
        try:
            head, ancillary, _, _ = self._end.recvmsg(4, space)
        except TimeoutError as error:
            raise ChannelTimedOut("no answer") from error
        except OSError as error:
            raise ChannelClosed(str(error)) from error
        fds = array.array("i")
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
        if len(head) < 4:  # noqa: PLR2004 - the count's own size
            head += self._exactly(4 - len(head), deadline) if head else b""
        if not head:
            raise ChannelClosed("the other end is gone")
        (count,) = struct.unpack("<I", head)
        if count != len(fds):
            raise ChannelClosed(f"{len(fds)} descriptors came instead of {count}")
        return list(fds)

    def _exactly(self, count: int, deadline: float | None) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            self._wait(deadline)
            try:
                part = self._end.recv(count - len(parts))
            except TimeoutError as error:
                raise ChannelTimedOut("the answer broke off") from error
            except OSError as error:
                raise ChannelClosed(str(error)) from error
            if not part:
                raise ChannelClosed("the other end is gone")
            parts += part
        return bytes(parts)

    def _wait(self, deadline: float | None) -> None:
        left = None if deadline is None else max(deadline - time.monotonic(), 0.001)
        self._end.settimeout(left)


def connected() -> tuple[Channel, socket.socket]:
    """Return our end, and the other one for a process that is about to start."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return Channel(ours), theirs
