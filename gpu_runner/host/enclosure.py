"""Starting one command inside every layer that works here, and ending it with all its offspring."""

import json
import logging
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from gpu_runner.errors import RunnerError
from gpu_runner.host import bubblewrap, cgroup, reaper, seccomp
from gpu_runner.host.graft import WAITING, Graft, GraftFailed, Script, find_zygote, script_words
from gpu_runner.host.grants import Grants

logger = logging.getLogger(__name__)

_START_S = 20.0
_END_S = 5.0
_TASKS = 512
_FILE_BYTES = 1 << 30
_DESCRIPTORS = 4096
_SIGNALLED = 128
"""Added to the number of the signal, as shells do."""
_LARGEST_SIGNAL = 64


@dataclass(frozen=True, kw_only=True)
class _Command:
    argv: tuple[str, ...]
    grants: Grants
    streams: tuple[int, int]
    """Of stdin, and of stdout and stderr."""
    place: Path
    """Where it starts."""
    cpus: frozenset[int]


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
        zygote: Path | None = None,
    ) -> None:
        """Start it.

        Args:
            argv: program and arguments.
            grants: what it may do.
            stdin: descriptor it reads; ours stays open.
            output: descriptor of its stdout and stderr; ours stays open.
            cwd: where it starts; must exist inside too. None: `/`.
            cpus: processors it and its offspring may use. None: ours.
            zygote: folder of a zygote whose fork may take the place of a new interpreter, which
                it does where the command is such, a zygote listens, and namespaces and a control
                group can be had. Not for what is timed: forks of one zygote have their memory
                in the same places. None: never.

        Raises:
            RunnerError: it could not be started.
        """
        self._group = None
        if "cgroup" not in grants.without:
            self._group = cgroup.create(tasks=_TASKS, memory_bytes=grants.memory_bytes)
        self._has_namespace = "bubblewrap" not in grants.without and bool(bubblewrap.options())
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False
        self._graft: Graft | None = None
        self._life: FileIO | None = None
        """With it ends the process that holds the namespaces for a graft."""
        command = _Command(
            argv=tuple(argv),
            grants=grants,
            streams=(stdin, output),
            place=Path("/") if cwd is None else cwd,
            cpus=frozenset(os.sched_getaffinity(0)) if cpus is None else cpus,
        )
        try:
            if zygote is None or not self._is_grafted(zygote, command):
                with ExitStack() as opening:
                    self._start(opening, command)
        except BaseException:
            self._abandon()
            raise

    def wait(self, timeout_s: float) -> int | None:
        """Return the command's status, minus the signal's number if killed; None: it still runs."""
        if self._graft is not None:
            return self._graft.wait(timeout_s)
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
        self.wait(_END_S)
        self._end_process()
        if self._graft is not None:
            self._graft.close()
        if self._group is not None:
            self._group.close()

    def end(self) -> int:
        """Return a descriptor that is readable once the command has ended; the caller closes it."""
        if self._graft is not None:
            return os.dup(self._graft.fileno())
        return os.pidfd_open(self.process.pid)

    def _abandon(self) -> None:
        self._end_process()
        if self._group is not None:
            self._group.close()

    def _end_process(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._life is not None:
            self._life.close()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The command's outermost process: our child."""
        if self._process is None:
            raise RunnerError("the enclosure has not started")
        return self._process

    def _is_grafted(self, folder: Path, command: _Command) -> bool:
        """Begin it as a fork of the zygote there; False: that cannot be, and nothing has begun."""
        words = script_words(command.argv, command.grants)
        if words is None or self._group is None or not self._has_namespace:
            return False
        connection = find_zygote(folder)
        if connection is None:
            return False
        graft = Graft(connection)
        try:
            with ExitStack() as opening:
                self._graft_into_namespaces(opening, graft, command, words)
        except (GraftFailed, OSError) as error:  # an OSError: the fork is gone already
            logger.warning("a new interpreter instead of a fork: %s", error)
            graft.close()
            self._end_process()
            return False
        self._graft = graft
        return True

    def _graft_into_namespaces(
        self, opening: ExitStack, graft: Graft, command: _Command, words: tuple[str, ...]
    ) -> None:
        gate_out, gate_in = _pipe(opening)
        news_out, news_in = _pipe(opening)
        there_out, there_in = _pipe(opening)
        life_out, life_in = os.pipe()
        opening.callback(os.close, life_out)
        self._life = FileIO(life_in, "wb")
        program = _filter(command.grants)
        kept = [news_in.fileno()]
        extra = ["--as-pid-1", "--info-fd", str(kept[0]), "--chdir", str(command.place)]
        extra += _seccomp_option(opening, program, kept)
        line = bubblewrap.command(WAITING, command.grants, extra)
        self._spawn(line, command, (life_out, there_in.fileno()), kept)
        for end in (news_in, there_in):
            end.close()
        self.first_pid = self._first(news_out)
        if not there_out.read(1):
            raise GraftFailed("the first process of the namespaces did not start")
        script = Script(
            words=words,
            cwd=command.place,
            cpus=command.cpus,
            stdin=command.streams[0],
            output=command.streams[1],
            program=program,
        )
        graft.begin(script, command.grants, self.first_pid, gate_out.fileno())
        self._limit(command.grants, graft.pid)
        graft.wait_confined()
        self._first_pidfd = os.pidfd_open(self.first_pid)
        gate_in.write(b"g")

    def _start(self, opening: ExitStack, command: _Command) -> None:
        gate_out, gate_in = _pipe(opening)
        news_out, news_in = _pipe(opening)
        grants = command.grants
        kept = [gate_out.fileno(), news_in.fileno(), *grants.descriptors]
        program = _filter(grants)
        if self._has_namespace:
            extra = ["--block-fd", str(kept[0]), "--info-fd", str(kept[1])]
            extra += ["--chdir", str(command.place), *_seccomp_option(opening, program, kept)]
            line = bubblewrap.command(command.argv, grants, extra)
        else:
            kept.append(memory_file(opening, _limits(grants, program)))
            stand_in = [sys.executable, "-I", "-S", "-B", reaper.__file__]
            line = [*stand_in, str(kept[0]), str(kept[-1]), *command.argv]
        process = self._spawn(line, command, command.streams, kept)
        news_in.close()
        self.first_pid = self._first(news_out) if self._has_namespace else process.pid
        self._first_pidfd = os.pidfd_open(self.first_pid)
        self._limit(grants, self.first_pid)
        gate_in.write(b"g")

    def _spawn(
        self, line: Sequence[str], command: _Command, streams: tuple[int, int], kept: Sequence[int]
    ) -> subprocess.Popen[bytes]:
        is_hidden = self._has_namespace
        with _confined_to(command.cpus):
            self._process = subprocess.Popen(
                line,
                stdin=streams[0],
                stdout=streams[1],
                stderr=command.streams[1],
                pass_fds=kept,
                env={"PATH": os.defpath} if is_hidden else dict(command.grants.environment),
                cwd="/" if is_hidden else command.place,
                start_new_session=True,
            )
        return self._process

    def _first(self, news: FileIO) -> int:
        text = b""
        while not text.rstrip().endswith(b"}"):
            readable, _, _ = select.select([news], [], [], _START_S)
            part = news.read(4096) if readable else b""
            if not part:
                raise RunnerError("bubblewrap did not start; the doctor command says what is wrong")
            text += part
        return int(json.loads(text)["child-pid"])

    def _limit(self, grants: Grants, pid: int) -> None:
        if self._group is not None:
            self._group.add(pid)
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
            _, most = resource.prlimit(pid, limit)
            chosen = value if most == resource.RLIM_INFINITY else min(value, most)
            resource.prlimit(pid, limit, (chosen, chosen))


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


def _seccomp_option(opening: ExitStack, program: bytes, kept: list[int]) -> list[str]:
    """Return bubblewrap's option for a filter, whose descriptor is added to those kept."""
    if not program:
        return []
    kept.append(memory_file(opening, program))
    return ["--seccomp", str(kept[-1])]


def _filter(grants: Grants) -> bytes:
    if "seccomp" in grants.without:
        return b""
    return seccomp.assemble("base" if grants.may_spawn else "single")


def _limits(grants: Grants, program: bytes) -> bytes:
    is_confined = "landlock" not in grants.without
    writable = [str(path) for path in grants.writable] if is_confined else None
    return json.dumps({"filter": program.hex(), "writable": writable}).encode()


@contextmanager
def _confined_to(cpus: frozenset[int]) -> Iterator[None]:
    """Start children on these processors: they inherit what the thread that starts them has."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
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
