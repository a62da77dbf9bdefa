"""Loads one Python module and calls its `run` for every slot it is told to: a subject's process.

A program, executed as a file: it imports nothing of this package, its names say nothing of why it
is called, and it holds no value that a candidate could want. Nothing it decides counts: it answers
a token with the token's number when the outputs lie in shared memory, or with one byte, the code of
a failure. A candidate can forge either answer and gains nothing by it.
"""

import ctypes
import importlib.machinery
import json
import math
import mmap
import os
import struct
import sys
import traceback
import types
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch.utils import _pytree as pytree

_LOAD_FAILED = b"\x01"
_ENTRY_FAILED = b"\x02"
_OUTPUT_MISSHAPEN = b"\x03"
_PACKET_BYTES = 65536
_TOKEN = struct.Struct("=QIIII")
_PR_SET_NO_NEW_PRIVS = 38
_SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}
_FILTER_MODE = 1
_ALL_THREADS = 1
_MAP_FIXED = 0x10
_MAP_POPULATE = 0x8000
_STEP_BYTES = 8

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int),
    *(ctypes.c_int, ctypes.c_int, ctypes.c_long),
)

# Bound before the candidate is imported, so that what it patches is not what runs here.
_Tensor = torch._C.TensorBase  # noqa: SLF001 - the C type under torch.Tensor
_Plain = torch._C.DisableTorchFunctionSubclass  # noqa: SLF001 - no public twin
_shape_of: Callable[[Any], torch.Size] = vars(_Tensor)["shape"].__get__
_dtype_of: Callable[[Any], torch.dtype] = vars(_Tensor)["dtype"].__get__
_copy: Callable[[Any, Any], Any] = _Tensor.copy_

Slot = tuple[tuple[Any, ...], tuple[torch.Tensor, ...]]
"""Arguments of `run`, and the outputs."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))


class Misshapen(Exception):
    """`run` returned something that is not the outputs."""


def main(channel: int, setup_fd: int) -> None:
    """Map memory, load, serve until the other end closes."""
    arenas, entry, returns, kept = prepare(setup_fd)
    os.write(channel, bytes(8))
    packet = os.read(channel, _PACKET_BYTES)
    confine(packet[8:])
    run = load(channel, entry)
    os.write(channel, packet[:8])
    serve(channel, run, arenas, returns=returns)
    del kept


def prepare(setup_fd: int) -> tuple[list[list[Slot]], Path, bool, Any]:
    """Return arenas, the module's path, whether `run` returns outputs, and what must stay alive."""
    with os.fdopen(setup_fd, "rb") as file:
        setup = json.load(file)
    bases = [map_segment(*segment) for segment in setup["segments"]]
    for fd in {segment[0] for segment in setup["segments"]}:
        os.close(fd)
    torch.set_num_threads(setup["threads"])
    torch.set_num_interop_threads(1)
    arenas = [build_slots(setup, arena, bases) for arena in setup["arenas"]]
    kept = unplug(setup["unplugged"]) if setup["unplugged"] else None
    return arenas, Path(setup["entry"]), setup["returns"], kept


def map_segment(fd: int, is_output: int, offset: int, length: int) -> int:
    """Return the address of a run of pages, mapped between two pages that nobody may touch."""
    page = mmap.PAGESIZE
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    room = address_of(_libc.mmap(None, length + 2 * page, 0, private, -1, 0))
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if is_output else 0)
    flags = mmap.MAP_SHARED | _MAP_FIXED | _MAP_POPULATE
    return address_of(_libc.mmap(room + page, length, protection, flags, fd, offset))


def address_of(address: int) -> int:
    """Return an address mmap gave.

    Raises:
        OSError: it gave none.
    """
    if address in (None, ctypes.c_void_p(-1).value):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return address


def build_slots(setup: dict[str, Any], arena: dict[str, Any], bases: list[int]) -> list[Slot]:
    """Return arguments and outputs of every slot, as tensors over mapped memory."""
    dtypes = [getattr(torch, name) for name in setup["dtypes"]]
    slots: list[Slot] = []
    for places in arena["slots"]:
        tensors = [
            tensor_at(bases[segment] + offset, dtype, shape)
            for (segment, offset), dtype, shape in zip(places, dtypes, arena["shapes"], strict=True)
        ]
        inputs, outputs = tensors[: setup["inputs"]], tuple(tensors[setup["inputs"] :])
        given = () if setup["returns"] else outputs
        slots.append(((*inputs, *arena["scalars"], *given), outputs))
    return slots


def tensor_at(address: int, dtype: torch.dtype, shape: list[int]) -> torch.Tensor:
    """Return a tensor over memory that stays mapped as long as this process lives."""
    count = math.prod(shape)
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
    return torch.frombuffer(memory, dtype=dtype, count=count).reshape(shape)


