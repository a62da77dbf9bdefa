"""From the tool's metrics to facts of a kernel, under names that outlive its versions. Pure."""

import math
import re

from gpu_runner.device.ncu_csv import ProfiledLaunch
from gpu_runner.device.ncu_memory import memory_facts
from gpu_runner.device.ncu_metrics import (
    FRACTIONS,
    INSTRUCTIONS,
    PIPE_FORMS,
    PIPES,
    STALL_FAMILIES,
    STALL_WORDS,
    TENSOR_KINDS,
    peak,
)
from gpu_runner.facts import KernelFacts

_LIMITS = ("registers", "shared_mem", "warps", "blocks", "barriers")
_NO_STALL = frozenset({"selected"})
"""The warp that issues waits for nothing."""
_WARP = 32
_RATE = "smsp__sass_thread_inst_executed_op_{}_pred_on.sum.per_cycle_elapsed"
_PEAK_RATE = "sm__sass_thread_inst_executed_op_{}_pred_on.sum.peak_sustained"
_NUMBERS = re.compile(r"\d{1,10}")
_SOME_PERCENT = 5.0
_MOST_PERCENT = 110.0
"""A share of active cycles comes out beyond its whole where there were too few to measure."""
_MOST_WAVES_WITH_A_TAIL = 64
"""Beyond, an empty last wave is less than 2 % of the time."""


def kernel_facts(launch: ProfiledLaunch, *, workload: str) -> KernelFacts:
    """Return what a launch asked of the device; a metric that is not there leaves None."""
    fractions = {
        field: None
        if (value := launch.first(*names)) is None or value > _MOST_PERCENT
        else value / 100
        for field, names in FRACTIONS.items()
    }
    seconds = launch.first("gpu__time_duration.sum", "gpu__time_duration.avg")
    pipes = _pipes(launch)
    waves = launch.first("launch__waves_per_multiprocessor")
    return KernelFacts(
        workload=workload,
        kernel=launch.symbol,
        source="counters",
        launch=launch.index if launch.words else None,
        time_us=None if seconds is None else seconds * 1e6,
        occupancy_limiters=_limiters(launch),
        waves=waves,
        tail_fraction=_tail(waves),
        registers=_whole(launch.first("launch__registers_per_thread")),
        shared_bytes=_shared_bytes(launch),
        stalls=_stalls(launch),
        arch=_arch(launch),
        device=launch.words.get("device__attribute_display_name", ""),
        grid=_extents(launch, "grid", "Grid Size"),
        block=_extents(launch, "block", "Block Size"),
        multiprocessors=_whole(launch.first("launch__sm_count")),
        pipes=pipes,
        tensor_fraction=pipes.get("tensor"),
        tensor_kinds=_tensor_kinds(launch),
        thread_fraction=_thread_fraction(launch),
        divergent_branch_share=_divergent(launch),
        **_arithmetic(launch),
        **_activity(launch),
        **memory_facts(launch),
        **fractions,
    )


def stall_word(name: str) -> str:
    """Return the one name of a reason that tool, samples and source page name differently."""
    return STALL_WORDS.get(name, name)


def _pipes(launch: ProfiledLaunch) -> dict[str, float]:
    found: dict[str, float] = {}
    for pipe, words in PIPES.items():
        values = [
            value / 100
            for word in words
            for form in PIPE_FORMS
            if (value := launch.first(*peak(form.format(word)))) is not None
        ]
        if values:
            found[pipe] = max(values)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _tensor_kinds(launch: ProfiledLaunch) -> tuple[str, ...]:
    return tuple(
        kind
        for kind in TENSOR_KINDS
        if any(
            (launch.first(*peak(form.format(f"tensor_op_{kind}"))) or 0.0) >= _SOME_PERCENT
            for form in PIPE_FORMS
        )
    )


def _arithmetic(launch: ProfiledLaunch) -> dict[str, float | None]:
    """Return rates of arithmetic and the peak they are held against."""
    rates = {
        kind: launch.first(_RATE.format(kind))
        for kind in ("ffma", "fadd", "fmul", "dfma", "dadd", "dmul", "hfma")
    }
    clock = launch.first("sm__cycles_elapsed.avg.per_second", "smsp__cycles_elapsed.avg.per_second")
    top = launch.first(_PEAK_RATE.format("ffma"))
    top_half = launch.first(_PEAK_RATE.format("hfma"))
    single = _sum(rates["ffma"], rates["fadd"], rates["fmul"])
    double = _sum(rates["dfma"], rates["dadd"], rates["dmul"])
    fused = _sum(rates["ffma"], rates["dfma"])
    total = _sum(single, double, fused)
    return {
        "float32_fraction": _over(single, top),
        "half_fraction": _over(rates["hfma"], top_half),
        "flops_per_s": None if total is None or clock is None else total * clock,
        "peak_flops_per_s": None if top is None or clock is None else 2 * top * clock,
    }


