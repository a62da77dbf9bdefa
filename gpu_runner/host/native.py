"""The native host program: compiled from `native_host.c` once a cache, found by its content."""

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from gpu_runner.errors import RunnerError, ToolchainMissing

SOURCE = Path(__file__).with_name("native_host.c")
COMPILERS = ("cc", "gcc", "clang")
_FLAGS = ("-O2", "-std=gnu17", "-Wall", "-Wextra")
_LIBRARIES = ("-ldl",)
_COMPILE_S = 60.0


def find_compiler() -> str | None:
    """Return the path of the first C compiler there is."""
    return next((path for name in COMPILERS if (path := shutil.which(name))), None)


@functools.cache
def host_program(cache: Path) -> Path:
    """Return the program, compiled into `cache` where it is not there yet.

    Raises:
        ToolchainMissing: no C compiler.
        RunnerError: it does not compile.
    """
    compiler = find_compiler()
    if compiler is None:
        raise ToolchainMissing(
            f"no C compiler ({', '.join(COMPILERS)}) on PATH for the native host; install gcc"
        )
    recipe = (SOURCE.read_text(), compiler, platform.machine(), *_FLAGS, *_LIBRARIES)
    digest = hashlib.sha256("\0".join(recipe).encode()).hexdigest()
    program = cache / "hosts" / f"native-{digest[:16]}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        _compile(compiler, program)
    return program


def _compile(compiler: str, program: Path) -> None:
    """Compile beside the program's place and rename, so that it is whole or not there."""
    fd, name = tempfile.mkstemp(prefix=".native-", dir=program.parent)
    os.close(fd)
    made = Path(name)
    try:
        finished = subprocess.run(
            [compiler, *_FLAGS, str(SOURCE), "-o", name, *_LIBRARIES],
            capture_output=True,
            timeout=_COMPILE_S,
            check=False,
        )
        if finished.returncode != 0:
            said = finished.stderr.decode(errors="replace")[-1000:]
            raise RunnerError(f"{compiler} cannot compile {SOURCE.name}: {said}")
        made.chmod(0o555)
        made.rename(program)
    finally:
        made.unlink(missing_ok=True)
