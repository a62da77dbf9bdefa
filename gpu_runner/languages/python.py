"""Python: sources as they are, imported once in the sandbox so that a broken module ends here.

While it is imported a candidate may run compilers; what it leaves in `CAND_BUILD_DIR` is kept with
the artefact and is there, under the same name, when the subject imports it again without the right
to start anything. A trusted baseline also gets `inductor/`, a folder that its subjects may write:
torch.compile fills it at the first call of the first subject, later ones find their code there.
"""

import importlib.metadata
import platform
import sys
from pathlib import Path, PurePosixPath

from gpu_runner.candidate import Candidate
from gpu_runner.host.graft import INTERPRETER
from gpu_runner.jobs import Reason
from gpu_runner.languages import import_check
from gpu_runner.languages.artefact import (
    BUILD_FOLDER,
    ENTRY_FILES,
    INDUCTOR_FOLDER,
    Artefact,
    BuildRefused,
)
from gpu_runner.languages.cache import Made, cached_build, identity_of
from gpu_runner.languages.toolchain import (
    Deadline,
    machine_isa,
    run_tool,
    shortened,
    write_sources,
)
from gpu_runner.problem import Problem


def missing() -> str | None:
    """Return None: the interpreter that asks is the interpreter that serves."""
    return None


def build_python(
    problem: Problem,
    candidate: Candidate,
    *,
    cache: Path,
    timeout_s: float,
    is_trusted: bool = False,
) -> Artefact | BuildRefused:
    """Lay the sources out and import them once, or take the result from the cache."""
    if candidate.flags:
        return BuildRefused(
            reason=Reason.FLAG_NOT_ALLOWED,
            message=f"python takes no compiler flags; remove {candidate.flags[0]!r}",
        )
    entry = _entry_path(candidate)
    if entry is None:
        return BuildRefused(
            reason=Reason.LANGUAGE_MISMATCH,
            message="a python candidate needs a source candidate.py, or exactly one .py source",
        )
    identity = identity_of(
        problem,
        candidate,
        compiler=interpreter(),
        flags=(),
        machine=machine_isa(),
        is_trusted=is_trusted,
    )
    deadline = Deadline(timeout_s)
    return cached_build(
        cache,
        identity,
        candidate,
        lambda scratch: _make(
            candidate, entry, scratch, deadline, zygote=cache.parent, is_trusted=is_trusted
        ),
    )


def interpreter() -> str:
    """Return interpreter and torch with their versions, without importing torch."""
    try:
        torch = f", torch {importlib.metadata.version('torch')}"
    except importlib.metadata.PackageNotFoundError:
        torch = ""
    return f"python {platform.python_version()}{torch}"


def _entry_path(candidate: Candidate) -> str | None:
    paths = [s.path for s in candidate.sources if PurePosixPath(s.path).suffix == ".py"]
    entry = ENTRY_FILES[candidate.language]
    if entry in paths:
        return entry
    return paths[0] if len(paths) == 1 else None


def _make(
    candidate: Candidate,
    entry: str,
    scratch: Path,
    deadline: Deadline,
    *,
    zygote: Path,
    is_trusted: bool,
) -> Made | BuildRefused:
    write_sources(candidate, scratch)
    target = scratch / ENTRY_FILES[candidate.language]
    if not target.exists():
        (scratch / entry).rename(target)
    build = scratch / BUILD_FOLDER
    build.mkdir(exist_ok=True)
    environment = {"CAND_BUILD_DIR": str(build), "OMP_NUM_THREADS": "1"}
    if is_trusted:
        (scratch / INDUCTOR_FOLDER).mkdir()
    checker = Path(import_check.__file__)
    finished = run_tool(
        [*INTERPRETER, str(checker), str(target)],
        cwd=scratch,
        writable=build,
        deadline=deadline,
        readable=(Path(sys.prefix), Path(sys.base_prefix), checker, scratch),
        environment=environment,
        zygote=zygote,  # a workspace has the cache in it, and its worker's zygote
    )
    if finished.returncode is None:
        return deadline.refusal()
    log = shortened(finished.output, scratch)
    if finished.returncode != 0 or import_check.DONE not in log:
        return _refused(log, finished.returncode)
    return Made(log_tail=log.replace(import_check.DONE, "").strip(), seconds=deadline.elapsed_s)


def _refused(log: str, returncode: int) -> BuildRefused:
    lines = [line for line in log.splitlines() if line.strip()]
    if returncode == 0:
        message = "the module ended the process while it was imported; define run(...) and return"
    elif returncode < 0:
        message = f"the process was killed by signal {-returncode} while it imported the module"
    else:
        message = f"the module cannot be imported: {lines[-1][:300] if lines else returncode}"
    return BuildRefused(reason=Reason.LOAD_FAILED, message=message, log_tail=log)
