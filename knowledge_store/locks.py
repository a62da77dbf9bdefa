"""Locks between processes on one machine; a process that dies lets go of its own."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold a lock that others may hold as well, but nobody exclusively."""
    with _held(path, fcntl.LOCK_SH):
        yield


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock that nobody else holds; waits for those who do."""
    with _held(path, fcntl.LOCK_EX):
        yield


class OwnerLock:
    """A lock that is tried once and held until it is released, or the process ends."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.is_held = False
            self._file.close()
        else:
            self.is_held = True

    def release(self) -> None:
        """Let go; a second call does nothing."""
        self.is_held = False
        self._file.close()


@contextmanager
def _held(path: Path, operation: int) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        fcntl.flock(file, operation)
        yield
