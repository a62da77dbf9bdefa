"""Where the broker's entries are kept: in a database by a thread of its own, or not at all.

The thread writes everything that came during the last fsync in one transaction, so a slow disk
delays the messages that depend on it and nothing else. A disk that fails ends the broker: what it
has not kept it has not promised.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Protocol

from gpu_runner.jobs import AnyJob
from gpu_runner.journal import Archive, Entry, Finished, NoArchive, Restored
from gpu_runner.operations import Change, Event
from gpu_runner.store import FILE_NAME, Store, StoreFailed, event_of

logger = logging.getLogger(__name__)

LAZY = {Change.STARTED, Change.JOINED}
"""Nothing is promised with them, and a restart learns them from the workers again."""
MOST_EVENTS = 200_000
"""Events kept; about 20 MB."""
MOST_IN_MEMORY = 10_000
"""Events kept by a broker without a database."""
KEPT_DAYS = 14.0
"""Outcomes older than this are deleted; runs keep their own copies."""
_DAY_S = 86_400.0
_PRUNE_EVERY = 10_000
"""Events; fewer jobs end meanwhile than are deleted at once, so nothing piles up."""


class Keeper(Archive, Protocol):
    """Keeps entries."""

    @property
    def fileno(self) -> int | None:
        """Descriptor that is readable when more is kept; None where that is at once."""

    def restored(self) -> Restored:
        """Return what the broker before left behind.

        Raises:
            StoreFailed: the database cannot be read.
        """

    def write(self, entries: Sequence[Entry]) -> int:
        """Have entries kept; return the number of the newest batch that sends must wait for."""

    def flush(self) -> None:
        """Have kept also what nothing waits for."""

    def committed(self) -> int:
        """Return the number of the newest batch that is kept.

        Raises:
            StoreFailed: nothing more can be kept.
        """

    def fresh(self) -> tuple[Event, ...]:
        """Hand over the events that were kept since this was last called, in order."""

    def close(self) -> None:
        """Keep what was written, and end."""


class MemoryKeeper(NoArchive):
    """Keeps nothing but the last events."""

    fileno = None

    def __init__(self, epoch: int = 0) -> None:
        self._epoch = epoch
        self._ring: deque[Event] = deque(maxlen=MOST_IN_MEMORY)
        self._last_seq = 0
        self._fresh: list[Event] = []

    def restored(self) -> Restored:
        """Know of no earlier broker."""
        return Restored()

    def write(self, entries: Sequence[Entry]) -> int:
        """Number them; nothing has to be waited for."""
        at_s = time.time()
        for entry in entries:
            self._last_seq += 1
            event = event_of(entry, seq=self._last_seq, epoch=self._epoch, at_s=at_s)
            self._ring.append(event)
            self._fresh.append(event)
        return 0

    def flush(self) -> None:
        """Have nothing to do."""

    def committed(self) -> int:
        """Return the one number there is."""
        return 0

    def fresh(self) -> tuple[Event, ...]:
        """Hand over the events since this was last called."""
        fresh, self._fresh = tuple(self._fresh), []
        return fresh

    def events(self, after_seq: int, limit: int) -> tuple[Event, ...]:
        """Return events of this epoch, as far back as they are remembered."""
        return tuple(islice((e for e in self._ring if e.seq > after_seq), limit))

    def span(self) -> tuple[int, int]:
        """Return the numbers of the oldest and the newest event."""
        return (self._ring[0].seq if self._ring else 0, self._last_seq)

    def close(self) -> None:
        """Have nothing to do."""


class StoreKeeper:
    """Keeps entries in a database."""

    def __init__(self, folder: Path, epoch: int) -> None:
        """Open the database and start the thread.

        Args:
            folder: of the file; it is there and this process owns it.
            epoch: of this broker, unless the database has seen it already.

        Raises:
            StoreFailed: see `Store`.
        """
        path = folder / FILE_NAME
        self._store = Store(path)
        self.is_new = self._store.is_new
        """Whether no broker kept anything here before."""
        self.epoch = self._store.begin_epoch(epoch)
        self._prune()
        self._reader = Store(path, is_reader=True)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._change = threading.Condition()
        self._waiting: list[Entry] = []
        self._lazy: list[Entry] = []
        self._fresh: dict[str, tuple[int, Finished]] = {}
        """Ended jobs that the reader may not see yet, by the batch that holds them."""
        self._batch = self._handed = 0
        self._committed = 0
        self._told: list[Event] = []
        self._failure: StoreFailed | None = None
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    @property
    def fileno(self) -> int:
        """Descriptor that is readable when more is kept."""
        return self._wake

    def restored(self) -> Restored:
        """Return what the broker before left behind.

        Raises:
            StoreFailed: the database cannot be read.
        """
        return self._reader.restored(time.time())

    def write(self, entries: Sequence[Entry]) -> int:
        """Have entries kept; return the number of the newest batch that sends must wait for."""
        self._lazy += entries
        if any(entry.change not in LAZY for entry in entries):
            self._hand_over()
        return self._batch

    def flush(self) -> None:
        """Have kept also what nothing waits for."""
        if self._lazy:
            self._hand_over()

    def committed(self) -> int:
        """Return the number of the newest batch that is kept.

        Raises:
            StoreFailed: nothing more can be kept.
        """
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        with self._change:
            if self._failure is not None:
                raise self._failure
            committed = self._committed
        for job_id in [j for j, (batch, _) in self._fresh.items() if batch <= committed]:
            del self._fresh[job_id]
        return committed

    def finished(self, job_id: str) -> Finished | None:
        """Return how a job ended, also one that is still being written.

        Raises:
            StoreFailed: the database cannot be read.
        """
        fresh = self._fresh.get(job_id)
        return fresh[1] if fresh is not None else self._reader.finished(job_id)

    def content(self, job_id: str) -> AnyJob | None:
        """Return a job of before the start.

        Raises:
            StoreFailed: the database cannot be read.
        """
        return self._reader.content(job_id)

    def events(self, after_seq: int, limit: int) -> tuple[Event, ...]:
        """Return events that are kept, of all epochs.

        Raises:
            StoreFailed: the database cannot be read.
        """
        return self._reader.events(after_seq, limit)

    def span(self) -> tuple[int, int]:
        """Return the numbers of the oldest and the newest event that are kept.

        Raises:
            StoreFailed: the database cannot be read.
        """
        return self._reader.span()

    def fresh(self) -> tuple[Event, ...]:
        """Hand over the events that were kept since this was last called, in order."""
        with self._change:
            told, self._told = tuple(self._told), []
        return told

    def close(self) -> None:
        """Keep what was written, and end the thread."""
        self.flush()
        with self._change:
            self._is_closing = True
            self._change.notify()
        self._thread.join()
        self._reader.close()
        self._store.close()
        os.close(self._wake)

    def _prune(self) -> None:
        before_s = time.time() - KEPT_DAYS * _DAY_S
        self._store.prune(most_events=MOST_EVENTS, finished_before_s=before_s)
        self._prune_at_seq = self._store.last_seq + _PRUNE_EVERY

    def _hand_over(self) -> None:
        self._batch += 1
        for entry in self._lazy:
            if entry.outcome is not None and entry.row is not None:
                row = entry.row
                self._fresh[row.job_id] = (
                    self._batch,
                    Finished(
                        spec_digest=row.spec_digest,
                        token=row.token,
                        owner=row.owner,
                        outcome=entry.outcome,
                    ),
                )
        with self._change:
            self._waiting += self._lazy
            self._handed = self._batch
            self._change.notify()
        self._lazy = []

    # -- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._is_closing)
                if not self._waiting:
                    return
                entries, self._waiting = self._waiting, []
                batch = self._handed
            try:
                events = self._store.keep(entries, epoch=self.epoch, at_s=time.time())
                if self._store.last_seq >= self._prune_at_seq:
                    self._prune()
            except StoreFailed as error:
                logger.critical("%s", error)
                with self._change:
                    self._failure = error
                os.eventfd_write(self._wake, 1)
                return
            with self._change:
                self._committed = batch
                self._told += events
            os.eventfd_write(self._wake, 1)
