"""The profile job on a GPU: timings and ceilings by events, then counters where they may be read.

For the loop's next edit, never for a decision: no output is verified here.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from gpu_runner.candidate import Candidate
from gpu_runner.device import ncu
from gpu_runner.device.health import healthy_device
from gpu_runner.device.kernel_index import CompiledKernel, index_key
from gpu_runner.device.lowered import KernelIndex, Lowered, lower, read_index
from gpu_runner.device.machine import DeviceFacts, devices
from gpu_runner.device.ncu_csv import CaptureUnreadable
from gpu_runner.device.ncu_facts import kernel_facts
from gpu_runner.device.occupancy import occupancy
from gpu_runner.device.replay import Replay, Replayed
from gpu_runner.device.watched import refuse_failure, replay_command, run_watched
from gpu_runner.errors import PlanError, RunnerError, SubjectFailed, ToolchainMissing
from gpu_runner.facts import Facts, Hotspot, KernelFacts
from gpu_runner.jobs import Profile, Profiled, Reason
from gpu_runner.languages.artefact import Artefact
from gpu_runner.languages.toolchain import Deadline
from gpu_runner.problem import DType, Problem, Workload
from gpu_runner.profiling.roofline import Ceilings, place_below
from gpu_runner.tasks.sides import build_for

MOST_WORKLOADS = 6
_CALLS = 15
_WARMUPS = 3
_LEAST_CAPTURE_S = 5.0
"""With less time left the counters are not asked for."""


class DeviceCeilings(Ceilings):
    """What a device can do: bandwidth measured, arithmetic by its multiprocessors and clock."""

    half_flops_per_s: float = Field(gt=0)
    """Matrix units, float16 and bfloat16 alike."""

    def peak(self, problem: Problem) -> float:
        """Return the arithmetic ceiling for the widest type that a problem must compute in."""
        inputs = {tensor.dtype for tensor in problem.inputs}
        is_half = inputs & {DType.FLOAT16, DType.BFLOAT16} and DType.FLOAT32 not in inputs
        if is_half and DType.FLOAT64 not in inputs and DType.INT8 not in inputs:
            return self.half_flops_per_s
        return super().peak(problem)


@dataclass(frozen=True)
class _Rates:
    """Operations a multiprocessor and clock; a multiply-add is two."""

    half: int
    int8: int
    float32: int
    float64: int


_RATES = {
    "sm_80": _Rates(half=2048, int8=4096, float32=128, float64=128),
    "sm_90a": _Rates(half=4096, int8=8192, float32=256, float64=256),
    "sm_100a": _Rates(half=8192, int8=16384, float32=256, float64=256),
}
"""Dense. Source: NVIDIA's A100, H100 and B200 architecture papers, peak over units and clock."""
_NOT_MEASURED = "peak arithmetic: not measured; multiprocessors x rate x highest clock stand in"


def device_profile(job: Profile, *, workspace: Path) -> Profiled:
    """Build or take from the cache, time every public workload, count events of the slowest.

    Raises:
        SubjectFailed: the candidate does not build, serve a workload, crashes or hangs.
        ToolchainMissing: no compiler, or no GPU.
        DeviceUnhealthy: the device cannot be measured on.
    """
    deadline = Deadline(job.timeout_s)
    device = first_device()
    artefact = build_for(job.problem, job.candidate, workspace=workspace, timeout_s=job.timeout_s)
    index = read_index(artefact.path)
    public = [w for w in job.workloads if w.visibility == "public"][:MOST_WORKLOADS]
    lowered = {w.name: lowered_for(job.problem, job.candidate, index, w) for w in public}
    scratch = workspace / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    with healthy_device(device.uuid), tempfile.TemporaryDirectory(dir=scratch) as folder:
        bench = _Bench(job, artefact, device, Path(folder), deadline)
        timed = {workload.name: bench.time(workload) for workload in public}
        slowest = max(public, key=lambda w: min(timed[w.name].times_us), default=None)
        kernels: tuple[KernelFacts, ...] = ()
        missing: list[str] = [_NOT_MEASURED]
        if slowest is not None:
            plan = lowered[slowest.name]
            static = static_kernels(plan, index, artefact, device.arch, slowest.name)
            kernels, said = bench.counted(slowest, plan, static)
            missing += said
    facts = assemble(job.problem, public, timed, device, kernels)
    facts = facts.model_copy(
        update={"counters": dict(artefact.counters), "unavailable": tuple(missing)}
    )
    return Profiled(job_id=job.job_id, facts=facts, seconds=deadline.elapsed_s)


