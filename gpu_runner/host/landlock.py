"""Landlock: writes confined to named folders, no look into and no signals to processes outside.

Used by the reaper, where bubblewrap does not give the command a file system of its own. It loads
this file by its path, so nothing of this package is imported here.
"""

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446
_ASK_VERSION = 1
_PATH_BENEATH = 1
_WRITE_FILE = 1 << 1
_WRITES_BY_VERSION = ((1, 0b1_1111_1111_0010), (2, 1 << 13), (3, 1 << 14))
"""From which version on the kernel knows which rights to write, remove and make."""
_SCOPE_VERSION = 6
_SCOPES = 0b11
"""Abstract sockets and signals."""

_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
"""Written by ordinary programs. Among the others are disks and memory, which root may write."""

_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """Return the version of the kernel's interface, 0 where there is none."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)))


def restrict(writable: Iterable[str]) -> None:
    """Confine this process for good; no_new_privs must be set. Does nothing without Landlock."""
    known = version()
    if known == 0:
        return
    rights = sum(bits for since, bits in _WRITES_BY_VERSION if known >= since)
    attributes = struct.pack("=QQQ", rights, 0, _SCOPES)
    size = len(attributes) if known >= _SCOPE_VERSION else 8
    ruleset = int(_libc.syscall(_CREATE_RULESET, attributes, size, 0))
    if ruleset < 0:
        return
    folders = [(path, rights) for path in writable]
    devices = [(path, _WRITE_FILE) for path in _DEVICES if Path(path).exists()]
    for path, allowed in (*folders, *devices):
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        _libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", allowed, fd), 0)
        os.close(fd)
    _libc.syscall(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
