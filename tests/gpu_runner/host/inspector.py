"""Writes what a process can find out about itself to a file: run by its path, in the sandbox.

What a fork of a zygote and a new interpreter find must be the same but for what is named.
"""

import gc
import json
import os
import random
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch.utils import _pytree as pytree

LIMITS = ("CORE", "FSIZE", "NOFILE", "DATA", "NPROC", "AS", "STACK", "CPU", "MEMLOCK")
LINES = (
    *("Umask", "Uid", "Gid", "Groups", "NStgid", "Threads", "Sig", "Shd", "Cap"),
    *("NoNewPrivs", "Seccomp", "Cpus_allowed", "TracerPid", "CoreDumping"),
)


def status() -> dict[str, str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if line.startswith(LINES))


def mounts() -> list[str]:
    """Without numbers that differ from one namespace to the next."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [" ".join(line.split()[3:6]) for line in lines]


def descriptors() -> dict[str, str]:
    found = {}
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one that lists them
            found[link.name] = str(link.readlink()).split(":")[0]
    return found


def main() -> None:
    ours = {name for name in sys.modules if name.split(".")[0] in {"gpu_runner", "tests"}}
    said = {
        "environment": dict(os.environ),
        "descriptors": descriptors(),
        "status": status(),
        "limits": {
            name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in LIMITS
        },
        "mounts": mounts(),
        "users": Path("/proc/self/uid_map").read_text().split(),
        "processes": sorted(path.name for path in Path("/proc").iterdir() if path.name.isdigit()),
        "folder": [str(Path.cwd()), os.getpid()],
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "words": [sys.argv[1:], sys.orig_argv[1:3], list(sys.flags), sys.path],
        "main": [__name__, sys.modules["__main__"].main is main],
        "signals": [str(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM, 17)],
        "streams": [sys.stdout.encoding, sys.stdout.line_buffering, sys.stdout.isatty()],
        "torch": [torch.get_num_threads(), str(torch.get_default_dtype()), torch.is_grad_enabled()],
        "modules of ours": sorted(ours),
        "is told apart by": {
            "modules": sorted(sys.modules),
            "command line": Path("/proc/self/cmdline").read_text().split("\0"),
            "parent and session": [os.getppid(), os.getsid(0), os.getpgid(0)],
            "collected": gc.get_freeze_count() == 0,
        },
        "drawn": [random.random(), float(np.random.random()), torch.rand(1).item()],  # noqa: NPY002 - the state that forks would share
        "in common": [hash("a"), id(pytree)],
    }
    Path(sys.argv[1]).write_text(json.dumps(said))


if __name__ == "__main__":
    main()
