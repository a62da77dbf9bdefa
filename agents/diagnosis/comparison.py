"""Two profiles of one kernel side by side: what moved, and what explains a regression. Pure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agents.diagnosis.signals import Signals, signals
from gpu_runner.facts import KernelFacts

NOISE = 0.02
"""The band within which the loop calls two times equal."""


@dataclass(frozen=True, kw_only=True)
class Delta:
    """One metric before and after."""

    metric: str
    label: str
    before: float | None
    after: float | None
    is_better: bool | None
    """None where more is neither, or where nothing changed."""
    shown_before: str
    shown_after: str
    shown_change: str
    """`-29 %`, `+12 points`, or empty where it cannot be said."""


_ROUNDS_UP = 0.9995
"""From here three digits of the smaller unit would be a thousand of it."""
_SECOND_US, _MILLISECOND_US = 1e6, 1e3


def percent(value: float) -> str:
    """Write a fraction of one."""
    return f"{value * 100:.1f} %"


def bytes_of(value: float) -> str:
    """Write a number of bytes."""
    for size, unit in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if abs(value) >= size * _ROUNDS_UP:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"


def microseconds(value: float) -> str:
    """Write a time."""
    if value >= _SECOND_US:
        return f"{value / _SECOND_US:.4g} s"
    if value >= _MILLISECOND_US:
        return f"{value / _MILLISECOND_US:.4g} ms"
    return f"{value:.4g} us"


def relative(change: float) -> str:
    """Write a relative change, `-29 %`; no minus stands before a zero."""
    return f"{round(change * 100) + 0.0 if math.isfinite(change) else change:+.0f} %"


def plain(value: float) -> str:
    """Write a number as it is."""
    return f"{value:.4g}"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How a signal is shown and which way is better."""

    label: str
    show: Callable[[float], str]
    better: int = 0
    """1: more; -1: less; 0: neither by itself."""

    @property
    def is_share(self) -> bool:
        """Whether a change of it is told in points."""
        return self.show is percent


METRICS: dict[str, Metric] = {
    "time_us": Metric(label="Duration", show=microseconds, better=-1),
    "dram_bytes": Metric(label="DRAM bytes", show=bytes_of, better=-1),
    "dram_fraction": Metric(label="DRAM throughput", show=percent),
    "l2_fraction": Metric(label="L2 throughput", show=percent),
    "l1_fraction": Metric(label="L1 throughput", show=percent),
    "sm_fraction": Metric(label="SM throughput", show=percent),
    "issue_fraction": Metric(label="Issue slots busy", show=percent),
    "pipe_tensor": Metric(label="Tensor pipe", show=percent),
    "pipe_fp32": Metric(label="FP32 pipe", show=percent),
    "pipe_fp64": Metric(label="FP64 pipe", show=percent),
    "occupancy_fraction": Metric(label="Occupancy achieved", show=percent, better=1),
    "occupancy_bound": Metric(label="Occupancy possible", show=percent, better=1),
    "registers": Metric(label="Registers a thread", show=plain),
    "shared_bytes": Metric(label="Shared memory a block", show=bytes_of),
    "waves": Metric(label="Waves", show=plain),
    "tail_fraction": Metric(label="Empty places in the last wave", show=percent, better=-1),
    "active_fraction": Metric(label="Multiprocessors active", show=percent, better=1),
    "l1_hit_fraction": Metric(label="L1 hits", show=percent),
    "l2_hit_fraction": Metric(label="L2 hits", show=percent),
    "sector_use": Metric(label="Sectors needed of those moved", show=percent, better=1),
    "load_sectors_per_request": Metric(label="Sectors a load", show=plain, better=-1),
    "shared_conflict_share": Metric(label="Bank conflicts", show=percent, better=-1),
    "shared_conflict_ways": Metric(label="Passes a shared access", show=plain, better=-1),
    "local_sector_share": Metric(label="Local memory traffic", show=percent, better=-1),
    "spill_bytes": Metric(label="Spilled bytes a thread", show=plain, better=-1),
    "thread_fraction": Metric(label="Threads active an instruction", show=percent, better=1),
    "atomic_request_share": Metric(label="Atomics among requests", show=percent, better=-1),
    "stall_memory": Metric(label="Waiting for global memory", show=percent),
    "stall_shared": Metric(label="Waiting for shared memory", show=percent),
    "stall_sync": Metric(label="Waiting at barriers", show=percent),
    "stall_front_end": Metric(label="Waiting for instructions", show=percent),
    "stall_execution": Metric(label="Waiting for the instruction before", show=percent),
}
"""In the order they are shown."""

