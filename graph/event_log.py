"""The event log of a run: `events.jsonl`, one JSON line for each event.

Append-only and keyed: a node that runs again after a kill says the same things again, and the log
keeps each once.
"""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from graph.durable import append_line, drop_torn_line, whole_lines
from graph.errors import RunDamaged
from graph.events import EVENT, AnyEvent


class EventLog:
    """The one writer, and any number of readers, of a run's events.

    Reading never changes the file. The first append cuts off a line that a killed writer left
    unfinished.
    """

    def __init__(self, path: Path) -> None:
        """Open lazily: nothing is read or created before it is needed."""
        self._path = path
        self._keys: set[str] | None = None
        self._seq = 0
        self._listeners: list[Callable[[AnyEvent], None]] = []
        self._elapsed: Callable[[], float] = lambda: 0.0

    def measure_by(self, elapsed: Callable[[], float]) -> None:
        """Stamp later events with this clock: seconds of the run so far."""
        self._elapsed = elapsed

    def listen(self, listener: Callable[[AnyEvent], None]) -> None:
        """Call `listener` with every event appended from now on."""
        self._listeners.append(listener)

    def append(self, event: AnyEvent) -> bool:
        """Write an event unless its key is already in the log; return whether it was written."""
        keys = self._open()
        if event.key in keys:
            return False
        stamped = event.model_copy(
            update={
                "seq": self._seq + 1,
                "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "elapsed_s": round(self._elapsed(), 3),
            }
        )
        append_line(self._path, stamped.model_dump_json().encode())
        self._seq += 1
        keys.add(event.key)
        for listener in self._listeners:
            listener(stamped)
        return True

    def read(self, after: int = 0) -> Iterator[AnyEvent]:
        """Yield the events whose `seq` is above `after`, oldest first; a follower calls again.

        Raises:
            RunDamaged: a complete line is not an event; names the line.
        """
        for number, line in enumerate(whole_lines(self._path), start=1):
            if number <= after:
                continue
            yield self._event(number, line)

    def _event(self, number: int, line: bytes) -> AnyEvent:
        try:
            return EVENT.validate_json(line)
        except ValidationError as error:
            raise RunDamaged(
                f"{self._path} line {number} is not an event of this version: "
                f"{error.errors()[0]['msg']}; move the run directory away or delete the line"
            ) from error

    def find(self, key: str) -> AnyEvent | None:
        """Return the event of a key; only lines that hold the key are read as events."""
        if self._keys is not None and key not in self._keys:
            return None
        wanted = json.dumps(key, ensure_ascii=False).encode()
        for number, line in enumerate(whole_lines(self._path), start=1):
            if wanted in line:
                event = self._event(number, line)
                if event.key == key:
                    return event
        return None

    def _open(self) -> set[str]:
        if self._keys is None:
            drop_torn_line(self._path)
            self._keys = set()
            for event in self.read():
                self._keys.add(event.key)
                self._seq = event.seq
        return self._keys