def confine(program: bytes) -> None:
    """Give up new privileges, and install a seccomp filter on every thread.

    Raises:
        OSError: the kernel refused the filter.
    """
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if not program:
        return
    steps = ctypes.create_string_buffer(program, len(program))
    header = _Program(len(program) // _STEP_BYTES, ctypes.addressof(steps))
    number = _SYS_SECCOMP[os.uname().machine]
    if _libc.syscall(number, _FILTER_MODE, _ALL_THREADS, ctypes.byref(header)) != 0:
        raise OSError(ctypes.get_errno(), "seccomp refused the filter")


def load(channel: int, entry: Path) -> Callable[..., Any]:
    """Import the module and return its `run`."""
    sys.argv[:] = [""]
    sys.orig_argv[:] = [""]
    sys.path.insert(0, str(entry.parent))
    loader = importlib.machinery.SourceFileLoader("candidate", str(entry))
    module = types.ModuleType("candidate")
    module.__file__ = str(entry)
    sys.modules["candidate"] = module
    try:
        loader.exec_module(module)
        run: Callable[..., Any] = module.run
    except Exception:  # noqa: BLE001 - foreign code may raise anything; it ends as one code
        fail(channel, _LOAD_FAILED)
    return run


def serve(
    channel: int, run: Callable[..., Any], arenas: list[list[Slot]], *, returns: bool
) -> None:
    """Answer tokens until the other end closes."""
    with torch.no_grad():
        while len(token := os.read(channel, _TOKEN.size)) == _TOKEN.size:
            _, arena, first, count, _ = _TOKEN.unpack(token)
            try:
                for arguments, outputs in arenas[arena][first : first + count]:
                    result = run(*arguments)
                    if returns:
                        deliver(result, outputs)
            except Misshapen:
                fail(channel, _OUTPUT_MISSHAPEN)
            except Exception:  # noqa: BLE001 - foreign code may raise anything; it ends as one code
                fail(channel, _ENTRY_FAILED)
            os.write(channel, token[:8])


def deliver(result: Any, outputs: tuple[torch.Tensor, ...]) -> None:
    """Copy what `run` returned into the outputs, as it lies in memory.

    A tensor that computes when it is looked at either computes here, or gives what it holds.

    Raises:
        Misshapen: count, shape or dtype differ from the outputs.
    """
    values = result if isinstance(result, tuple | list) else (result,)
    if len(values) != len(outputs):
        raise Misshapen(f"run returned {len(values)} values for {len(outputs)} outputs")
    with _Plain():
        for index, (value, output) in enumerate(zip(values, outputs, strict=True)):
            if not isinstance(value, _Tensor):
                raise Misshapen(f"value {index} is a {type(value).__name__}, not a tensor")
            if _shape_of(value) != _shape_of(output) or _dtype_of(value) is not _dtype_of(output):
                raise Misshapen(
                    f"value {index} is {_dtype_of(value)} {list(_shape_of(value))}; "
                    f"expected {_dtype_of(output)} {list(_shape_of(output))}"
                )
            _copy(output, value)


def fail(channel: int, code: bytes) -> NoReturn:
    """Show what was raised, say which kind of failure it is, and end."""
    traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(channel, code)
    os._exit(1)


def unplug(names: Sequence[str]) -> torch.library.Library:
    """Make operators useless on this processor: every overload gives NaN (integers: the least).

    `aten::silu` also means `aten::silu_`. Wrappers that lead to a named operator are reached
    through it, as torch.softmax is through `aten::_softmax`.

    Raises:
        ValueError: torch has no operator of that name for this processor.
    """
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]  # torch's gap
    overloads = [
        (schema.name, f"{schema.name}.{schema.overload_name}".rstrip("."))
        for schema in torch._C._jit_get_all_schemas()  # noqa: SLF001 - the registry has no public reader
    ]
    for name in names:
        found = [full for short, full in overloads if short in (name, f"{name}_")]
        own = {full: kernel for full in found if (kernel := own_kernel(full)) is not None}
        if not own:
            raise ValueError(f"torch {torch.__version__} has no operator {name!r}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it replaces a kernel is what it is for
            for full, kernel in own.items():
                library.impl(full, useless(kernel), "CPU")  # type: ignore[no-untyped-call]  # torch's gap
    return library


def own_kernel(overload: str) -> Any:
    """Return what torch runs for an overload on this processor, or None."""
    try:
        return torch.library.get_kernel(overload, "CPU")
    except RuntimeError:
        return None


def useless(own: Any) -> Callable[..., Any]:
    """Return a kernel that does what an operator does, and then spoils what came of it."""
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)  # noqa: SLF001 - no public twin

    def kernel(*arguments: Any, **named: Any) -> Any:
        result = own.call_boxed(keys, *arguments, **named)
        return pytree.tree_map_only(torch.Tensor, spoil, result)

    return kernel


def spoil(tensor: torch.Tensor) -> torch.Tensor:
    """Fill a tensor with what no right answer holds."""
    if tensor.is_floating_point() or tensor.is_complex():
        return tensor.fill_(math.nan)
    return tensor.fill_(False if tensor.dtype is torch.bool else torch.iinfo(tensor.dtype).min)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
