"""A face of this package: profiler reports on disk as facts of kernels.

One row a kernel and shape: of several launches the one of median time stands for all, with their
share of the report's time and their number.
"""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from gpu_runner.device.ncu_advice import Said, completed, has_stalls, said_of
from gpu_runner.device.ncu_csv import CaptureUnreadable, ProfiledLaunch, parse_raw, symbol_of
from gpu_runner.device.ncu_facts import kernel_facts
from gpu_runner.device.ncu_file import is_binary_report, lines_of
from gpu_runner.device.ncu_module import find_module, read_module
from gpu_runner.device.ncu_sass import differences
from gpu_runner.device.ncu_source import SourceFacts, read_source
from gpu_runner.device.watched import find_tool
from gpu_runner.errors import ToolchainMissing
from gpu_runner.facts import KernelFacts

__all__ = ["CaptureUnreadable", "differences", "read_kernels", "symbol_of"]


def read_kernels(
    report: Path, *, source: Path | None = None, details: Path | None = None
) -> tuple[KernelFacts, ...]:
    """Return the kernels of a report, those that take most time first.

    Args:
        report: a `.ncu-rep`, or an export of its raw or details page.
        source: an export of the source page; of a `.ncu-rep` it is exported without asking.
        details: an export of the details page, for the tool's advice and what `report` lacks.

    Raises:
        CaptureUnreadable: a file is no such export, or holds no launch.
        ToolchainMissing: a `.ncu-rep` without an ncu that reads it.
    """
    launches, is_exported = _launches(report)
    if is_exported:
        source, details = source or report, details or report
    if details is not None:
        launches = _filled(launches, details)
    is_page = not is_binary_report(report)
    wants = details is not None or (is_page and not all(map(has_stalls, launches)))
    said = _said(details or report) if wants else {}
    launches = tuple(
        completed(one, said[one.index]) if one.index in said and not has_stalls(one) else one
        for one in launches
    )
    found = _advised(_kernels(launches), said)
    if source is None:
        return found
    try:
        with lines_of(source, "source") as lines:
            return _placed(found, read_source(lines))
    except (CaptureUnreadable, ToolchainMissing):
        if source is report:
            return found  # captured without its source page: the counters stand by themselves
        raise


def _launches(report: Path) -> tuple[tuple[ProfiledLaunch, ...], bool]:
    """Return the launches, and whether the report's other pages can be exported as well."""
    is_binary = is_binary_report(report)
    module = find_module() if is_binary and find_tool("ncu") is None else None
    if module is not None:
        return read_module(module, report), False
    with lines_of(report, "raw") as lines:
        return parse_raw(lines), is_binary


def _kernels(launches: Sequence[ProfiledLaunch]) -> tuple[KernelFacts, ...]:
    groups: dict[tuple[str, tuple[int, ...], tuple[int, ...]], list[KernelFacts]] = {}
    for launch in launches:
        facts = kernel_facts(launch, workload="")
        facts = facts.model_copy(update={"launch": launch.index})
        groups.setdefault((facts.kernel, facts.grid, facts.block), []).append(facts)
    total = sum(one.time_us or 0.0 for group in groups.values() for one in group)
    found = [_representative(group, total) for group in groups.values()]
    return tuple(sorted(found, key=lambda one: -(one.share or 0.0)))


def _representative(group: list[KernelFacts], total_us: float) -> KernelFacts:
    timed = [one for one in group if one.time_us is not None]
    chosen = group[0]
    if timed:
        middle = statistics.median_low([one.time_us or 0.0 for one in timed])
        chosen = next(one for one in timed if one.time_us == middle)
    spent = sum(one.time_us or 0.0 for one in timed)
    share = spent / total_us if total_us else None
    return chosen.model_copy(update={"share": share, "launches": len(group)})


def _filled(launches: tuple[ProfiledLaunch, ...], details: Path) -> tuple[ProfiledLaunch, ...]:
    """Return the launches with what only the other page has; the first page's values stay."""
    with lines_of(details, "details") as lines:
        others = {(one.index, one.symbol): one for one in parse_raw(lines)}
    filled = []
    for launch in launches:
        other = others.get((launch.index, launch.symbol))
        readings = {**other.readings, **launch.readings} if other else launch.readings
        words = {**other.words, **launch.words} if other else launch.words
        filled.append(
            ProfiledLaunch(index=launch.index, kernel=launch.kernel, readings=readings, words=words)
        )
    return tuple(filled)


def _said(path: Path) -> dict[int, Said]:
    with lines_of(path, "details") as lines:
        return said_of(lines)


def _advised(kernels: Iterable[KernelFacts], said: dict[int, Said]) -> tuple[KernelFacts, ...]:
    return tuple(
        one.model_copy(update={"advice": said[one.launch].advice}) if one.launch in said else one
        for one in kernels
    )


def _placed(
    kernels: Iterable[KernelFacts], sources: Sequence[SourceFacts]
) -> tuple[KernelFacts, ...]:
    known = {symbol_of(one.kernel): one for one in sources}
    found = []
    for kernel in kernels:
        one = known.get(kernel.kernel)
        update = {"sass": one.sass, "hotspots": one.hotspots} if one else {}
        found.append(kernel.model_copy(update=update))
    return tuple(found)
