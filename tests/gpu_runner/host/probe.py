"""Tries to get out of the sandbox and prints what came of each way, as JSON.

Run by its path inside the sandbox, by `test_escape.py`. It tries nothing where it is not confined:
some of what it does would harm the machine of whoever runs it by mistake.
"""

import ctypes
import fcntl
import json
import os
import signal
import socket
import stat
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NOT_CONFINED = 77
REACHED = "reached"

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNS = 0x00020000
_MS_BIND = 4096
_PTRACE_ATTACH = 16
_SYS_IO_URING_SETUP = 425
_SYS_PIDFD_OPEN = 434
_SYS_PROCESS_VM_READV = 310
_SYS_BPF = 321
_SYS_PERF_EVENT_OPEN = 298
_SYS_KEYCTL = 250
_SYS_OPEN_BY_HANDLE_AT = 304

libc = ctypes.CDLL(None, use_errno=True)


def missing_layers() -> list[str]:
    """What a confined process has and this one has not."""
    status = dict(
        line.split(":\t", 1)
        for line in Path("/proc/self/status").read_text().splitlines()
        if ":\t" in line
    )
    wanted = {"NoNewPrivs": "1", "Seccomp": "2", "CapEff": "0" * 16, "CapBnd": "0" * 16}
    return [name for name, value in wanted.items() if status.get(name, "").strip() != value]


def called(result: int) -> None:
    """Raise what a call of the C library failed with."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def call(number: int, *arguments: object) -> None:
    called(libc.syscall(number, *arguments))


def connect(family: int, address: object) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as made:
        made.settimeout(2)
        made.connect(address)  # type: ignore[arg-type]  # of the family's kind


def read_memory_of(pid: int) -> None:
    with Path(f"/proc/{pid}/mem").open("rb") as file:
        file.read(1)


def push_a_key_into_the_terminal() -> None:
    with Path("/dev/tty").open("rb+", buffering=0) as terminal:
        fcntl.ioctl(terminal, termios.TIOCSTI, b"x")


def open_for_writing(path: str) -> None:
    """Opens and closes: nothing is written even where it succeeds."""
    os.close(os.open(path, os.O_WRONLY))


def find_a_file_of_the_machine_to_write() -> None:
    """Every file of /proc and /sys but those of processes, opened for writing and closed."""
    for top in ("/proc", "/sys"):
        for folder, folders, files in os.walk(top):
            if folder == "/proc":
                folders[:] = [f for f in folders if not f.isdigit() and not f.endswith("self")]
            for name in files:
                try:
                    open_for_writing(f"{folder}/{name}")
                except OSError:
                    continue
                return
    raise PermissionError


def make_device(folder: str) -> None:
    os.mknod(f"{folder}/mem", stat.S_IFCHR | 0o600, os.makedev(1, 1))


def become_root() -> None:
    os.setgroups([0])
    os.setuid(0)
    if os.geteuid() != 0 or os.access("/proc/1/mem", os.R_OK):
        raise PermissionError
    raise PermissionError


def ways(told: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """Every way out by its name."""
    pid, folder, secret = int(told["pid"]), str(told["folder"]), str(told["secret"])
    here = told["here"].encode()
    return {
        # the network
        "tcp": lambda: connect(socket.AF_INET, ("127.0.0.1", int(told["port"]))),
        "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
        "packets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
        "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "abstract socket": lambda: connect(socket.AF_UNIX, f"\0{told['abstract']}"),
        # other processes
        "kill": lambda: os.kill(pid, signal.SIGKILL),
        "kill the group": lambda: os.killpg(int(told["group"]), signal.SIGKILL),
        "ptrace": lambda: called(libc.ptrace(_PTRACE_ATTACH, pid, None, None)),
        "memory": lambda: read_memory_of(pid),
        "read their memory": lambda: call(_SYS_PROCESS_VM_READV, pid, None, 0, None, 0, 0),
        "priority": lambda: os.setpriority(os.PRIO_PROCESS, pid, 5),
        # files
        "write outside": lambda: open_for_writing(secret),
        "make a file outside": lambda: Path(folder, "made").write_text("x"),
        "remove a file outside": lambda: Path(secret).unlink(),
        "kernel setting": lambda: open_for_writing("/proc/sys/kernel/core_pattern"),
        "any of the machine's files": find_a_file_of_the_machine_to_write,
        "sysrq": lambda: open_for_writing("/proc/sysrq-trigger"),
        "cgroup": lambda: Path("/sys/fs/cgroup/probe").mkdir(),
        "handle": lambda: call(_SYS_OPEN_BY_HANDLE_AT, -100, None, 0),
        # devices
        "make a device": lambda: make_device(told["here"]),
        "kernel log": lambda: open_for_writing("/dev/kmsg"),
        "memory device": lambda: open_for_writing("/dev/mem"),
        "virtual machine": lambda: open_for_writing("/dev/kvm"),
        "terminal": push_a_key_into_the_terminal,
        # mounts and namespaces
        "mount": lambda: called(libc.mount(b"none", here, b"tmpfs", 0, None)),
        "bind": lambda: called(libc.mount(b"/proc", here, None, _MS_BIND, None)),
        "unmount": lambda: called(libc.umount2(b"/proc", 2)),
        "pivot": lambda: os.chroot(told["here"]),
        "user namespace": lambda: called(libc.unshare(_CLONE_NEWUSER)),
        "mount namespace": lambda: called(libc.unshare(_CLONE_NEWNS)),
        # the kernel
        "io_uring": lambda: call(_SYS_IO_URING_SETUP, 1, None),
        "bpf": lambda: call(_SYS_BPF, 0, None, 0),
        "counters": lambda: call(_SYS_PERF_EVENT_OPEN, None, 0, -1, -1, 0),
        "keys of the kernel": lambda: call(_SYS_KEYCTL, 0, -3, 0),
        "root": become_root,
        "clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
        "host name": lambda: socket.sethostname("probe"),
        # what only namespaces hide
        "see it": Path(f"/proc/{pid}").stat,
        "read outside": lambda: Path(secret).read_text(),
        "open a handle of it": lambda: call(_SYS_PIDFD_OPEN, pid, 0),
    }


def main() -> int:
    missing = missing_layers()
    if missing:
        sys.stdout.write(json.dumps({"refused": missing}))
        return NOT_CONFINED
    found = {}
    for name, way in ways(json.loads(sys.argv[1])).items():
        try:
            way()
        except (OSError, PermissionError) as error:
            found[name] = type(error).__name__
        else:
            found[name] = REACHED
    sys.stdout.write(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
