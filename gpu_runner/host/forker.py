"""Forks interpreters that have imported torch already: a program, executed as a file.

`python -I -B forker.py LISTENER FORKS MODULE...`; stdin says by its end that nobody wants forks any
more. It imports the modules at the first request and nothing of this package, runs no script
itself, has one thread, and begins anew after FORKS requests: what forks have in common (where
memory lies, the seed of hashes) does not last.

A connection is a request: JSON, and with it descriptors. Two processes answer it. The first one
enters the pid namespace that the request names, forks the second one there, and stays outside to
say how that one ended. The second one enters the other namespaces, gives up all that the zygote
had (environment, descriptors, capabilities, session), installs the filter, and waits for the byte
that lets it go; only then does it become the script. Anything that fails on this way ends it.
"""

import atexit
import ctypes
import fcntl
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
import traceback
import types
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

_PACKET_BYTES = 1 << 17
_MOST_DESCRIPTORS = 250
_NS_GET_USERNS = 0xB701
_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION = 0x20080522
_LAST_CAPABILITY = 63
_SECCOMP_MODE_FILTER = 2
_STEP_BYTES = 8
_JOINED = ("net", "ipc", "uts", "mnt")
_STREAMS = 3
_NOT_CONFINED = 125

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))


def main(listener: int, forks: int, modules: list[str]) -> int:
    """Serve until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody here waits for a fork
    is_prepared = False
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(listener, select.POLLIN)
    with socket.socket(fileno=listener) as source:
        while forks:
            if any(descriptor == 0 for descriptor, _ in poll.poll()):
                return 0
            with suppress(OSError):  # whoever called has hung up
                connection, _ = source.accept()
                if not is_prepared:
                    prepare(modules)
                    is_prepared = True
                forks -= 1
                if os.fork() == 0:
                    source.close()
                    answer(connection)
                connection.close()
        os.set_inheritable(listener, True)  # noqa: FBT003 - the only argument there is
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - its own command line
    return 1


def prepare(modules: list[str]) -> None:
    """Import what scripts import.

    Raises:
        RuntimeError: something imported has started a thread, and a fork would lack it.
    """
    for name in modules:
        importlib.import_module(name)
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise RuntimeError("a library has started a thread while it was imported")
    gc.freeze()  # the collector would copy their pages in every fork


def answer(connection: socket.socket) -> NoReturn:
    """Serve one request in a fork of its own; this is the process that stays outside."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        content, descriptors, _, _ = socket.recv_fds(connection, _PACKET_BYTES, _MOST_DESCRIPTORS)
        request = json.loads(content)
        spaces = dict(zip(request["spaces"], descriptors, strict=False))
        ready, confined = os.pipe()
        enter(spaces)
        child = os.fork()
        if child == 0:
            connection.detach()  # its number will be another's
            become(request, spaces, descriptors[len(spaces) :], confined)
        for descriptor in (*descriptors, confined):
            os.close(descriptor)
        connection.sendall(json.dumps({"pid": child}).encode())
        if os.read(ready, 1):
            connection.sendall(json.dumps({"confined": True}).encode())
        _, status = os.waitpid(child, 0)
        connection.sendall(json.dumps({"status": os.waitstatus_to_exitcode(status)}).encode())
    finally:  # a fork must never go on as a second zygote; whoever asked sees that it ends
        os._exit(0)


def enter(spaces: dict[str, int]) -> None:
    """Enter the pid namespace, for children of this process, with rights over all of them."""
    if "user" in spaces:
        owner = fcntl.ioctl(spaces["mnt"], _NS_GET_USERNS)
        with suppress(OSError):  # it is the one we are in
            join(owner, _CLONE_NEWUSER)
        os.close(owner)
    join(spaces["pid"])


def join(space: int, kind: int = 0) -> None:
    """Enter a namespace.

    Raises:
        OSError: the kernel refuses.
    """
    called(_libc.setns(space, kind))


