"""The sanitize job: small shapes, one call each, in a program of its own. Never timed.

A clean run says nothing until the tools have found a planted fault on this very machine, in the
same way: an out-of-bounds read and an undefined shift, in a kernel of ours for the same problem.
"""

import re
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpu_runner.candidate import DEVICE_LANGUAGES, Candidate, Language, Source
from gpu_runner.errors import SubjectFailed, ToolchainMissing
from gpu_runner.host import sandbox
from gpu_runner.jobs import Reason, Sanitize, Sanitized, Unserved
from gpu_runner.languages import sanitized
from gpu_runner.languages.artefact import Artefact, BuildRefused
from gpu_runner.languages.toolchain import Deadline, shortened
from gpu_runner.oracle.contents import Contents
from gpu_runner.oracle.elements import numpy_dtype
from gpu_runner.problem import Problem, Workload
from gpu_runner.tasks.device_sanitize import device_sanitize

MOST_BYTES = 4 * 1024 * 1024
MOST_WORKLOADS = 4
THREADS = (1, 3)
"""One thread, and more than most loops divide into evenly."""
_ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=0:print_legend=0:allocator_may_return_null=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "OMP_DYNAMIC": "false",
}
_SUMMARY = re.compile(r"^SUMMARY: (\w+Sanitizer: \S+) (\S+) in (\S+)", re.MULTILINE)
_UNDEFINED = re.compile(r"^(\S+?:\d+):\d+: runtime error: (.+)$", re.MULTILINE)
_ADDRESS = re.compile(r"^==\d+==ERROR: (\w+Sanitizer: [\w-]+)", re.MULTILINE)
_PLANT = """\
#include "problem.h"

extern "C" int kp_run(const struct {problem}_args* a) {{
  if (a->threads > 1) return 1 << (30 + a->threads);
  const volatile char* before = reinterpret_cast<const char*>(a->{tensor}) - 1;
  return *before & 0;
}}
"""


@dataclass(frozen=True)
class _Case:
    workload: Workload
    threads: int
    inputs: dict[str, np.ndarray]


def sanitize(job: Sanitize, *, workspace: Path) -> Sanitized | Unserved:
    """Run every small workload under the tools.

    Raises:
        SubjectFailed: it does not build, the tools found a fault, or a call failed.
        ToolchainMissing: no compiler, or the tools miss a planted fault here.
    """
    if job.candidate.language in DEVICE_LANGUAGES:
        few = small(job.problem, job.workloads)
        return device_sanitize(job, few, workspace=workspace)
    if job.candidate.language is not Language.CPP:
        return Unserved(
            job_id=job.job_id,
            cause="no_tool",
            message=f"no sanitizer here for {job.candidate.language} candidates; checks with fenced"
            " arenas cover them",
            is_retryable=False,
        )
    deadline = Deadline(job.timeout_s)
    cases = [
        _Case(workload, threads, _contents(job.problem, workload))
        for workload in small(job.problem, job.workloads)
        for threads in THREADS
    ]
    _prove_tools(job.problem, cases[0], workspace, deadline)
    program = _program(job.problem, job.candidate, workspace, deadline)
    for case in cases:
        said = _run(job.problem, program, case, workspace, deadline)
        if said.returncode is None:
            return Unserved(
                job_id=job.job_id,
                cause="timed_out",
                message=f"workload {case.workload.name!r} did not end in {job.timeout_s:.0f} s "
                "under the sanitizers; give smaller workloads or more time",
                is_retryable=False,
            )
        _refuse_findings(case, said)
    return Sanitized(job_id=job.job_id, tools=sanitized.TOOLS, seconds=deadline.elapsed_s)


def small(problem: Problem, workloads: Sequence[Workload]) -> tuple[Workload, ...]:
    """Return the smallest workloads, those of more than `MOST_BYTES` only where there is none."""
    ordered = sorted(workloads, key=problem.required_bytes)
    fitting = [w for w in ordered if problem.required_bytes(w) <= MOST_BYTES]
    return tuple(fitting[:MOST_WORKLOADS] or ordered[:1])


