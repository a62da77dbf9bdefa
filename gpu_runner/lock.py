"""One owner at a time: advisory locks on files, which the kernel frees when their owner dies."""

import fcntl
import os
import time
from pathlib import Path

from gpu_runner.errors import PoolError

_LOOK_AGAIN_S = 0.02


def lock_file(path: Path, *, patience_s: float) -> int:
    """Lock `path` and return its descriptor; the lock lasts until every copy of it is closed.

    A child that is given the descriptor keeps the lock while it lives: the next owner then waits
    for the last owner's children too.

    Raises:
        PoolError: somebody else holds it for longer than `patience_s`; says who.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    give_up_s = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < give_up_s:
                time.sleep(_LOOK_AGAIN_S)
                continue
            owner = os.pread(descriptor, 32, 0).decode(errors="replace") or "unknown"
            os.close(descriptor)
            msg = (
                f"{path} is in use by process {owner} or one it started; "
                "end it, or choose another directory"
            )
            raise PoolError(msg) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        return descriptor
