"""Compiles one translation unit with NVRTC: a program, executed in the sandbox.

Usage: nvrtc_compile.py SOURCE CUBIN PTX OPTIONS_AS_JSON, or nvrtc_compile.py --version. It is given
to the interpreter as a file and imports nothing of this package. The log goes to stdout.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any


def _nvrtc() -> Any:
    return importlib.import_module("cuda.bindings.nvrtc")


def version() -> str:
    """Return NVRTC's own version."""
    _, major, minor = _nvrtc().nvrtcVersion()
    return f"{major}.{minor}"


def compile_unit(source: Path, cubin: Path, ptx: Path, options: list[str]) -> int:
    """Write cubin and PTX; return 0, or 1 where the source does not compile."""
    nvrtc = _nvrtc()
    name = source.name.encode()
    _, program = nvrtc.nvrtcCreateProgram(source.read_bytes(), name, 0, [], [])
    encoded = [option.encode() for option in options]
    (result,) = nvrtc.nvrtcCompileProgram(program, len(encoded), encoded)
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    log = b" " * size
    nvrtc.nvrtcGetProgramLog(program, log)
    sys.stdout.write(log.rstrip(b"\x00 \n").decode(errors="replace") + "\n")
    if result != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        return 1
    _, size = nvrtc.nvrtcGetCUBINSize(program)
    content = b" " * size
    nvrtc.nvrtcGetCUBIN(program, content)
    cubin.write_bytes(content)
    _, size = nvrtc.nvrtcGetPTXSize(program)
    text = b" " * size
    nvrtc.nvrtcGetPTX(program, text)
    ptx.write_bytes(text.rstrip(b"\x00"))
    return 0


def main(arguments: list[str]) -> int:
    """Run the program."""
    if arguments == ["--version"]:
        sys.stdout.write(f"{version()}\n")
        return 0
    source, cubin, ptx, options = arguments
    return compile_unit(Path(source), Path(cubin), Path(ptx), json.loads(options))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
