"""What the tool's own rules say of each launch, from an export of the details page. Pure.

The page shows few metrics; some others stand in the sentences of its rules. They are taken from
there where no page with the metric itself is at hand.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gpu_runner.device.ncu_csv import ProfiledLaunch, delimiter_of, read_rows
from gpu_runner.device.ncu_metrics import ELAPSED
from gpu_runner.device.ncu_numbers import number
from gpu_runner.facts import Advice

_NAMES = ("ID", "Rule Name", "Rule Type", "Rule Description")
_SPEEDUP = "Estimated Speedup"
_KEPT = frozenset({"OPT", "WRN", "Warning", "Optimization"})
"""Types of rules that ask for something; the others explain."""
_ADDRESS = re.compile(r"\s*\(?https?://[^\s)]+\)?")
"""Left out: a digest is read where there is no network."""
_MOST_EACH = 8
_MOST_TEXT = 1000
_STALL = "smsp__average_warps_issue_stalled_{}_per_issue_active.ratio"
_LATENCY = "smsp__average_warp_latency_per_inst_issued.ratio"
_REST = "not_told"
_STALLED = re.compile(r"spends ([\d.,]+) cycles being stalled waiting (?:for|on|to) (.{0,120})")
_REASONS = (
    ("MIO (memory input/output) operation", "short_scoreboard"),
    ("L1TEX", "long_scoreboard"),
    ("CTA barrier", "barrier"),
    ("local and global (LG)", "lg_throttle"),
    ("MIO", "mio_throttle"),
    ("execution pipe", "math_pipe_throttle"),
    ("fixed latency", "wait"),
    ("immediate constant cache", "imc_miss"),
    ("next instruction", "no_instruction"),
    ("instruction cache", "no_instruction"),
    ("memory barrier", "membar"),
    ("branch target", "branch_resolving"),
)
"""Words of the sentence to the reason; the more special ones come first."""
_PIPE = re.compile(r"^(\w+)[^.]*? is the highest-utilized pipeline \(([\d.,]+)%\)")
_PIPES = {"Tensor": "tensor", "FMA": "fma", "ALU": "alu", "XU": "xu", "LSU": "lsu"}
_CONFLICTS = re.compile(
    r"(\d[\d.,]*) bank conflicts,\s+which represent [\d.,]+% of the overall (\d[\d.,]*) wavefronts"
)
_EXCESS = re.compile(
    r"uncoalesced global accesses.*?total of (\d[\d.,]*) excessive sectors "
    r"\([\d.,]+% of the total (\d[\d.,]*) sectors\)"
)


@dataclass(frozen=True, kw_only=True)
class Said:
    """What the rules said of one launch."""

    advice: tuple[Advice, ...]
    readings: Mapping[str, float]


def said_of(lines: Iterable[str]) -> dict[int, Said]:
    """Return launch to what its rules said; nothing where the table has no rules."""
    found: dict[int, list[Advice]] = {}
    for cell in _rules(lines):
        index = number(cell.get("ID", ""))
        if index is None or cell.get("Rule Type", "") not in _KEPT:
            continue
        advice = Advice(
            rule=cell["Rule Name"],
            text=_ADDRESS.sub("", cell.get("Rule Description", ""))[:_MOST_TEXT],
            speedup_percent=number(cell.get(_SPEEDUP) or ""),
        )
        found.setdefault(int(index), []).append(advice)
    return {index: _said(some) for index, some in found.items()}


def completed(launch: ProfiledLaunch, said: Said) -> ProfiledLaunch:
    """Return a launch with what only its rules tell; metrics that were read stay."""
    readings = {**said.readings, **launch.readings}
    head, tail = _STALL.split("{}")
    told = sum(v for name, v in said.readings.items() if name.startswith(head))
    whole = launch.readings.get(_LATENCY)
    if told and whole is not None and whole > told:
        readings[f"{head}{_REST}{tail}"] = whole - told
    return ProfiledLaunch(
        index=launch.index, kernel=launch.kernel, readings=readings, words=launch.words
    )


def has_stalls(launch: ProfiledLaunch) -> bool:
    """Whether a page with the reasons for waiting was read."""
    return any("issue_stalled" in name for name in launch.readings)


def _rules(lines: Iterable[str]) -> Iterable[dict[str, str]]:
    names: list[str] = []
    delimiter = ","
    for line in lines:
        text = line.lstrip("\ufeff").rstrip("\r\n")
        if not names:
            delimiter = delimiter_of(text) if _NAMES[1] in text else ","
        row = next(read_rows([text], delimiter))[1]
        if not names:
            cells = [cell.strip() for cell in row]
            names = cells if all(name in cells for name in _NAMES) else []
        else:
            yield dict(zip(names, row, strict=False))


def _said(advice: list[Advice]) -> Said:
    ranked = sorted(advice, key=lambda one: -(one.speedup_percent or 0.0))
    readings: dict[str, float] = {}
    for one in advice:
        for name, value in _readings(one.text):
            readings[name] = readings.get(name, 0.0) + value
    return Said(advice=tuple(ranked[:_MOST_EACH]), readings=readings)


def _readings(text: str) -> Iterable[tuple[str, float]]:
    """Yield the metrics that a sentence holds; those of loads and of stores are to be added."""
    for cycles, phrase in _STALLED.findall(text):
        reason = next((reason for words, reason in _REASONS if words in phrase), None)
        value = number(cycles)
        if reason is not None and value is not None:
            yield _STALL.format(reason), value
    for pipe, percent in _PIPE.findall(text):
        value = number(percent)
        if value is not None:
            word = _PIPES.get(pipe, pipe.lower())
            yield f"sm__pipe_{word}_cycles_active.avg.{ELAPSED}", value
    for conflicts, passes in _CONFLICTS.findall(text):
        yield from _pair(
            conflicts,
            passes,
            "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum",
            "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum",
        )
    for excess, sectors in _EXCESS.findall(text):
        yield from _pair(
            excess,
            sectors,
            "derived__memory_l2_theoretical_sectors_global_excessive",
            "memory_l2_theoretical_sectors_global",
        )


def _pair(first: str, second: str, one: str, other: str) -> Iterable[tuple[str, float]]:
    values = number(first), number(second)
    if values[0] is not None and values[1] is not None:
        yield one, values[0]
        yield other, values[1]