_CAUSES: tuple[tuple[str, int, str, int], ...] = (
    ("registers", 1, "occupancy_bound", -1),
    ("shared_bytes", 1, "occupancy_bound", -1),
    ("registers", -1, "local_sector_share", 1),
    ("occupancy_bound", -1, "occupancy_fraction", -1),
    ("sector_use", -1, "load_sectors_per_request", 1),
    ("local_sector_share", 1, "stall_memory", 1),
    ("l2_hit_fraction", -1, "dram_bytes", 1),
    ("shared_conflict_share", 1, "stall_shared", 1),
    ("waves", 0, "tail_fraction", 1),
    ("thread_fraction", -1, "issue_fraction", 0),
)
"""Cause, which way it moved, effect, which way that moved: chains that explain a slower kernel."""
_LEAST_SHARE = 0.03


def compare(before: KernelFacts, after: KernelFacts) -> tuple[Delta, ...]:
    """Return every metric that either profile has, in the order of `METRICS`."""
    old, new = signals(before), signals(after)
    return tuple(
        _delta(name, metric, old.get(name), new.get(name))
        for name, metric in METRICS.items()
        if name in old or name in new
    )


def explain(before: KernelFacts, after: KernelFacts) -> tuple[str, ...]:
    """Say what a slower kernel owes its loss to; nothing where it is not slower."""
    old, new = signals(before), signals(after)
    if (
        "time_us" not in old
        or "time_us" not in new
        or new["time_us"] <= old["time_us"] * (1 + NOISE)
    ):
        return ()
    found: list[str] = []
    told: set[str] = set()
    for cause, way, effect, effect_way in _CAUSES:
        if _moved(old, new, cause, way) and _moved(old, new, effect, effect_way):
            words = [_shown(name, old, new) for name in (cause, effect) if name not in told]
            told |= {cause, effect}
            if words:
                found.append(", ".join(words))
    worse = [
        _shown(delta.metric, old, new)
        for delta in compare(before, after)
        if delta.is_better is False and delta.metric not in told and delta.metric != "time_us"
    ]
    return (*found, *worse) or ("no metric of the reports explains the loss",)


def change_of(before: float | None, after: float | None) -> float | None:
    """Return the relative change; None where it cannot be said."""
    if before is None or after is None or not before:
        return None
    return after / before - 1


def matched(kernel: KernelFacts, others: Sequence[KernelFacts]) -> KernelFacts | None:
    """Return the kernel of another report that this one is compared with.

    By name, and of several of one name that of the same grid; the only kernel of a report is
    compared with any name: kernels are renamed as they are rewritten.
    """
    named = [one for one in others if one.kernel == kernel.kernel]
    same = [one for one in named if one.grid == kernel.grid]
    if same or named:
        return (same or named)[0]
    return others[0] if len(others) == 1 else None


def _delta(name: str, metric: Metric, before: float | None, after: float | None) -> Delta:
    return Delta(
        metric=name,
        label=metric.label,
        before=before,
        after=after,
        is_better=_is_better(metric, before, after),
        shown_before="-" if before is None else metric.show(before),
        shown_after="-" if after is None else metric.show(after),
        shown_change=_change(metric, before, after),
    )


def _is_better(metric: Metric, before: float | None, after: float | None) -> bool | None:
    if not metric.better or before is None or after is None or not _differs(metric, before, after):
        return None
    return (after > before) == (metric.better > 0)


def _differs(metric: Metric, before: float, after: float) -> bool:
    if metric.is_share:
        return abs(after - before) >= _LEAST_SHARE
    return not math.isclose(before, after, rel_tol=NOISE)


def _change(metric: Metric, before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return ""
    if metric.is_share:
        return f"{round((after - before) * 100, 1) + 0.0:+.1f} points"  # no minus before a zero
    change = change_of(before, after)
    return "" if change is None else relative(change)


def _moved(old: Signals, new: Signals, name: str, way: int) -> bool:
    if name not in old or name not in new or not _differs(METRICS[name], old[name], new[name]):
        return False
    return not way or (new[name] > old[name]) == (way > 0)


def _shown(name: str, old: Signals, new: Signals) -> str:
    metric = METRICS[name]
    return f"{metric.label.lower()} {metric.show(old[name])} -> {metric.show(new[name])}"
