"""The file `peers.toml`: changed in one step, read again after a change, nobody when damaged."""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from gpu_runner.errors import PoolError
from gpu_runner.lock import lock_file
from gpu_runner.security.keys import read_guarded
from gpu_runner.security.peers import AllowList, parse, render
from gpu_runner.spool import write_file

logger = logging.getLogger(__name__)

PEERS = "peers.toml"
_MOST_BYTES = 4 * 1024 * 1024
_OTHERS_WRITE = 0o022
_LOCK_PATIENCE_S = 5.0
_NOBODY = AllowList()


def load_peers(folder: Path) -> AllowList:
    """Return the list of a broker's folder; without a file nobody is enrolled.

    Raises:
        PoolError: it cannot be read, is damaged, or others can write it.
    """
    path = folder / PEERS
    remedy = f"chmod go-w {path}"
    try:
        content = read_guarded(path, forbidden=_OTHERS_WRITE, remedy=remedy, most_bytes=_MOST_BYTES)
        return parse(content.decode())
    except FileNotFoundError:
        return _NOBODY
    except (OSError, UnicodeDecodeError, PoolError) as error:
        raise PoolError(f"cannot use {path}: {error}") from error


def change_peers(folder: Path, change: Callable[[AllowList], AllowList]) -> None:
    """Apply a change to the list on disk; two commands at a time do not undo each other.

    Raises:
        PoolError: the list cannot be read or written, or `change` refuses.
    """
    try:
        lock = lock_file(folder / f"{PEERS}.lock", patience_s=_LOCK_PATIENCE_S)
        try:
            write_file(folder / PEERS, render(change(load_peers(folder))).encode())
        finally:
            os.close(lock)
    except OSError as error:
        raise PoolError(f"cannot write {folder / PEERS}: {error}") from error


class WatchedPeers:
    """The list as it is on disk now.

    While the file is damaged nobody is on it: a list that cannot be read must not let in whom its
    owner may have struck out. It is looked at by name, time and size, so `refresh` is cheap.
    """

    def __init__(self, folder: Path) -> None:
        """Read it.

        Raises:
            PoolError: see `load_peers`. A broker does not start with a list it cannot read.
        """
        self._folder = folder
        self._lock = threading.Lock()
        self._seen = self._signature()
        self.allowed = load_peers(folder)
        """Replaced as a whole, so that another thread may read it at any time."""

    def refresh(self) -> bool:
        """Read the file if it has changed; return whether it had. From any thread."""
        with self._lock:
            seen = self._signature()
            if seen == self._seen:
                return False
            self._read()
            self._seen = seen
        return True

    def current(self) -> AllowList:
        """Return the list after a look at the file: a key that was just enrolled is on it."""
        self.refresh()
        return self.allowed

    def _read(self) -> None:
        try:
            self.allowed = load_peers(self._folder)
        except PoolError as error:
            self.allowed = _NOBODY
            logger.error("nobody is admitted until the list is mended: %s", error)  # noqa: TRY400 - the text says it all
        else:
            count = sum(not holder.revoked for holder in self.allowed.peer)
            logger.info("list of peers read again keys=%d", count)

    def _signature(self) -> tuple[int, ...]:
        try:
            facts = (self._folder / PEERS).stat()
        except OSError:
            return ()
        return (facts.st_ino, facts.st_mtime_ns, facts.st_size, facts.st_mode, facts.st_uid)
