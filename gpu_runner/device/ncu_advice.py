"""What the tool's own rules say of each launch, from an export of the details page. Pure."""

from collections.abc import Iterable

from gpu_runner.device.ncu_csv import read_rows
from gpu_runner.device.ncu_numbers import number
from gpu_runner.facts import Advice

_NAMES = ("ID", "Rule Name", "Rule Type", "Rule Description")
_SPEEDUP = "Estimated Speedup"
_KEPT = frozenset({"OPT", "WRN", "Warning", "Optimization"})
"""Types of rules that ask for something; the others explain."""
_MOST_EACH = 8
_MOST_TEXT = 400


def advice_of(lines: Iterable[str]) -> dict[int, tuple[Advice, ...]]:
    """Return launch to what was advised, the largest estimated gain first; nothing where none."""
    names: list[str] = []
    found: dict[int, list[Advice]] = {}
    for _, row in read_rows(line.lstrip("\ufeff").rstrip("\r\n") for line in lines):
        if not names:
            cells = [cell.strip() for cell in row]
            names = cells if all(name in cells for name in _NAMES) else []
            continue
        cell = dict(zip(names, row, strict=False))
        index = number(cell.get("ID", ""))
        if index is None or cell.get("Rule Type", "") not in _KEPT:
            continue
        advice = Advice(
            rule=cell["Rule Name"],
            text=cell.get("Rule Description", "")[:_MOST_TEXT],
            speedup_percent=number(cell.get(_SPEEDUP, "")),
        )
        found.setdefault(int(index), []).append(advice)
    return {
        index: tuple(sorted(some, key=lambda one: -(one.speedup_percent or 0.0))[:_MOST_EACH])
        for index, some in found.items()
    }
