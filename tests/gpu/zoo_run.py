"""Launches kernels of the zoo, each once, between the profiler's start and stop.

Usage: `python -m tests.gpu.zoo_run KERNEL...`; needs a CUDA device, cuda-bindings and NVRTC, no
torch. Run under ncu with `--profile-from-start off` by `tests.gpu.zoo_capture`.
"""

import ctypes
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from gpu_runner.device.driver import DriverFailed, api, attribute, call, open_context
from gpu_runner.languages.nvrtc_compile import compile_unit

ZOO = Path(__file__).parent / "zoo"
BUFFER_BYTES = 512 << 20
"""Of each of the two buffers: several times the L2 of any device."""
_GRID = re.compile(r"^(?:(\d+)\*)?sms(?:\+(\d+))?$")
_PLAIN_SHARED = 48 << 10


def manifest() -> dict[str, dict[str, Any]]:
    """Return kernel to how it is launched and which class it must get."""
    found: dict[str, dict[str, Any]] = json.loads((ZOO / "manifest.json").read_text())
    return found


def blocks(grid: str, multiprocessors: int) -> int:
    """Return the blocks that `8*sms`, `sms+1` or `64` stand for."""
    match = _GRID.match(grid)
    if match is None:
        return int(grid)
    return int(match.group(1) or 1) * multiprocessors + int(match.group(2) or 0)


def architecture() -> str:
    major, minor = (attribute(f"COMPUTE_CAPABILITY_{part}") for part in ("MAJOR", "MINOR"))
    return f"sm_{major}{minor}"


def function(name: str, folder: Path) -> Any:
    """Return the compiled kernel."""
    cubin = folder / f"{name}.cubin"
    options = [
        f"--gpu-architecture={architecture()}",
        "--std=c++17",
        "--generate-line-info",
    ]
    if compile_unit(ZOO / f"{name}.cu", cubin, folder / f"{name}.ptx", options):
        raise SystemExit(f"{name}.cu does not compile for {architecture()}")
    module = call("cuModuleLoadData", cubin.read_bytes())
    return call("cuModuleGetFunction", module, name.encode())


def launch(kernel: Any, how: dict[str, Any], buffers: tuple[int, int]) -> None:
    """Launch once and wait."""
    shared = int(how["shared_bytes"])
    if shared > _PLAIN_SHARED:
        attributes = api().CUfunction_attribute
        key = attributes.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        call("cuFuncSetAttribute", kernel, key, shared)
    kept = [ctypes.c_uint64(buffers[0]), ctypes.c_uint64(buffers[1]), ctypes.c_int64(how["n"])]
    pointers = (ctypes.c_void_p * len(kept))(*(ctypes.addressof(one) for one in kept))
    grid = blocks(how["grid"], attribute("MULTIPROCESSOR_COUNT"))
    where = ctypes.addressof(pointers)
    call("cuLaunchKernel", kernel, grid, 1, 1, how["block"], 1, 1, shared, 0, where, 0)
    call("cuCtxSynchronize")


def main(*names: str) -> int:
    known = manifest()
    os.chdir(ZOO)  # NVRTC notes where it ran, and ncu looks for the sources there
    open_context()
    buffers = (int(call("cuMemAlloc", BUFFER_BYTES)), int(call("cuMemAlloc", BUFFER_BYTES)))
    for address in buffers:
        call("cuMemsetD8", address, 0, BUFFER_BYTES)
    with tempfile.TemporaryDirectory() as folder:
        kernels = {name: function(name, Path(folder)) for name in names or known}
        for name, kernel in kernels.items():
            launch(kernel, known[name], buffers)
        call("cuProfilerStart")
        for name, kernel in kernels.items():
            launch(kernel, known[name], buffers)
        call("cuProfilerStop")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except DriverFailed as error:
        sys.exit(f"the driver refused: {error}")
