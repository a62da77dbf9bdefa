"""Outcomes made durable in groups: one wait for the disk, however many jobs have ended meanwhile.

A child of a worker writes its outcome's file completely and waits for no disk; what a stopped
machine may lose of it is here as well before anybody is told. Appended to, one line an outcome, a
line as the file has it; begun anew when it is long and the files themselves are on the disk.
"""

import ctypes
import json
import logging
import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from gpu_runner.spool import Spool, parse_outcome, write_file

logger = logging.getLogger(__name__)

MOST_BYTES: Final = 8 << 20
"""After so many a new log is begun: 8,000 outcomes of builds, and a second to read again."""
_SUFFIX: Final = ".log"


class SpoolLog:
    """The log of one worker, whose lock on the spool its owner holds."""

    def __init__(self, spool: Spool, worker: str, *, most_bytes: int = MOST_BYTES) -> None:
        """Write again what is in a log and in no file, then begin.

        Raises:
            OSError: the disk is full or the folder cannot be written.
        """
        self._spool = spool
        self._most_bytes = most_bytes
        self._prefix = f"{worker}."
        self._settling: threading.Thread | None = None
        left = self._logs()
        self._recover(left)
        self._serial = 1 + max((self._number(path) for path in left), default=0)
        self._fd, self._path = self._begin()
        if any(path.stat().st_size for path in left):
            self._settle(os.dup(self._fd), left)
        else:
            for path in left:
                path.unlink()

    def keep(self, job_ids: Iterable[str]) -> None:
        """Return when the outcomes of these jobs, as their files have them, are on the disk.

        Jobs without a file are passed over: there is nothing to lose.

        Raises:
            OSError: the disk is full; none of them may be on it.
        """
        lines = []
        for job_id in job_ids:
            content = self._spool.content(job_id)
            if content is not None:
                lines.append(content + b"\n")
        if not lines:
            return
        text = b"".join(lines)
        written = os.write(self._fd, text)
        while written < len(text):
            written += os.write(self._fd, text[written:])
        os.fdatasync(self._fd)
        if os.fstat(self._fd).st_size > self._most_bytes:
            self._begin_anew()

    def close(self, patience_s: float = 1.0) -> None:
        """Let go; the log stays, for whoever comes next.

        Args:
            patience_s: how long to wait for a disk that older logs wait for; they stay otherwise.
        """
        if self._settling is not None:
            self._settling.join(patience_s)
        os.close(self._fd)

    def _begin(self) -> tuple[int, Path]:
        path = self._spool.folder / f"{self._prefix}{self._serial}{_SUFFIX}"
        self._serial += 1
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        folder = os.open(self._spool.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return descriptor, path

    def _begin_anew(self) -> None:
        """Begin a new log; drop the last one once everything that was written before is on disk."""
        if self._settling is not None and self._settling.is_alive():
            return  # the disk is slow: the log grows on
        last_fd, last_path = self._fd, self._path
        self._fd, self._path = self._begin()
        self._settle(last_fd, [last_path])

    def _settle(self, descriptor: int, logs: list[Path]) -> None:
        """Drop logs once what they are of is on the disk, which may take long."""
        self._settling = threading.Thread(target=_settle, args=(descriptor, logs), daemon=True)
        self._settling.start()

    def _recover(self, left: list[Path]) -> None:
        """Write the last line of every job whose file is lost or damaged."""
        lines: dict[str, bytes] = {}
        for path in left:
            for line in path.read_bytes().split(b"\n"):
                # What does not fit is the last line of a machine that stopped: nobody was told.
                with suppress(ValueError, RecursionError, KeyError, TypeError):
                    job_id = str(json.loads(line)["outcome"]["job_id"])
                    parse_outcome(line, job_id)
                    lines[job_id] = line
        lost = [job_id for job_id in lines if self._spool.read(job_id) is None]
        for job_id in lost:
            write_file(self._spool.path(job_id), lines[job_id])
        if lost:
            logger.warning("outcomes written again from a log jobs=%d", len(lost))

    def _logs(self) -> list[Path]:
        found = self._spool.folder.glob(f"{self._prefix}*{_SUFFIX}")
        return sorted((path for path in found if self._number(path)), key=self._number)

    def _number(self, path: Path) -> int:
        """Return the serial number in a log's name; 0: it is not one of ours."""
        middle = path.name.removeprefix(self._prefix).removesuffix(_SUFFIX)
        return int(middle) if middle.isdecimal() else 0


def _settle(descriptor: int, logs: list[Path]) -> None:
    """Wait until the file system has everything on disk, then drop logs; closes the descriptor."""
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) == 0:
            for path in logs:
                path.unlink(missing_ok=True)
        else:  # they stay, and are read at the next start
            logger.warning("the file system cannot be flushed: %s", os.strerror(ctypes.get_errno()))
    finally:
        os.close(descriptor)
