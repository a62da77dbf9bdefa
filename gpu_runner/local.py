"""A pool of this machine: a broker and its workers as processes of ours, started and kept alive.

The embedded default of a run. They end with this process, however it ends, and a run that is
resumed finds everything in the same state directory.
"""

import asyncio
import logging
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gpu_runner.child import DEFAULT_EXECUTOR
from gpu_runner.client import BusClient
from gpu_runner.endpoint import check_endpoint
from gpu_runner.errors import PoolError
from gpu_runner.jobs import AnyJob, AnyOutcome, Unserved
from gpu_runner.lock import lock_file
from gpu_runner.records import Environment

logger = logging.getLogger(__name__)

_PREFIX = "kernelpilot-"
_STOP_S = 1.5
_EARLY_S = 5.0
_MOST_EARLY_ENDS = 3
_PAUSE_S = 0.02
_MOST_PAUSE_S = 1.0
_TAIL_BYTES = 2048

_KEPT_VARIABLES = re.compile(
    r"(PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_.*|TZ|TMPDIR|TEMP|TMP|XDG_.*|VIRTUAL_ENV"
    r"|PYTHON.*|COVERAGE_.*|LD_LIBRARY_PATH|LIBRARY_PATH|CPATH|CC|CXX|CUDA.*|NVIDIA_.*"
    r"|TRITON_.*|TORCH.*|OMP_.*|MKL_.*|OPENBLAS_.*|GOMP_.*|KMP_.*|KERNELPILOT_.*)"
)
"""What the processes below need of our environment. Keys of model providers are not among it."""


@dataclass(frozen=True, kw_only=True)
class LocalPlan:
    """How a local pool runs; the defaults suit a run on one machine."""

    executor: str = DEFAULT_EXECUTOR
    """`module:function` that a child calls with its job."""
    grace_s: float = 10.0
    """A job's processes are killed this long after its own `timeout_s`."""
    beat_s: float = 0.5
    """Short, for a worker's name is free again only after 2.5 beats; two wake-ups a second are
    the price on a machine that measures."""
    lease_s: float = 20.0
    owner_patience_s: float = 15.0
    """How long to wait for the end of an earlier pool of the same state."""
    patience_s: float = 60.0
    """Without a broker or a worker for so long, a job ends as `Unserved(runner_lost)`."""


