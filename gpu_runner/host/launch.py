"""From the plan of a subject to a process with exactly a socket, its arenas and a log."""

import os
import socket
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from gpu_runner.candidate import Language
from gpu_runner.errors import RunnerError
from gpu_runner.host import bubblewrap, machine, native
from gpu_runner.host.arena import Arena
from gpu_runner.host.enclosure import Enclosure, memory_file
from gpu_runner.host.graft import INTERPRETER
from gpu_runner.host.grants import Grants, LayerName
from gpu_runner.host.log import Log
from gpu_runner.host.setup import Memory, native_setup, python_setup
from gpu_runner.languages.artefact import Artefact
from gpu_runner.problem import Problem, Workload

_PYTHON_HOST = Path(__file__).with_name("python_host.py")
"""Given to the interpreter as a file: importing it here would import torch."""
_SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin"
_LEAST_MEMORY_BYTES = 4 << 30
_ARENA_FACTOR = 8
"""Copies and temporaries a candidate may hold of everything it is given."""


@dataclass(frozen=True, kw_only=True)
class SubjectPlan:
    """What a subject loads, on which memory, under which limits."""

    artefact: Artefact
    problem: Problem
    workloads: tuple[Workload, ...]
    arenas: tuple[Arena, ...]
    """In the workloads' order; they outlive the subject."""
    threads: int
    cpu: int | None
    """With one thread: the processor it is pinned to. None: all there are."""
    is_trusted: bool = False
    """A baseline of our own: it may start processes, for it compiles while it starts."""
    unplugged_ops: tuple[str, ...] = ()
    """Operators that give NaN in this process: `aten::_softmax`. Python only."""
    start_timeout_s: float
    call_timeout_s: float
    cache: Path | None = None
    """Where the native host is kept; None: beside the artefact."""
    zygote: Path | None = None
    """Folder of a zygote that may fork it, for what is not timed; None: a new interpreter."""
    without: frozenset[LayerName] = field(default_factory=frozenset)
    """Layers not to use although they work here."""


@dataclass(frozen=True, kw_only=True)
class Launched:
    """A process that loads its host program, and our ends of what connects us."""

    enclosure: Enclosure
    channel: socket.socket
    log: Log


def launch(plan: SubjectPlan, opening: ExitStack) -> Launched:
    """Start the process; everything it needs is closed with `opening`.

    Raises:
        RunnerError: it could not be started.
        ToolchainMissing: the native host cannot be compiled.
    """
    log = Log()
    opening.callback(log.close)
    scratch = _scratch(plan, opening)
    channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    opening.enter_context(channel)
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    with theirs, ExitStack() as ours:
        null = os.open(os.devnull, os.O_RDONLY)
        ours.callback(os.close, null)
        setup = memory_file(ours, _setup(plan))
        argv, program = _command(plan, theirs.fileno(), setup)
        arenas = [fd for arena in plan.arenas for fd in (arena.input_fd, arena.output_fd)]
        grants = Grants(
            readable=(plan.artefact.path, program),
            writable=(*_writable(plan), *([scratch] if _is_plain(plan) else [])),
            environment=_environment(plan, scratch),
            memory_bytes=None if plan.is_trusted else _memory_bytes(plan.arenas),
            may_spawn=plan.is_trusted,
            descriptors=(theirs.fileno(), setup, *arenas),
            without=plan.without,
        )
        enclosure = Enclosure(
            argv, grants, stdin=null, output=log.fd, cpus=_cpus(plan), zygote=plan.zygote
        )
    opening.callback(enclosure.close)
    return Launched(enclosure=enclosure, channel=channel, log=log)


def _command(plan: SubjectPlan, channel: int, setup: int) -> tuple[list[str], Path]:
    """Return the host's command line and the file that must be visible for it."""
    match plan.artefact.language:
        case Language.CPP:
            program = native.host_program(plan.cache or plan.artefact.path.parent)
            words = [str(program), str(channel), str(setup), str(plan.artefact.entry)]
        case Language.PYTHON:
            program = _PYTHON_HOST
            words = [*INTERPRETER, str(program), str(channel), str(setup)]
        case other:
            raise RunnerError(f"{other} candidates are not measured by a processor's subject")
    return words, program


def _setup(plan: SubjectPlan) -> bytes:
    memories = [
        Memory(layout=a.layout, input_fd=a.input_fd, output_fd=a.output_fd) for a in plan.arenas
    ]
    if plan.artefact.language is Language.CPP:
        return native_setup(plan.problem, plan.workloads, memories, threads=plan.threads)
    return python_setup(
        plan.problem,
        plan.workloads,
        memories,
        threads=plan.threads,
        entry=plan.artefact.entry,
        calling=plan.artefact.calling,
        unplugged_ops=plan.unplugged_ops,
    )


def _environment(plan: SubjectPlan, scratch: Path) -> dict[str, str]:
    threads = str(plan.threads)
    return {
        "PATH": _SEARCH_PATH,
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "USER": "nobody",
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": threads,
        "OMP_DYNAMIC": "false",
        "OMP_PROC_BIND": "false" if plan.threads == 1 else "close",
        "OMP_WAIT_POLICY": "passive",
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor"),
        # A header precompiled by one process is thrown away by the next, which takes 10 s and
        # more to make its own; the same holds for probing what this compiler can target.
        "TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS": "0",
        "TORCHINDUCTOR_VEC_ISA_OK": "1",
        **plan.artefact.environment,
    }


def _cpus(plan: SubjectPlan) -> frozenset[int]:
    supervisor, subject = machine.pick_cpus(plan.threads)
    if plan.threads > 1:
        return subject
    return supervisor | subject if plan.cpu is None else frozenset({plan.cpu})


def _is_plain(plan: SubjectPlan) -> bool:
    """Return whether the process sees our file system instead of one of its own."""
    return "bubblewrap" in plan.without or bubblewrap.options() is None


def _scratch(plan: SubjectPlan, opening: ExitStack) -> Path:
    if not _is_plain(plan):
        return Path("/tmp")  # noqa: S108 - of its own, empty and gone with it
    return Path(opening.enter_context(tempfile.TemporaryDirectory(prefix="subject-")))


def _writable(plan: SubjectPlan) -> Sequence[Path]:
    return plan.artefact.writable if plan.is_trusted else ()


def _memory_bytes(arenas: Sequence[Arena]) -> int:
    held = sum(a.layout.input_bytes + a.layout.output_bytes for a in arenas)
    return max(_LEAST_MEMORY_BYTES, _ARENA_FACTOR * held)