def called(result: int) -> None:
    """Raise what a call of the C library failed with."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def become(
    request: dict[str, Any], spaces: dict[str, int], descriptors: list[int], confined: int
) -> NoReturn:
    """Turn into the script; this is the process that is enclosed."""
    try:
        code = compile(Path(request["script"]).read_bytes(), request["script"], "exec")
        for name in _JOINED:
            join(spaces[name])
        if "user" in spaces:
            join(spaces["user"], _CLONE_NEWUSER)
        os.chdir(request["cwd"])
        os.setsid()
        os.sched_setaffinity(0, request["cpus"])
        gate, confined = keep(descriptors, request["descriptors"], confined)
        refresh(request["environment"])
        give_up(bytes.fromhex(request["filter"]))
        os.write(confined, b"c")
        os.close(confined)
        if not os.read(gate, 1):
            os._exit(_NOT_CONFINED)
        os.close(gate)
    except BaseException:  # noqa: BLE001 - whatever it is, the script must not run half confined
        traceback.print_exc()
        os._exit(_NOT_CONFINED)
    run(code, request)


def keep(descriptors: list[int], numbers: list[int], confined: int) -> tuple[int, int]:
    """Give descriptors the numbers that are wanted and close everything else.

    Args:
        descriptors: the gate's, stdin, stdout, then one for each number.
        numbers: what the script was told.
        confined: stays open as well.

    Returns:
        The gate's number and that of `confined`.
    """
    above = max((_STREAMS, *numbers, *descriptors, confined)) + 1
    gate, stdin, output, *kept = (fcntl.fcntl(d, fcntl.F_DUPFD, above) for d in descriptors)
    confined = fcntl.fcntl(confined, fcntl.F_DUPFD, above)
    os.closerange(_STREAMS, above)
    places = {0: stdin, 1: output, 2: output, **dict(zip(numbers, kept, strict=True))}
    for wanted, descriptor in places.items():
        os.dup2(descriptor, wanted)
    for descriptor in {stdin, output, *kept}:
        os.close(descriptor)
    return gate, confined


def refresh(environment: dict[str, str]) -> None:
    """Replace what a new interpreter has of its own: environment, signals, random state."""
    os.environ.clear()
    os.environ.update({**environment, "PWD": str(Path.cwd())})
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is not None:  # `random` does this by itself, and numpy loads this one late
        numpy_random.seed(struct.unpack("=8I", os.urandom(32)))
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.default_generator.seed()


def give_up(program: bytes) -> None:
    """Give up every capability for good, and install the filter."""
    for capability in range(_LAST_CAPABILITY):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    called(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
    called(_libc.capset(struct.pack("=Ii", _CAPABILITY_VERSION, 0), bytes(24)))
    called(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    # As after an exec: whoever encloses it looks at its threads. Namespaces have undone both.
    called(_libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0))
    called(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if program:
        steps = ctypes.create_string_buffer(program, len(program))
        header = _Program(len(program) // _STEP_BYTES, ctypes.addressof(steps))
        called(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(header), 0, 0))


def run(code: types.CodeType, request: dict[str, Any]) -> NoReturn:
    """Run the script as `python -I -B SCRIPT WORD...` does, and end as that does."""
    script, words = request["script"], request["words"]
    sys.argv[:] = [script, *words]
    sys.orig_argv[:] = [*sys.orig_argv[:3], script, *words]
    main_module = types.ModuleType("__main__")
    main_module.__file__ = script
    sys.modules["__main__"] = main_module
    status = 1
    try:
        exec(code, vars(main_module))  # noqa: S102 - a script of ours that our caller names
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException as error:  # noqa: BLE001 - shown as ever, but without our part of the way
        within = error.__traceback__.tb_next if error.__traceback__ else None
        sys.excepthook(type(error), error.with_traceback(within), within)
    with suppress(BaseException):  # whatever the script has left there, the fork ends here
        atexit._run_exitfuncs()  # noqa: SLF001 - to take torch apart would copy all its pages
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status & 0xFF)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
