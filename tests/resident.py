"""How much memory this process has used at most.

Not `getrusage(RUSAGE_SELF).ru_maxrss`: a new program starts with the highest size of whoever
started it (Linux, `exec_mmap` in fs/exec.c), so below a large test runner it tells of the runner.
"""

from pathlib import Path


def most_resident_bytes() -> int:
    """Return the most resident memory of this program so far, from VmHWM of proc(5)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * 1024
    msg = "/proc/self/status has no VmHWM; a kernel without memory accounting?"
    raise RuntimeError(msg)