def first_device() -> DeviceFacts:
    """Return the device that jobs use here.

    Raises:
        ToolchainMissing: there is none.
    """
    known = devices()
    if not known:
        raise ToolchainMissing(
            "no GPU answers here; install the NVIDIA driver, or send the job to a GPU worker"
        )
    return known[0]


def lowered_for(
    problem: Problem, candidate: Candidate, index: KernelIndex, workload: Workload
) -> Lowered:
    """Return the launches that serve a workload.

    Raises:
        SubjectFailed: there are none; of a hidden shape the message tells no size.
    """
    try:
        return lower(problem, candidate.plans, index, workload)
    except PlanError as error:
        is_hidden = workload.visibility == "hidden"
        message = "no launch plan serves a hidden shape; add a last plan with guard 1"
        reason = Reason.LANGUAGE_MISMATCH
        raise SubjectFailed(reason, message if is_hidden else str(error)) from error


def assemble(
    problem: Problem,
    public: Sequence[Workload],
    timed: dict[str, Replayed],
    device: DeviceFacts,
    kernels: tuple[KernelFacts, ...],
) -> Facts:
    """Return the facts of timings and counters; pure."""
    roofs = []
    for workload in public:
        limits = device_ceilings(device, timed[workload.name].copy_bytes_per_s)
        if limits is not None:
            time_us = min(timed[workload.name].times_us)
            roofs.append(place_below(problem, workload, time_us, limits))
    kernels = _with_required(problem, public, kernels)
    total_us = sum(kernel.time_us or 0.0 for kernel in kernels)
    hotspots = tuple(
        Hotspot(symbol=kernel.kernel, share=kernel.time_us / total_us, detail=_detail(kernel))
        for kernel in kernels
        if kernel.time_us
    )
    return Facts(tier="gpu", roofline=tuple(roofs), hotspots=hotspots, kernels=kernels)


def _with_required(
    problem: Problem, public: Sequence[Workload], kernels: tuple[KernelFacts, ...]
) -> tuple[KernelFacts, ...]:
    """Say what must be moved, where one kernel does the whole call."""
    named = {workload.name: workload for workload in public}
    if len(kernels) != 1 or kernels[0].workload not in named:
        return kernels
    required = float(problem.required_bytes(named[kernels[0].workload]))
    return (kernels[0].model_copy(update={"required_bytes": required}),)


def device_ceilings(device: DeviceFacts, copy_bytes_per_s: float) -> DeviceCeilings | None:
    """Return a device's ceilings, or None where its clock or its rates are not known."""
    rates = _RATES.get(device.arch)
    if rates is None or device.state is None or device.state.max_sm_mhz is None:
        return None
    cycles_per_s = device.multiprocessors * device.state.max_sm_mhz * 1e6
    return DeviceCeilings(
        bandwidth_bytes_per_s=copy_bytes_per_s,
        half_flops_per_s=rates.half * cycles_per_s,
        int8_flops_per_s=rates.int8 * cycles_per_s,
        float32_flops_per_s=rates.float32 * cycles_per_s,
        float64_flops_per_s=rates.float64 * cycles_per_s,
    )


