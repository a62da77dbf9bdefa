"""Unix sockets in a folder, for processes of one user that find each other by it.

The path of a Unix socket has 107 bytes at most, that of a folder may have more: both ends name the
folder by a descriptor.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_BACKLOG: Final = 64


def listening(place: Path, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """Return a listener that only this user reaches; one that a dead process has left is replaced.

    Raises:
        OSError: the folder cannot be written.
    """
    listener = socket.socket(socket.AF_UNIX, kind)
    try:
        place.unlink(missing_ok=True)
        with _short(place) as path:
            listener.bind(path)
        place.chmod(0o600)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def connect(
    place: Path, timeout_s: float, kind: socket.SocketKind = socket.SOCK_STREAM
) -> socket.socket | None:
    """Return a connection to whoever listens there; None where nobody does, or no folder is."""
    end = socket.socket(socket.AF_UNIX, kind)
    end.settimeout(timeout_s)
    try:
        with _short(place) as path:
            end.connect(path)
    except OSError:
        end.close()
        return None
    return end


@contextmanager
def _short(place: Path) -> Iterator[str]:
    descriptor = os.open(place.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{place.name}"
    finally:
        os.close(descriptor)