def _activity(launch: ProfiledLaunch) -> dict[str, float | None]:
    """Return how long multiprocessors had work, and how evenly."""
    active = launch.first("sm__cycles_active.avg")
    elapsed = launch.first(
        "sm__cycles_elapsed.avg", "sm__cycles_elapsed.max", "gpc__cycles_elapsed.max"
    )
    return {
        "active_fraction": _over(active, elapsed),
        "balance_fraction": _over(active, launch.first("sm__cycles_active.max")),
    }


def _thread_fraction(launch: ProfiledLaunch) -> float | None:
    threads = launch.first(
        "smsp__thread_inst_executed_per_inst_executed.ratio",
        "derived__avg_thread_executed_per_inst_executed.ratio",
    )
    if threads is None:
        threads = _over(
            launch.first("smsp__thread_inst_executed.sum", "thread_inst_executed"),
            launch.first(*INSTRUCTIONS),
        )
    return None if threads is None else threads / _WARP


def _divergent(launch: ProfiledLaunch) -> float | None:
    return _over(
        launch.first(
            "smsp__sass_branch_targets_threads_divergent.sum",
            "smsp__branch_targets_threads_divergent.sum",
            "smsp__branch_targets_threads_divergent",
        ),
        launch.first("smsp__inst_executed_op_branch.sum"),
    )


def _tail(waves: float | None) -> float | None:
    if waves is None or not 1 <= waves < math.inf:
        return None  # with less than one wave there is no last one
    if waves > _MOST_WAVES_WITH_A_TAIL:
        return 0.0
    whole = math.ceil(round(waves, 2))
    return max(0.0, (whole - waves) / whole)


def _arch(launch: ProfiledLaunch) -> str:
    major, _, minor = launch.words.get("CC", "").strip().replace(",", ".").partition(".")
    if major.isdigit() and minor.isdigit():
        return f"sm_{major}{minor}"
    parts = [launch.first(f"device__attribute_compute_capability_{p}") for p in ("major", "minor")]
    known = [int(part) for part in parts if part is not None]
    return f"sm_{known[0]}{known[1]}" if len(known) == len(parts) else ""


def _extents(launch: ProfiledLaunch, kind: str, column: str) -> tuple[int, ...]:
    named = [launch.first(f"launch__{kind}_dim_{axis}") for axis in "xyz"]
    if all(extent is not None for extent in named):
        return tuple(int(extent) for extent in named if extent is not None)
    shown = launch.words.get(column, "")
    if shown.startswith("("):
        return tuple(int(digits) for digits in _NUMBERS.findall(shown))[:3]
    whole = _whole(launch.first(f"launch__{kind}_size"))
    return () if whole is None else (whole, 1, 1)


def _shared_bytes(launch: ProfiledLaunch) -> int | None:
    """Return what the kernel asked for, without what the driver keeps in every block."""
    parts = [launch.first(f"launch__shared_mem_per_block_{kind}") for kind in ("static", "dynamic")]
    known = [part for part in parts if part is not None]
    return round(sum(known)) if known else None


def _limiters(launch: ProfiledLaunch) -> tuple[str, ...]:
    """Return what allows the fewest resident blocks; several where they allow equally few."""
    blocks = {
        name: value
        for name in _LIMITS
        if (value := launch.first(f"launch__occupancy_limit_{name}")) is not None
    }
    least = min(blocks.values(), default=0.0)
    return tuple(name for name, value in blocks.items() if value == least)


def _stalls(launch: ProfiledLaunch) -> dict[str, float]:
    for head, tail in STALL_FAMILIES:
        found = {
            stall_word(name.removeprefix(head).removesuffix(tail)): value
            for name, value in launch.readings.items()
            if name.startswith(head)
            and name.endswith(tail)
            and not name.endswith("_not_issued")
            and value > 0
        }
        waiting = {name: value for name, value in found.items() if name not in _NO_STALL}
        total = sum(waiting.values())
        if total:
            ranked = sorted(waiting.items(), key=lambda item: (-item[1], item[0]))
            return {name: value / total for name, value in ranked}
    return {}


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _sum(*parts: float | None) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


def _over(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None
