"""The zygote of a worker's subjects: started beside the worker, and ended with it.

It has what a subject may know and nothing more: forks inherit its memory, so its environment is
theirs and no key, path or name of this package is in it.
"""

import importlib.util
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Final

from gpu_runner import rendezvous
from gpu_runner.errors import PoolError
from gpu_runner.host import bubblewrap
from gpu_runner.host.graft import INTERPRETER, SOCKET
from gpu_runner.lock import lock_file

FORKS: Final = 500
"""After so many the zygote begins anew."""
PRELOADED: Final = ("torch", "torch.utils._pytree", "importlib.util", "json", "mmap", "struct")
"""What `python_host.py` and `import_check.py` import."""
_PROGRAM: Final = Path(__file__).with_name("forker.py")
"""Given to the interpreter as a file: importing it here would be of no use."""
_END_S: Final = 5.0
_ENVIRONMENT: Final = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",  # noqa: S108 - where every fork has one of its own
    "TMPDIR": "/tmp",  # noqa: S108 - same
    "USER": "nobody",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OMP_DYNAMIC": "false",
    "OMP_PROC_BIND": "false",
    "OMP_WAIT_POLICY": "passive",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""As of a subject with one thread; libraries read some of it when they are loaded."""


@contextmanager
def nursery(
    folder: Path, *, forks: int = FORKS, preloaded: Sequence[str] = PRELOADED
) -> Iterator[frozenset[int]]:
    """Keep a zygote that the supervisors of a workspace find there.

    Nothing waits for it, and nothing fails with it: where it cannot be had, each subject is a new
    interpreter. It imports what it is to have when it is first asked for a fork. Of several workers
    in one folder the first keeps it for all.

    Args:
        folder: the workspace.
        forks: after so many it begins anew.
        preloaded: modules that every fork finds imported.

    Yields:
        Its pid, for whoever kills what jobs leave behind; nothing where it cannot be had.
    """
    if bubblewrap.options() is None or importlib.util.find_spec("torch") is None:
        yield frozenset()
        return
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = lock_file(folder / f"{SOCKET}.lock", patience_s=0.0)
    except PoolError:  # another worker of this workspace has one
        yield frozenset()
        return
    with FileIO(lock), rendezvous.listening(folder / SOCKET, socket.SOCK_SEQPACKET) as listener:
        process = subprocess.Popen(
            [*INTERPRETER, str(_PROGRAM), str(listener.fileno()), str(forks), *preloaded],
            stdin=subprocess.PIPE,
            pass_fds=(listener.fileno(),),
            env=_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
        listener.close()
        with process:
            try:
                yield frozenset({process.pid})
            finally:
                process.kill()
                (folder / SOCKET).unlink(missing_ok=True)