def finding(log: str) -> str | None:
    """Return what a sanitizer found, with the place in the source, or None."""
    undefined = _UNDEFINED.search(log)
    if undefined:
        return f"UndefinedBehaviorSanitizer: {undefined.group(2)} at {undefined.group(1)}"
    summary = _SUMMARY.search(log)
    if summary:
        return f"{summary.group(1)} at {summary.group(2)} in {summary.group(3)}"
    address = _ADDRESS.search(log)
    return address.group(1) if address else None


def _contents(problem: Problem, workload: Workload) -> dict[str, np.ndarray]:
    inputs = {
        t.name: np.empty(problem.shape(t, workload), numpy_dtype(t.dtype)) for t in problem.inputs
    }
    Contents(problem, workload, secrets.token_bytes(32)).fill(inputs, call=0)
    return inputs


def _program(
    problem: Problem, candidate: Candidate, workspace: Path, deadline: Deadline
) -> Artefact:
    built = sanitized.build_sanitized(
        problem, candidate, cache=workspace / "cache", timeout_s=deadline.left_s
    )
    if isinstance(built, BuildRefused):
        raise SubjectFailed(built.reason, built.message, built.log_tail)
    return built


def _prove_tools(problem: Problem, case: _Case, workspace: Path, deadline: Deadline) -> None:
    text = _PLANT.format(problem=problem.name, tensor=problem.inputs[0].name)
    plant = Candidate(language=Language.CPP, sources=(Source(path="plant.cpp", text=text),))
    program = _program(problem, plant, workspace, deadline)
    for threads, tool in zip(THREADS, sanitized.TOOLS, strict=True):
        planted = _Case(case.workload, threads, case.inputs)
        said = _run(problem, program, planted, workspace, deadline)
        if tool not in (finding(said.output) or ""):
            raise ToolchainMissing(
                f"{tool} misses a planted fault here ({said.output.strip()[-200:] or 'silence'}); "
                "install a gcc with libasan and libubsan, or set vm.mmap_rnd_bits to 28"
            )


def _run(
    problem: Problem, program: Artefact, case: _Case, workspace: Path, deadline: Deadline
) -> sandbox.Finished:
    scratch = workspace / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        folder = Path(name)
        content = sanitized.call_file(problem, case.workload, case.inputs, threads=case.threads)
        (folder / "call").write_bytes(content)
        finished = sandbox.run(
            [str(program.path / sanitized.PROGRAM_FILE), str(folder / "call")],
            # No memory limit: the tools map terabytes of shadow that they never touch.
            sandbox.Grants(readable=(program.path, folder), environment=_ENVIRONMENT),
            timeout_s=deadline.left_s,
            cwd=folder,
        )
    return sandbox.Finished(
        returncode=finished.returncode,
        output=shortened(finished.output, program.path / "source", program.path),
        seconds=finished.seconds,
    )


def _refuse_findings(case: _Case, said: sandbox.Finished) -> None:
    # A hidden case names its category; the tools' log would tell its sizes.
    is_hidden = case.workload.visibility == "hidden"
    shape = "hidden shape" if is_hidden else f"workload {case.workload.name!r}"
    where = f"{shape}, {case.threads} thread(s)"
    log = "" if is_hidden else said.output
    found = finding(said.output)
    if found is not None:
        raise SubjectFailed(Reason.SANITIZER_FINDING, f"{found}; {where}", log)
    if said.returncode == sanitized.ENTRY_FAILED_CODE:
        raise SubjectFailed(Reason.ENTRY_FAILED, f"kp_run did not return 0; {where}", log)
    if said.returncode != 0:
        raise SubjectFailed(Reason.CRASHED, f"ended with code {said.returncode}; {where}", log)
