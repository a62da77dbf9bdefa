"""Starting one command inside every layer that works here, and ending it with all its offspring."""

import json
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path

from gpu_runner.errors import RunnerError
from gpu_runner.host import bubblewrap, cgroup, reaper, seccomp
from gpu_runner.host.grants import Grants

_START_S = 20.0
_END_S = 5.0
_TASKS = 512
_FILE_BYTES = 1 << 30
_DESCRIPTORS = 4096
_SIGNALLED = 128
"""Added to the number of the signal, as shells do."""
_LARGEST_SIGNAL = 64


class Enclosure:
    """A command that runs; close it whether or not it has ended.

    Its first process stands between us and the command: bubblewrap's init, which is process 1 of a
    namespace, or our own reaper. Whatever loses its parent inside becomes a child of that process.
    """

    def __init__(
        self,
        argv: Sequence[str],
        grants: Grants,
        *,
        stdin: int,
        output: int,
        cwd: Path | None = None,
        cpus: frozenset[int] | None = None,
    ) -> None:
        """Start it.

        Args:
            argv: program and arguments.
            grants: what it may do.
            stdin: descriptor it reads; ours stays open.
            output: descriptor of its stdout and stderr; ours stays open.
            cwd: where it starts; must exist inside too. None: `/`.
            cpus: processors it and its offspring may use. None: ours.

        Raises:
            RunnerError: it could not be started.
        """
        self._group = None
        if "cgroup" not in grants.without:
            self._group = cgroup.create(tasks=_TASKS, memory_bytes=grants.memory_bytes)
        self._has_namespace = "bubblewrap" not in grants.without and bool(bubblewrap.options())
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False
        try:
            with ExitStack() as opening:
                self._start(opening, argv, grants, (stdin, output), cwd, cpus)
        except BaseException:
            self._abandon()
            raise

    def wait(self, timeout_s: float) -> int | None:
        """Return the command's status, minus the signal's number if killed; None: it still runs."""
        with suppress(subprocess.TimeoutExpired):
            return _decoded(self.process.wait(timeout_s))
        return None

    def pids(self) -> set[int]:
        """Return every process inside but the first, as we see them."""
        if self._group is not None:
            return self._group.pids() - {self.first_pid}
        return _descendants(self.first_pid)

    def close(self) -> None:
        """Kill everything inside and reap it; again: nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._has_namespace:
            # The kernel ends a namespace with its first process and lets nothing outlive it.
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first_pidfd, signal.SIGKILL)
            select.select([self._first_pidfd], [], [], _END_S)
        else:
            self.process.terminate()
        os.close(self._first_pidfd)
        if self.wait(_END_S) is None:
            self.process.kill()
            self.process.wait()
        if self._group is not None:
            self._group.close()

    def _abandon(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._group is not None:
            self._group.close()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The command's outermost process: our child."""
        if self._process is None:
            raise RunnerError("the enclosure has not started")
        return self._process

    def _start(
        self,
        opening: ExitStack,
        argv: Sequence[str],
        grants: Grants,
        streams: tuple[int, int],
        cwd: Path | None,
        cpus: frozenset[int] | None,
    ) -> None:
        gate_out, gate_in = _pipe(opening)
        news_out, news_in = _pipe(opening)
        kept = [gate_out.fileno(), news_in.fileno(), *grants.descriptors]
        program = _filter(grants)
        place = Path("/") if cwd is None else cwd
        if self._has_namespace:
            extra = ["--block-fd", str(kept[0]), "--info-fd", str(kept[1]), "--chdir", str(place)]
            if program:
                kept.append(memory_file(opening, program))
                extra += ["--seccomp", str(kept[-1])]
            line = bubblewrap.command(argv, grants, extra)
        else:
            kept.append(memory_file(opening, _limits(grants, program)))
            stand_in = [sys.executable, "-I", "-S", "-B", reaper.__file__]
            line = [*stand_in, str(kept[0]), str(kept[-1]), *argv]
        with _confined_to(cpus):
            self._process = subprocess.Popen(
                line,
                stdin=streams[0],
                stdout=streams[1],
                stderr=streams[1],
                pass_fds=kept,
                env={"PATH": os.defpath} if self._has_namespace else dict(grants.environment),
                cwd="/" if self._has_namespace else place,
                start_new_session=True,
            )
        news_in.close()
        self.first_pid = self._first(news_out) if self._has_namespace else self._process.pid
        self._first_pidfd = os.pidfd_open(self.first_pid)
        self._limit(grants)
        gate_in.write(b"g")

    def _first(self, news: FileIO) -> int:
        text = b""
        while not text.rstrip().endswith(b"}"):
            readable, _, _ = select.select([news], [], [], _START_S)
            part = news.read(4096) if readable else b""
            if not part:
                raise RunnerError("bubblewrap did not start; the doctor command says what is wrong")
            text += part
        return int(json.loads(text)["child-pid"])

    def _limit(self, grants: Grants) -> None:
        if self._group is not None:
            self._group.add(self.first_pid)
        if "rlimits" in grants.without:
            return
        limits = {
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_FSIZE: _FILE_BYTES,
            resource.RLIMIT_NOFILE: _DESCRIPTORS,
        }
        if grants.memory_bytes is not None:
            # Private writable memory only: address space is reserved generously by many libraries.
            limits[resource.RLIMIT_DATA] = grants.memory_bytes
        for limit, value in limits.items():
            _, most = resource.prlimit(self.first_pid, limit)
            chosen = value if most == resource.RLIM_INFINITY else min(value, most)
            resource.prlimit(self.first_pid, limit, (chosen, chosen))


def _decoded(status: int) -> int:
    is_signal = _SIGNALLED < status <= _SIGNALLED + _LARGEST_SIGNAL
    return _SIGNALLED - status if is_signal else status


def _pipe(opening: ExitStack) -> tuple[FileIO, FileIO]:
    out, into = os.pipe()
    return (
        opening.enter_context(FileIO(out, "rb")),
        opening.enter_context(FileIO(into, "wb")),
    )


def memory_file(opening: ExitStack, content: bytes) -> int:
    """Return a descriptor from which `content` can be read; closed with `opening`."""
    fd = os.memfd_create("words")
    opening.callback(os.close, fd)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _filter(grants: Grants) -> bytes:
    if "seccomp" in grants.without:
        return b""
    return seccomp.assemble("base" if grants.may_spawn else "single")


def _limits(grants: Grants, program: bytes) -> bytes:
    is_confined = "landlock" not in grants.without
    writable = [str(path) for path in grants.writable] if is_confined else None
    return json.dumps({"filter": program.hex(), "writable": writable}).encode()


@contextmanager
def _confined_to(cpus: frozenset[int] | None) -> Iterator[None]:
    """Start children on these processors: they inherit what the thread that starts them has."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before if cpus is None else cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _descendants(root: int) -> set[int]:
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - names are wanted, of every process there is
        if entry.isdigit():
            with suppress(OSError):
                stat = Path(f"/proc/{entry}/stat").read_bytes()
                parents[int(entry)] = int(stat.rpartition(b")")[2].split()[1])
    found: set[int] = set()
    fresh = {root}
    while fresh:
        fresh = {pid for pid, parent in parents.items() if parent in fresh} - found
        found |= fresh
    return found
