"""The sanitize job on a GPU: four tools over small shapes, one call each. Never timed.

A tool's silence says nothing until it has found a fault planted in a kernel of ours, built and
called in the same way on this machine; that is done once for each version of the tool.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpu_runner.candidate import Candidate, Language
from gpu_runner.device import plants
from gpu_runner.device.health import healthy_device
from gpu_runner.device.kernel_index import read_index
from gpu_runner.device.machine import DeviceFacts
from gpu_runner.device.replay import Replay
from gpu_runner.device.sanitizer import (
    EXIT_FINDING,
    Finding,
    Tool,
    breakage,
    command,
    findings,
    has_only_warnings,
    version,
)
from gpu_runner.device.watched import Ended, refuse_failure, replay_command, run_watched
from gpu_runner.errors import SubjectFailed, ToolchainMissing
from gpu_runner.jobs import Reason, Sanitize, Sanitized, Unserved
from gpu_runner.languages.artefact import Artefact
from gpu_runner.languages.toolchain import Deadline, shortened
from gpu_runner.message import digest_of
from gpu_runner.problem import Problem, Workload
from gpu_runner.tasks.device_profile import first_device, lowered_for
from gpu_runner.tasks.sides import build_for

TOOL_TIMEOUT_S = {
    Tool.MEMCHECK: 60.0,
    Tool.INITCHECK: 60.0,
    Tool.SYNCCHECK: 60.0,
    Tool.RACECHECK: 180.0,
}
"""One tool over one workload; racecheck slows a kernel down by several hundred times."""
_LINE_INFORMATION = "--generate-line-info"
_LOG_BYTES = 8 * 1024


@dataclass(frozen=True)
class _Subject:
    """Something to run tools over."""

    problem: Problem
    candidate: Candidate
    artefact: Artefact


def device_sanitize(
    job: Sanitize, workloads: Sequence[Workload], *, workspace: Path
) -> Sanitized | Unserved:
    """Run workloads of the job, small ones, under every tool.

    Raises:
        SubjectFailed: it does not build or serve a workload, a tool found a fault, or a kernel
            failed.
        ToolchainMissing: no compiler, no GPU, no tool, or a tool that misses its planted fault.
        DeviceUnhealthy: the device cannot be used.
    """
    deadline = Deadline(job.timeout_s)
    device = first_device()
    candidate = with_lines(job.candidate)
    artefact = build_for(job.problem, candidate, workspace=workspace, timeout_s=deadline.left_s)
    index = read_index(artefact.path)
    for workload in workloads:
        lowered_for(job.problem, candidate, index, workload)
    subject = _Subject(job.problem, candidate, artefact)
    scratch = workspace / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    with healthy_device(device.uuid), tempfile.TemporaryDirectory(dir=scratch) as name:
        bench = _Bench(workspace, Path(name), device, deadline)
        for tool in Tool:
            bench.prove(tool)
            for workload in workloads:
                ended = bench.run(tool, subject, workload)
                if ended.returncode is None:
                    return _too_slow(job.job_id, tool, workload)
                refuse_findings(tool, ended, workload, artefact)
    tools = tuple(f"{tool} {version()}" for tool in Tool)
    return Sanitized(job_id=job.job_id, tools=tools, seconds=deadline.elapsed_s)


def refuse_findings(tool: Tool, ended: Ended, workload: Workload, artefact: Artefact) -> None:
    """Say what a tool found; a hidden shape tells its category only.

    Raises:
        SubjectFailed: there is a finding, or a kernel failed with none.
        ToolchainMissing: the tool does not work here.
    """
    log = ended.output + ended.errors
    is_hidden = workload.visibility == "hidden"
    where = f"{tool}, {'hidden shape' if is_hidden else f'workload {workload.name!r}'}"
    found = findings(log)
    if found:
        text = "" if is_hidden else shortened(log, artefact.path)[-_LOG_BYTES:]
        raise SubjectFailed(Reason.SANITIZER_FINDING, f"{_said(found)}; {where}", text)
    broken = breakage(log)
    if broken is not None:
        raise ToolchainMissing(f"compute-sanitizer does not work here: {broken}")
    if ended.returncode == EXIT_FINDING and has_only_warnings(log):
        return
    if ended.returncode == EXIT_FINDING:
        text = "" if is_hidden else log[-_LOG_BYTES:]
        raise SubjectFailed(Reason.SANITIZER_FINDING, f"a fault without a place; {where}", text)
    refuse_failure(ended, where=where, timeout_s=TOOL_TIMEOUT_S[tool])


@dataclass(frozen=True)
class _Bench:
    """What every run of a tool needs."""

    workspace: Path
    folder: Path
    device: DeviceFacts
    deadline: Deadline

    def run(self, tool: Tool, subject: _Subject, workload: Workload) -> Ended:
        """Run one call of one workload under a tool."""
        replay = Replay(problem=subject.problem, plans=subject.candidate.plans, workload=workload)
        program = replay_command(
            replay,
            subject.artefact.path,
            folder=self.folder,
            repeat=1,
            warmups=0,
            is_timed=False,
        )
        timeout_s = min(TOOL_TIMEOUT_S[tool], self.deadline.left_s)
        return run_watched(command(tool, program), timeout_s=timeout_s, folder=self.folder)

    def prove(self, tool: Tool) -> None:
        """Let a tool find the fault planted for it; remember that it did.

        Raises:
            ToolchainMissing: it does not.
        """
        candidate = with_lines(plants.plant(tool))
        built = build_for(
            plants.PROBLEM, candidate, workspace=self.workspace, timeout_s=self.deadline.left_s
        )
        driver = self.device.state.driver if self.device.state else ""
        words = f"{tool} {version()} {self.device.name} {driver} {built.digest}"
        proof = self.workspace / "cache" / "sanitizer" / digest_of(words.encode())
        if proof.exists():
            return
        subject = _Subject(plants.PROBLEM, candidate, built)
        ended = self.run(tool, subject, plants.WORKLOAD)
        log = ended.output + ended.errors
        if not any(found.what.startswith(plants.SAYS[tool]) for found in findings(log)):
            said = breakage(log) or log.strip()[-300:] or "silence"
            raise ToolchainMissing(
                f"{tool} misses a planted fault here ({said}); install a compute-sanitizer that "
                "serves this driver, outside containers that hide the device"
            )
        proof.parent.mkdir(parents=True, exist_ok=True)
        proof.write_text(words)


def with_lines(candidate: Candidate) -> Candidate:
    """Return the candidate built with line information, which changes no instruction.

    Triton puts it into everything it compiles.
    """
    if candidate.language is not Language.CUDA or _LINE_INFORMATION in candidate.flags:
        return candidate
    return candidate.model_copy(update={"flags": (*candidate.flags, _LINE_INFORMATION)})


def _said(found: tuple[Finding, ...]) -> str:
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{found[0]}{more}"


def _too_slow(job_id: str, tool: Tool, workload: Workload) -> Unserved:
    is_hidden = workload.visibility == "hidden"
    shape = "a hidden shape" if is_hidden else f"workload {workload.name!r}"
    return Unserved(
        job_id=job_id,
        cause="timed_out",
        message=f"{shape} did not end in time under {tool}; give smaller workloads or more time",
        is_retryable=False,
    )