def static_kernels(
    lowered: Lowered, index: KernelIndex, artefact: Artefact, arch: str, workload: str
) -> tuple[KernelFacts, ...]:
    """Return what compiler and arithmetic say of every launch; pure."""
    found = []
    for number, launch in enumerate(lowered.launches):
        kernel = index[index_key(lowered.plan, number)]
        threads = launch.block[0] * launch.block[1] * launch.block[2]
        shared = launch.shared_bytes + (0 if kernel.is_dynamic_shared else kernel.shared_bytes)
        bound = occupancy(arch, threads=threads, registers=kernel.registers, shared_bytes=shared)
        found.append(
            KernelFacts(
                workload=workload,
                kernel=kernel.symbol,
                source="arithmetic",
                occupancy_bound=bound.fraction,
                occupancy_limiters=bound.limiters,
                registers=kernel.registers or None,
                shared_bytes=shared,
                spill_bytes=_spill_bytes(artefact, kernel),
            )
        )
    return tuple(found)


@dataclass(frozen=True)
class _Bench:
    """What every run of the replay program needs."""

    job: Profile
    artefact: Artefact
    device: DeviceFacts
    folder: Path
    deadline: Deadline

    def time(self, workload: Workload) -> Replayed:
        """Time a workload by events."""
        timeout_s = self.deadline.left_s
        command = self._command(workload, repeat=_CALLS, is_timed=True)
        ended = run_watched(command, timeout_s=timeout_s, folder=self.folder)
        where = f"workload {workload.name!r}"
        refuse_failure(ended, where=where, timeout_s=timeout_s)
        try:
            return Replayed.model_validate_json(ended.output.strip())
        except ValidationError as error:
            raise RunnerError(f"replay printed no times; {where}: {ended.output[-300:]}") from error

    def counted(
        self, workload: Workload, lowered: Lowered, static: tuple[KernelFacts, ...]
    ) -> tuple[tuple[KernelFacts, ...], list[str]]:
        """Return the facts of one call's launches, with counters where they may be read."""
        if self.deadline.left_s < _LEAST_CAPTURE_S:
            return static, ["counters: no time was left for ncu"]
        try:
            launches = ncu.capture(
                self._command(workload, repeat=1, is_timed=False),
                launches=len(lowered.launches),
                timeout_s=self.deadline.left_s,
                folder=self.folder,
            )
        except (ToolchainMissing, CaptureUnreadable) as error:
            return static, [f"counters: {error}; occupancy is arithmetic"]
        spilt = [kernel.spill_bytes for kernel in static]
        measured = [kernel_facts(launch, workload=workload.name) for launch in launches]
        if len(measured) != len(static):
            return tuple(measured), [
                f"counters: {len(measured)} launches were profiled, the plan has {len(static)}"
            ]
        return tuple(
            facts.model_copy(update={"spill_bytes": bytes_})
            for facts, bytes_ in zip(measured, spilt, strict=True)
        ), []

    def _command(self, workload: Workload, *, repeat: int, is_timed: bool) -> list[str]:
        replay = Replay(problem=self.job.problem, plans=self.job.candidate.plans, workload=workload)
        return replay_command(
            replay,
            self.artefact.path,
            folder=self.folder,
            repeat=repeat,
            warmups=_WARMUPS,
            is_timed=is_timed,
        )


def _spill_bytes(artefact: Artefact, kernel: CompiledKernel) -> int | None:
    names = [f"{kernel.symbol}.spill_{kind}_bytes" for kind in ("store", "load")]
    known = [artefact.counters[name] for name in names if name in artefact.counters]
    return int(sum(known)) if known else None


def _detail(kernel: KernelFacts) -> str:
    parts = [
        f"{label} {value:.0%}"
        for label, value in (
            ("DRAM", kernel.dram_fraction),
            ("L2", kernel.l2_fraction),
            ("SM", kernel.sm_fraction),
            ("tensor", kernel.tensor_fraction),
            ("occupancy", kernel.occupancy_fraction),
        )
        if value is not None
    ]
    stall = next(iter(kernel.stalls.items()), None)
    return ", ".join([*parts, *([f"stalled by {stall[0]} {stall[1]:.0%}"] if stall else [])])
