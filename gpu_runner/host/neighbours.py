"""How much of the processors others used while something was measured.

The kernel's pressure figure does not tell us from our neighbours: the oracle computes on every
processor between two tokens, and pressure stays near 10 % on a machine that nobody else uses.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

_STAT = Path("/proc/stat")
_USED = (0, 1, 2, 5, 6, 7)
"""user, nice, system, irq, softirq and steal: what a hypervisor gives away is others' as well."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A moment: clocks that only grow, seconds."""

    at_s: float
    used_s: float
    """By everybody, all processors together."""
    own_s: float
    """By this process, all threads."""


def read() -> Reading:
    """Read the clocks; `used_s` is 0 where the kernel does not say."""
    return Reading(at_s=time.monotonic(), used_s=_used_s(), own_s=time.process_time())


def others_percent(before: Reading, after: Reading, *, subjects_s: float, processors: int) -> float:
    """Return the share of all processors that others used between two readings, 0 to 100.

    Args:
        before: the earlier reading.
        after: the later one.
        subjects_s: processor time that our subjects used meanwhile.
        processors: how many there are.
    """
    elapsed_s = (after.at_s - before.at_s) * processors
    if elapsed_s <= 0:
        return 0.0
    others_s = (after.used_s - before.used_s) - (after.own_s - before.own_s) - subjects_s
    return min(100.0, max(0.0, 100.0 * others_s / elapsed_s))


def _used_s() -> float:
    try:
        line = _STAT.read_text(encoding="ascii").split("\n", 1)[0]
    except OSError:
        return 0.0
    fields = line.split()[1:]
    if len(fields) <= max(_USED):
        return 0.0
    return sum(int(fields[index]) for index in _USED) / os.sysconf("SC_CLK_TCK")
