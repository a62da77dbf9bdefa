"""Workers of this machine that outlive the command that started them.

Each has a session of its own, a log, and a note with its process id and the time it began, so that
a later command finds it again and never mistakes another process for it.
"""

import os
import select
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from gpu_runner.errors import PoolError
from gpu_runner.lock import lock_file
from gpu_runner.message import Message
from gpu_runner.provisioning.engine import (
    Provision,
    Provisioned,
    WorkerPlan,
    home_of,
    worker_command,
)
from gpu_runner.security.keys import make_pair, note_broker
from gpu_runner.spool import write_file

_LOG = "worker.log"
_STOP_S = 15.0
_LOCK_PATIENCE_S = 5.0
_BEGAN = 19
"""Field of /proc/PID/stat, counted after the name: when the process began, in ticks."""


class _Note(Message):
    """How a worker's process is known again."""

    pid: int
    began: int


class LocalEngine:
    """Workers below one workspace."""

    def __init__(self, plan: WorkerPlan) -> None:
        self._plan = plan

    def start(self, count: int) -> Provision:
        """See that so many workers run; those that do are left alone.

        Raises:
            PoolError: one cannot be started, or another command is at it.
        """
        self._keep(range(count))
        return self.list()

    def keep(self, number: int) -> None:
        """See that one worker runs.

        Raises:
            PoolError: it cannot be started, or another command is at it.
        """
        self._keep([number])

    def list(self) -> Provision:
        """Say which workers were started here and whether they run."""
        folder = Path(self._plan.workspace).expanduser()
        prefix = f"{self._plan.pool}-"
        names = sorted(
            (path.parent.name for path in folder.glob(f"{prefix}*/provision.json")),
            key=lambda name: (len(name), name),
        )
        return Provision(workers=tuple(self._seen(name) for name in names))

    def drain(self, name: str) -> Provision:
        """Let a worker finish its job and end; returns at once.

        Raises:
            PoolError: there is no such worker.
        """
        self._signal(name, signal.SIGUSR1)
        return Provision(workers=(self._seen(name),))

    def stop(self, name: str) -> Provision:
        """End a worker, within fifteen seconds, and whatever it runs.

        Raises:
            PoolError: there is no such worker.
        """
        self._signal(name, signal.SIGTERM)
        if not self._has_ended(name, _STOP_S):
            self._signal(name, signal.SIGKILL)
            self._has_ended(name, _STOP_S)
        return Provision(workers=(self._seen(name),))

    def _keep(self, numbers: Iterable[int]) -> None:
        folder = Path(self._plan.workspace).expanduser()
        try:
            lock = lock_file(folder / "provision.lock", patience_s=_LOCK_PATIENCE_S)
        except OSError as error:
            raise PoolError(f"cannot use {folder}: {error}") from error
        try:
            for number in numbers:
                pidfd = self._pidfd(self._plan.name_of(number))
                if pidfd is None:
                    self._begin(number)
                else:
                    os.close(pidfd)
        finally:
            os.close(lock)

    def _begin(self, number: int) -> None:
        name = self._plan.name_of(number)
        home = home_of(self._plan, name)
        home.mkdir(parents=True, exist_ok=True)
        if self._plan.keys:
            keys = Path(self._plan.keys).expanduser() / name
            make_pair(keys)
            if self._plan.broker_key:
                note_broker(keys, self._plan.broker_key)
        command = worker_command(self._plan, name, workspace=str(home / "work"))
        environment = dict(os.environ)
        if number < self._plan.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = str(number)
        pid = _spawn([sys.executable, "-P", "-m", "gpu_runner.cli", *command], environment, home)
        began = _began(pid)
        if began is None:
            raise PoolError(f"worker {name} ended at once; see {home / _LOG}")
        note = _Note(pid=pid, began=began)
        write_file(home / "provision.json", note.model_dump_json().encode())

    def _seen(self, name: str) -> Provisioned:
        pidfd = self._pidfd(name)
        if pidfd is None:
            return Provisioned(name=name, state="ended", place=str(home_of(self._plan, name)))
        os.close(pidfd)
        note = self._note(name)
        return Provisioned(name=name, state="running", place=f"process {note.pid}")

    def _signal(self, name: str, number: signal.Signals) -> None:
        self._note(name)
        pidfd = self._pidfd(name)
        if pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, number)
            os.close(pidfd)

    def _has_ended(self, name: str, wait_s: float) -> bool:
        pidfd = self._pidfd(name)
        if pidfd is None:
            return True
        try:
            return bool(select.select([pidfd], [], [], wait_s)[0])
        finally:
            os.close(pidfd)

    def _note(self, name: str) -> _Note:
        path = home_of(self._plan, name) / "provision.json"
        try:
            return _Note.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            names = ", ".join(worker.name for worker in self.list().workers) or "none"
            raise PoolError(f"no worker {name!r} was started here; known: {names}") from error

    def _pidfd(self, name: str) -> int | None:
        """Return a descriptor of a worker's process while that runs, else None."""
        path = home_of(self._plan, name) / "provision.json"
        try:
            note = _Note.model_validate_json(path.read_bytes())
            pidfd = os.pidfd_open(note.pid)
        except (OSError, ValidationError):
            return None
        # Looked at after the descriptor was opened: from here on the number is nobody else's.
        if _began(note.pid) == note.began:
            return pidfd
        os.close(pidfd)
        return None


def _spawn(command: Sequence[str], environment: Mapping[str, str], home: Path) -> int:
    """Start a process with a session and a log of its own; nobody here waits for it."""
    appending = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        command[0],
        list(command),
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(home / _LOG), appending, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def _began(pid: int) -> int | None:
    """Return when a process began, or None for one that is not there or has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {"Z", "X"} else int(fields[_BEGAN])
