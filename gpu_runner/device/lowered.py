"""Lowering: a launch plan and a workload to concrete launches. Pure; no CUDA, no clock.

`refuse_invalid` is asked before compiling, `lower` before each workload. What a plan may say and
what a kernel may rely on is told in `plan_rules`.
"""

from collections.abc import Sequence

from gpu_runner.candidate import Launch, LaunchPlan
from gpu_runner.device.arguments import Point, lower_argument, refuse_unfit
from gpu_runner.device.concrete import (
    ConcreteArgument,
    ConcreteLaunch,
    Extents,
    Lowered,
    Map,
    Pointer,
    Scratch,
    Word,
)
from gpu_runner.device.kernel_index import CompiledKernel, KernelIndex, index_key, read_index
from gpu_runner.device.plan_rules import Site, Words, refuse_invalid
from gpu_runner.errors import PlanError
from gpu_runner.problem import Problem, Workload

__all__ = [
    "ConcreteArgument",
    "ConcreteLaunch",
    "KernelIndex",
    "Lowered",
    "Map",
    "PlanError",
    "Pointer",
    "Scratch",
    "Word",
    "lower",
    "read_index",
    "refuse_invalid",
    "refuse_unbuilt",
]

MOST_SHARED_BYTES = 232_448
"""Of a block on sm_90 and sm_100; what a smaller device refuses, its driver says."""
MOST_WORKSPACE_BYTES = 4 << 30
WORKSPACE_ALIGNMENT = 256
_MOST_GRID = (2**31 - 1, 65535, 65535)
_MOST_BLOCK = (1024, 1024, 64)
_MOST_THREADS = 1024
_MOST_CLUSTER = 16
_REGISTERS = 65536
_NULL = Word(bytes=bytes(8))


def lower(
    problem: Problem, plans: Sequence[LaunchPlan], kernels: KernelIndex, workload: Workload
) -> Lowered:
    """Return the launches of the first plan whose guard holds.

    Args:
        problem: gives names their meaning.
        plans: passed `refuse_invalid`.
        kernels: what the builder made of these very plans.
        workload: gives axes and scalars their values.

    Raises:
        PlanError: no plan serves the workload, or the one that does asks for what no device has;
            names plan, launch, kernel and field.
        ValueError: the workload does not fit the problem.
    """
    point = Point(
        words=Words(problem),
        sizes=problem.sizes(workload),
        scalars=dict(zip(problem.scalar_names, problem.scalar_values(workload), strict=True)),
        name=workload.name,
    )
    for index, plan in enumerate(plans):
        if point.number(Site(plan=index), "guard", plan.guard):
            return _lower_plan(index, plan, kernels, point)
    sizes = ", ".join(f"{name}={size}" for name, size in point.sizes.items())
    raise PlanError(
        f"no plan serves the workload {workload.name!r} ({sizes}); add a last plan with guard 1"
    )


def refuse_unbuilt(problem: Problem, plans: Sequence[LaunchPlan], kernels: KernelIndex) -> None:
    """Raise unless each launch passes what its compiled kernel takes; holds for every workload.

    Raises:
        PlanError: names plan, launch, kernel and argument.
    """
    words = Words(problem)
    for index, plan in enumerate(plans):
        for number, launch in enumerate(plan.launches):
            site = Site(plan=index, launch=number, kernel=launch.kernel)
            refuse_unfit(site, launch, words, _kernel(site, kernels))


def _kernel(site: Site, kernels: KernelIndex) -> CompiledKernel:
    kernel = kernels.get(index_key(site.plan, site.launch or 0))
    if kernel is None:
        raise site.error("kernel", "the artefact has no such kernel; build the candidate again")
    return kernel