class LocalPool:
    """A broker and workers on a private socket; `async with LocalPool(state) as pool`."""

    def __init__(self, state: Path, workers: int = 1, plan: LocalPlan | None = None) -> None:
        """Name the directory; entering the context starts the processes.

        Args:
            state: workspace of the workers: caches, spool, logs. One pool at a time uses it.
            workers: jobs that run at the same time; more than one disturbs measurements.
            plan: how jobs are run, and how patiently.
        """
        self._workers = workers
        self._state = state.resolve()
        self._plan = plan or LocalPlan()
        self._lock = -1
        self._socket_folder: Path | None = None
        self._processes: dict[str, Process] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._client: BusClient | None = None
        self._broken = ""
        self._is_closing = False

    async def __aenter__(self) -> Self:
        """Wait until an earlier pool of this state is gone, then start.

        Raises:
            PoolError: it does not go, or the processes cannot be started.
        """
        (self._state / "logs").mkdir(parents=True, exist_ok=True)
        path = self._state / "pool.lock"
        patience_s = self._plan.owner_patience_s
        self._lock = await asyncio.to_thread(lock_file, path, patience_s=patience_s)
        try:
            endpoint = self._make_endpoint()
            self._client = BusClient(endpoint, patience_s=self._plan.patience_s)
            self._keep("broker", self._broker_command(endpoint))
            for index in range(self._workers):
                name = f"local-{index}"
                self._keep(name, self._worker_command(endpoint, name))
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop everything."""
        await self.close()

    @property
    def pids(self) -> Mapping[str, int]:
        """Process ids by name (`broker`, `local-0`, ...) of what runs now."""
        return {n: p.pid for n, p in self._processes.items() if p.returncode is None}

    async def run(self, job: AnyJob) -> AnyOutcome:
        """Submit a job, or attach again to its id, and wait for its outcome.

        Raises:
            PoolError: see `BusClient.run`.
        """
        try:
            return await self._connected().run(job)
        except PoolError:
            if not self._broken:
                raise
        return Unserved(
            job_id=job.job_id, cause="runner_lost", message=self._broken, is_retryable=True
        )

    async def environment(self) -> Environment:
        """Return this machine as its worker sees it.

        Raises:
            PoolError: no worker registered within the patience.
        """
        return await self._connected().environment()

    async def close(self) -> None:
        """Stop the processes, within two seconds, and whatever they run."""
        self._is_closing = True
        if self._client is not None:
            await self._client.close()
        self._signal_all(signal.SIGTERM)
        if self._keepers:
            await asyncio.wait(self._keepers, timeout=_STOP_S)
            self._signal_all(signal.SIGKILL)
            await asyncio.gather(*self._keepers)
            self._keepers.clear()
        if self._socket_folder is not None:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _connected(self) -> BusClient:
        if self._client is None or self._is_closing:
            msg = "the pool is not open; use it inside `async with LocalPool(...)`"
            raise PoolError(msg)
        if self._broken:
            raise PoolError(self._broken)
        return self._client

    # -- processes -----------------------------------------------------------------------------

    def _keep(self, name: str, command: list[str]) -> None:
        self._keepers.append(asyncio.create_task(self._keep_alive(name, command)))

    async def _keep_alive(self, name: str, command: list[str]) -> None:
        early_ends, pause_s = 0, _PAUSE_S
        while not self._is_closing:
            started_s = time.monotonic()
            try:
                process = await self._start(name, command)
            except OSError as error:
                self._give_up(f"{name} cannot be started: {error}")
                return
            code = await process.wait()
            if self._is_closing:
                return
            logger.warning("process ended, started again name=%s code=%d", name, code)
            is_early = time.monotonic() - started_s < _EARLY_S
            # Killed from outside says nothing; an error at the start, again and again, does.
            early_ends = early_ends + 1 if is_early and code > 0 else 0
            if early_ends >= _MOST_EARLY_ENDS:
                self._give_up(f"{name} does not stay up: exit code {code}; {self._tail(name)}")
                return
            pause_s = min(2 * pause_s, _MOST_PAUSE_S) if is_early else _PAUSE_S
            await asyncio.sleep(pause_s)

    async def _start(self, name: str, command: list[str]) -> Process:
        with self._log_path(name).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for us; we stop them in order
                env={k: v for k, v in os.environ.items() if _KEPT_VARIABLES.fullmatch(k)},
            )
        self._processes[name] = process
        if self._is_closing:
            process.kill()
        return process

    def _give_up(self, why: str) -> None:
        logger.error("local pool is broken: %s", why)
        self._broken = why
        if self._client is not None:
            self._client.abandon(why)

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.send_signal(number)

    def _log_path(self, name: str) -> Path:
        return self._state / "logs" / f"{name}.process.log"

    def _tail(self, name: str) -> str:
        with self._log_path(name).open("rb") as log:
            log.seek(max(0, self._log_path(name).stat().st_size - _TAIL_BYTES))
            return f"{self._log_path(name)}: {log.read().decode(errors='replace').strip()}"

    # -- commands ------------------------------------------------------------------------------

    def _broker_command(self, endpoint: str) -> list[str]:
        return [
            *_cli("broker", endpoint),
            *("--state", str(self._state), "--workers", str(self._workers)),
            # The state is shared by runs, and a run's jobs are nobody's when it is gone.
            *("--keep", "memory"),
            *("--beat-s", str(self._plan.beat_s), "--lease-s", str(self._plan.lease_s)),
        ]

    def _worker_command(self, endpoint: str, name: str) -> list[str]:
        return [
            *_cli("worker", endpoint),
            *("--workspace", str(self._state), "--name", name),
            *("--executor", self._plan.executor, "--grace-s", str(self._plan.grace_s)),
        ]

    def _make_endpoint(self) -> str:
        """Make a private folder for the socket, and remove that of a pool that was killed."""
        note = self._state / "socket_folder"
        with suppress(OSError):
            old = Path(note.read_text())
            if old.name.startswith(_PREFIX):
                shutil.rmtree(old, ignore_errors=True)
        refusal: PoolError | None = None
        for place in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - mkdtemp makes it private
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
            try:
                endpoint = check_endpoint(f"ipc://{folder}/bus")
            except PoolError as error:  # TMPDIR is too long for a socket's path
                folder.rmdir()
                refusal = error
                continue
            self._socket_folder = folder
            note.write_text(str(folder))
            return endpoint
        assert refusal is not None
        raise refusal


def _cli(command: str, endpoint: str) -> list[str]:
    # -P: a file in the current directory must not stand in for a module.
    start = [sys.executable, "-P", "-m", "gpu_runner.cli", command]
    return [*start, "--endpoint", endpoint, "--parent", str(os.getpid())]
