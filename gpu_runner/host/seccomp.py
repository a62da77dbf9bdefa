"""Seccomp filters, assembled by hand: pure functions from a profile to BPF bytes.

`base` is for everything that runs in the sandbox, compilers included: no network, no look into
other processes, no mounts. `single` is the same for what may not start processes. `strict` is for a
process about to load a candidate: also no signals to others and no other program in its place, and
nothing that could wake it while it is stopped.

That last point is easily missed. A stopped process is resumed by SIGCONT from anywhere, also from
a POSIX timer, a message queue or a descriptor it has armed itself; so whatever lets a process
choose the signal it will be sent is denied, and SIGCONT to itself as well. Asynchronous reads are
denied for a like reason: the kernel could finish them in an output while the process is stopped.
"""

import errno
import platform
import signal
import struct
from collections.abc import Iterable
from typing import Literal

from gpu_runner.host.syscalls import ARCHITECTURES, Architecture

_LOAD = 0x20
_JUMP_EQUAL = 0x15
_JUMP_AT_LEAST = 0x35
_JUMP_IF_BITS = 0x45
_RETURN = 0x06
_AT_NUMBER = 0
_AT_MACHINE = 4
_AT_ARGUMENTS = 16
_ALLOW = 0x7FFF0000
_KILL = 0x80000000
_ERRNO = 0x00050000
_X32_BIT = 0x40000000

_CLONE_THREAD = 0x00010000
_CLONE_NAMESPACES = 0x7E020000
_AF_UNIX = 1
_FCNTL_SIGNALS = (8, 10, 15, 1024, 1026)
"""F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY."""
_PRCTL_DENIED = (1, 4, 35, 36, 0x59616D61)
"""PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_MM, PR_SET_CHILD_SUBREAPER, PR_SET_PTRACER."""


_NEVER = (
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease"),
    *("kcmp", "pidfd_getfd", "perf_event_open", "bpf", "userfaultfd"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register", "open_by_handle_at"),
    *("mount", "umount2", "pivot_root", "chroot", "setns", "unshare", "move_mount", "open_tree"),
    *("fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "swapon", "swapoff", "reboot"),
    *("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load"),
    *("keyctl", "add_key", "request_key", "acct", "quotactl", "name_to_handle_at", "syslog"),
    *("sethostname", "setdomainname", "settimeofday", "clock_settime", "clock_adjtime"),
    *("adjtimex", "iopl", "ioperm", "fanotify_init", "migrate_pages", "move_pages"),
)
_NOT_WITH_A_CANDIDATE = (
    *("execve", "execveat", "pidfd_open", "pidfd_send_signal", "tkill"),
    *("rt_sigqueueinfo", "rt_tgsigqueueinfo", "timer_create", "mq_open", "mq_notify"),
    *("socket", "socketpair", "connect", "bind", "listen", "accept", "accept4"),
    *("sendmsg", "sendmmsg", "io_setup", "io_submit", "shmget", "semget", "msgget"),
    *("sched_setscheduler", "sched_setparam", "sched_setattr", "setpriority", "ioprio_set"),
)

_NEW_PROCESSES = ("fork", "vfork")

Profile = Literal["base", "single", "strict"]
_Code = list[tuple[int, int, int, int]]


def assemble(
    profile: Profile,
    *,
    own_pid: int | None = None,
    may_pin: bool = True,
    machine: str = platform.machine(),
) -> bytes:
    """Return the filter as an array of `struct sock_filter`; empty where the processor is unknown.

    Args:
        profile: what the process is for.
        own_pid: the process that will install a strict filter, as it sees itself: the only one it
            may still send signals to.
        may_pin: whether threads may choose their processors.
        machine: as `platform.machine()` has it.
    """
    architecture = ARCHITECTURES.get(machine)
    if architecture is None:
        return b""
    numbers = architecture.numbers
    code = _head(architecture)
    code += _denied(numbers, ("clone3",), errno.ENOSYS)
    code += _denied(numbers, _NEVER, errno.EPERM)
    if profile == "base":
        code += _argument_rule(numbers, "clone", _deny_if_bits(0, _CLONE_NAMESPACES))
    else:
        code += _denied(numbers, _NEW_PROCESSES, errno.EPERM)
        code += _argument_rule(numbers, "clone", _allow_if_bits(0, _CLONE_THREAD))
    if profile == "strict":
        code += _strict(numbers, own_pid, may_pin=may_pin)
    else:
        code += _argument_rule(numbers, "socket", _allow_only(0, (_AF_UNIX,)))
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *step) for step in code)


def _strict(numbers: dict[str, int], own_pid: int | None, *, may_pin: bool) -> _Code:
    code = _denied(numbers, _NOT_WITH_A_CANDIDATE, errno.EPERM)
    if not may_pin:
        code += _denied(numbers, ("sched_setaffinity",), errno.EPERM)
    code += _argument_rule(numbers, "fcntl", _allow_all_but(1, _FCNTL_SIGNALS))
    code += _argument_rule(numbers, "prctl", _allow_all_but(0, _PRCTL_DENIED))
    own = () if own_pid is None else (own_pid,)
    for name, signal_argument in (("kill", 1), ("tgkill", 2)):
        body = _deny_if_equal(signal_argument, signal.SIGCONT) + _allow_only(0, own)
        code += _argument_rule(numbers, name, body)
    return code


def _head(architecture: Architecture) -> _Code:
    code = [
        (_LOAD, 0, 0, _AT_MACHINE),
        (_JUMP_EQUAL, 1, 0, architecture.audit),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _AT_NUMBER),
    ]
    if architecture.has_x32:
        code += [(_JUMP_AT_LEAST, 0, 1, _X32_BIT), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    return code


def _denied(numbers: dict[str, int], names: Iterable[str], error: int) -> _Code:
    code: _Code = []
    for name in names:
        if name in numbers:
            code += [(_JUMP_EQUAL, 0, 1, numbers[name]), (_RETURN, 0, 0, _ERRNO | error)]
    return code


def _argument_rule(numbers: dict[str, int], name: str, body: _Code) -> _Code:
    """Return code that runs `body`, which always returns, when this call is made."""
    if name not in numbers:
        return []
    return [(_JUMP_EQUAL, 0, len(body), numbers[name]), *body]


def _load_argument(index: int) -> tuple[int, int, int, int]:
    # The lower half: all arguments looked at are ints or flags below bit 32, little-endian.
    return (_LOAD, 0, 0, _AT_ARGUMENTS + 8 * index)


_DENY = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
_PASS = (_RETURN, 0, 0, _ALLOW)


def _deny_if_bits(index: int, bits: int) -> _Code:
    return [_load_argument(index), (_JUMP_IF_BITS, 0, 1, bits), _DENY, _PASS]


def _allow_if_bits(index: int, bits: int) -> _Code:
    return [_load_argument(index), (_JUMP_IF_BITS, 0, 1, bits), _PASS, _DENY]


def _deny_if_equal(index: int, value: int) -> _Code:
    return [_load_argument(index), (_JUMP_EQUAL, 0, 1, value), _DENY]


def _allow_only(index: int, values: Iterable[int]) -> _Code:
    code = [_load_argument(index)]
    for value in values:
        code += [(_JUMP_EQUAL, 0, 1, value), _PASS]
    return [*code, _DENY]


def _allow_all_but(index: int, values: Iterable[int]) -> _Code:
    code = [_load_argument(index)]
    for value in values:
        code += [(_JUMP_EQUAL, 0, 1, value), _DENY]
    return [*code, _PASS]