def _lower_plan(index: int, plan: LaunchPlan, kernels: KernelIndex, point: Point) -> Lowered:
    site = Site(plan=index)
    asked = point.number(site, "workspace_bytes", plan.workspace_bytes)
    if asked < 0:
        raise site.error("workspace_bytes", f"{plan.workspace_bytes!r} gives {asked}")
    launches: list[ConcreteLaunch] = []
    needed = asked
    for number, launch in enumerate(plan.launches):
        at = Site(plan=index, launch=number, kernel=launch.kernel)
        kernel = _kernel(at, kernels)
        # Launches run one after another: compilers' scratch may lie at one place for all of them.
        behind = -(-asked // WORKSPACE_ALIGNMENT) * WORKSPACE_ALIGNMENT
        concrete = _lower_launch(at, launch, kernel, point, (asked, behind))
        launches.append(concrete)
        if kernel.scratch_bytes:
            blocks = concrete.grid[0] * concrete.grid[1] * concrete.grid[2]
            needed = max(needed, behind + kernel.scratch_bytes * blocks)
    if needed > MOST_WORKSPACE_BYTES:
        raise site.error(
            "workspace_bytes", f"{needed} bytes; at most {MOST_WORKSPACE_BYTES} (4 GiB) are given"
        )
    return Lowered(plan=index, launches=tuple(launches), workspace_bytes=needed)


def _lower_launch(
    site: Site, launch: Launch, kernel: CompiledKernel, point: Point, workspace: tuple[int, int]
) -> ConcreteLaunch:
    grid = _extents(site, "grid", launch.grid, point, _MOST_GRID)
    block = (kernel.threads, 1, 1) if kernel.threads else _block(site, launch, kernel, point)
    return ConcreteLaunch(
        kernel=launch.kernel,
        entry=kernel.cubin,
        symbol=kernel.symbol,
        grid=grid,
        block=block,
        cluster=_cluster(site, launch, grid, point),
        shared_bytes=_shared(site, launch, kernel, point),
        arguments=_arguments(site, launch, kernel, point, workspace),
    )


def _extents(
    site: Site, field: str, texts: tuple[str, str, str], point: Point, most: Extents
) -> Extents:
    found: list[int] = []
    for index, text in enumerate(texts):
        where = f"{field}[{index}]"
        extent = point.number(site, where, text)
        if not 1 <= extent <= most[index]:
            raise site.error(
                where,
                f"{text!r} gives {extent} for the workload {point.name!r}; 1 to {most[index]} are "
                "possible: guard the plan, or clamp with max and min",
            )
        found.append(extent)
    return found[0], found[1], found[2]


def _block(site: Site, launch: Launch, kernel: CompiledKernel, point: Point) -> Extents:
    block = _extents(site, "block", launch.block, point, _MOST_BLOCK)
    threads = block[0] * block[1] * block[2]
    most = min(_MOST_THREADS, kernel.most_threads)
    if threads > most:
        text = "" if most == _MOST_THREADS else " by its __launch_bounds__"
        raise site.error("block", f"{threads} threads; the kernel takes at most {most}{text}")
    # A warp's registers are given in units of 256, eight a thread.
    registers = -(-threads // 32) * 32 * -(-kernel.registers // 8) * 8
    if registers > _REGISTERS:
        raise site.error(
            "block",
            f"{threads} threads of {kernel.registers} registers exceed the {_REGISTERS} of a "
            "multiprocessor; declare __launch_bounds__ or pass --maxrregcount",
        )
    return block


def _cluster(site: Site, launch: Launch, grid: Extents, point: Point) -> Extents | None:
    if launch.cluster is None:
        return None
    most = (_MOST_CLUSTER,) * 3
    cluster = _extents(site, "cluster", launch.cluster, point, (most[0], most[1], most[2]))
    blocks = cluster[0] * cluster[1] * cluster[2]
    if blocks > _MOST_CLUSTER:
        raise site.error("cluster", f"{blocks} blocks; at most {_MOST_CLUSTER} make a cluster")
    for index, (extent, whole) in enumerate(zip(cluster, grid, strict=True)):
        if whole % extent:
            raise site.error(
                f"grid[{index}]", f"{whole} blocks cannot be split into clusters of {extent}"
            )
    return cluster


def _shared(site: Site, launch: Launch, kernel: CompiledKernel, point: Point) -> int:
    static = 0 if kernel.is_dynamic_shared else kernel.shared_bytes
    dynamic = point.number(site, "shared_bytes", launch.shared_bytes)
    dynamic = kernel.shared_bytes if kernel.is_dynamic_shared else dynamic
    if not 0 <= dynamic <= MOST_SHARED_BYTES - static:
        raise site.error(
            "shared_bytes",
            f"{dynamic} bytes beside {static} static ones; a block has at most {MOST_SHARED_BYTES}",
        )
    return dynamic


def _arguments(
    site: Site, launch: Launch, kernel: CompiledKernel, point: Point, workspace: tuple[int, int]
) -> tuple[ConcreteArgument, ...]:
    """Return the arguments, then what the compiler's hidden parameters get."""
    given, behind = workspace
    refuse_unfit(site, launch, point.words, kernel)
    found = [
        lower_argument(site, f"arguments[{index}]", argument, point, given)
        for index, argument in enumerate(launch.arguments)
    ]
    extra: list[ConcreteArgument] = [_NULL] * kernel.hidden
    if kernel.hidden and kernel.scratch_bytes:
        extra[0] = Scratch(offset=behind)
    return (*found, *extra)
