"""The CUDA driver as these processes need it: checked calls, VMM memory, launches, graphs, events.

Used by launchers, baselines and the oracle; the supervisor never imports it. `cuda-bindings` has no
types, so what it returns is `Any` here and nowhere else.
"""

import ctypes
import importlib
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from gpu_runner.device.concrete import ConcreteLaunch, Map, Pointer, Scratch, Word
from gpu_runner.device.placement import GRANULE
from gpu_runner.errors import RunnerError

_PLAIN_SHARED: Final = 48 << 10
_PORTABLE_CLUSTER: Final = 8
_ALL_SHARED_PERCENT: Final = 100
_WORD_BYTES: Final = 8


class DriverFailed(RunnerError):
    """A driver call failed; after most of them this process's context is lost."""

    def __init__(self, call: str, name: str) -> None:
        """Keep the error's name, such as `CUDA_ERROR_ILLEGAL_ADDRESS`."""
        super().__init__(f"{call}: {name}")
        self.name = name


@cache
def api() -> Any:
    """Return `cuda.bindings.driver`.

    Raises:
        DriverFailed: the package is not installed.
    """
    try:
        return importlib.import_module("cuda.bindings.driver")
    except ImportError as error:
        raise DriverFailed("import cuda.bindings", str(error)) from error


def call(name: str, *arguments: Any) -> Any:
    """Return what a driver function answers beside its status.

    Raises:
        DriverFailed: it answered an error.
    """
    try:
        status, *answers = getattr(api(), name)(*arguments)
    except RuntimeError as error:  # the bindings look for the driver's library at the first call
        raise DriverFailed(name, f"{type(error).__name__}: {error}") from error
    if int(status) != 0:
        raise DriverFailed(name, getattr(status, "name", str(status)))
    return answers[0] if len(answers) == 1 else tuple(answers)


def attribute(name: str, device: int = 0) -> int:
    """Return a device attribute: `L2_CACHE_SIZE`, `MULTIPROCESSOR_COUNT`."""
    key = getattr(api().CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
    return int(call("cuDeviceGetAttribute", key, call("cuDeviceGet", device)))


def open_context(device: int = 0) -> None:
    """Make the device's primary context current in this thread; torch uses the same one."""
    call("cuInit", 0)
    call("cuCtxSetCurrent", call("cuDevicePrimaryCtxRetain", call("cuDeviceGet", device)))


def allocate(size: int, device: int = 0) -> tuple[Any, int]:
    """Allocate device memory that other processes can map; return its handle and a descriptor.

    Args:
        size: bytes, a multiple of `GRANULE`.
        device: ordinal.
    """
    driver = api()
    kind = driver.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
    properties = driver.CUmemAllocationProp()
    properties.type = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    properties.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    properties.location.id = device
    properties.requestedHandleTypes = kind
    handle = call("cuMemCreate", size, properties, 0)
    return handle, int(call("cuMemExportToShareableHandle", handle, kind, 0))


def adopt(descriptor: int) -> Any:
    """Return the handle of memory that another process has allocated."""
    kind = api().CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
    return call("cuMemImportFromShareableHandle", descriptor, kind)


def map_between_fences(handle: Any, size: int, *, is_writable: bool, device: int = 0) -> int:
    """Map memory with unmapped addresses on both sides; return where it begins.

    A write through a mapping that is not writable, and any access beyond it, ends the context with
    `CUDA_ERROR_ILLEGAL_ADDRESS` (seen on an H200, driver 580).
    """
    driver = api()
    flags = driver.CUmemAccess_flags
    access = driver.CUmemAccessDesc()
    access.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    access.location.id = device
    access.flags = (
        flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
        if is_writable
        else flags.CU_MEM_ACCESS_FLAGS_PROT_READ
    )
    base = int(call("cuMemAddressReserve", size + 2 * GRANULE, 0, 0, 0)) + GRANULE
    call("cuMemMap", base, size, 0, handle, 0)
    call("cuMemSetAccess", base, size, [access], 1)
    return base


class Kernel:
    """One launch of a plan with its function and, once bound, its packed parameters."""

    def __init__(self, module: Any, launch: ConcreteLaunch) -> None:
        """Find the function and raise its limits to what the launch asks for."""
        self._launch = launch
        self._function = call("cuModuleGetFunction", module, launch.symbol.encode())
        attributes = api().CUfunction_attribute
        if launch.shared_bytes > _PLAIN_SHARED:
            key = attributes.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            call("cuFuncSetAttribute", self._function, key, launch.shared_bytes)
            # Else the driver may part the cache so that one such block fits and a second does not.
            key = attributes.CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT
            call("cuFuncSetAttribute", self._function, key, _ALL_SHARED_PERCENT)
        cluster = launch.cluster or (1, 1, 1)
        if cluster[0] * cluster[1] * cluster[2] > _PORTABLE_CLUSTER:
            key = attributes.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED
            call("cuFuncSetAttribute", self._function, key, 1)

    def bind(self, addresses: dict[str, int], workspace: int) -> "BoundKernel":
        """Return the launch on these tensors."""
        return BoundKernel(self._launch, self._function, addresses, workspace)


class BoundKernel:
    """A kernel with its arguments in memory of this process."""

    def __init__(
        self, launch: ConcreteLaunch, function: Any, addresses: dict[str, int], workspace: int
    ) -> None:
        """Pack every argument; tensor maps are encoded here."""
        self._function = function
        self._kept = [_packed(argument, addresses, workspace) for argument in launch.arguments]
        self._pointers = (ctypes.c_void_p * max(len(self._kept), 1))(
            *(ctypes.addressof(kept) for kept in self._kept)
        )
        self._config = _configuration(launch)

    def launch(self, stream: Any) -> None:
        """Put the kernel on a stream."""
        self._config.hStream = stream
        call("cuLaunchKernelEx", self._config, self._function, ctypes.addressof(self._pointers), 0)


def _configuration(launch: ConcreteLaunch) -> Any:
    driver = api()
    config = driver.CUlaunchConfig()
    config.gridDimX, config.gridDimY, config.gridDimZ = launch.grid
    config.blockDimX, config.blockDimY, config.blockDimZ = launch.block
    config.sharedMemBytes = launch.shared_bytes
    if launch.cluster is not None:
        one = driver.CUlaunchAttribute()
        one.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
        one.value.clusterDim.x, one.value.clusterDim.y, one.value.clusterDim.z = launch.cluster
        config.attrs = [one]
        config.numAttrs = 1
    return config


def _packed(
    argument: Pointer | Scratch | Word | Map, addresses: dict[str, int], workspace: int
) -> Any:
    """Return memory that holds one parameter as the kernel reads it."""
    match argument:
        case Pointer(tensor=name):
            return ctypes.c_uint64(addresses[name])
        case Scratch(offset=offset):
            return ctypes.c_uint64(workspace + offset)
        case Word(bytes=content):
            return (ctypes.c_ubyte * max(len(content), _WORD_BYTES))(*content)
        case Map():
            return _tensor_map(argument, addresses[argument.tensor])


def _tensor_map(wanted: Map, address: int) -> Any:
    """Return an encoded map, 128 bytes aligned to 64."""
    driver = api()
    kinds = driver.CUtensorMapDataType
    kind = {
        "float64": kinds.CU_TENSOR_MAP_DATA_TYPE_FLOAT64,
        "float32": kinds.CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
        "float16": kinds.CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
        "bfloat16": kinds.CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
        "int64": kinds.CU_TENSOR_MAP_DATA_TYPE_INT64,
        "int32": kinds.CU_TENSOR_MAP_DATA_TYPE_INT32,
    }.get(wanted.dtype.value, kinds.CU_TENSOR_MAP_DATA_TYPE_UINT8)
    swizzle = getattr(driver.CUtensorMapSwizzle, f"CU_TENSOR_MAP_SWIZZLE_{wanted.swizzle.upper()}")
    promotion = {"none": "NONE"}.get(wanted.l2_promotion, f"L2_{wanted.l2_promotion}")
    encoded = call(
        "cuTensorMapEncodeTiled",
        kind,
        2,
        address,
        _words(driver.cuuint64_t, (wanted.columns, wanted.rows)),
        _words(driver.cuuint64_t, (wanted.columns * wanted.item_bytes,)),
        _words(driver.cuuint32_t, (wanted.box[1], wanted.box[0])),
        _words(driver.cuuint32_t, (1, 1)),
        driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
        swizzle,
        getattr(driver.CUtensorMapL2promotion, f"CU_TENSOR_MAP_L2_PROMOTION_{promotion}"),
        driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
    )
    content = b"".join(int(word).to_bytes(_WORD_BYTES, "little") for word in encoded.opaque)
    return (ctypes.c_ubyte * len(content))(*content)


def _words(kind: Any, values: Sequence[int]) -> list[Any]:
    return [kind(value) for value in values]


def capture(stream: Any, kernels: Sequence[BoundKernel]) -> Any:
    """Return a graph of these launches, in order."""
    mode = api().CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    call("cuStreamBeginCapture", stream, mode)
    for kernel in kernels:
        kernel.launch(stream)
    return call("cuStreamEndCapture", stream)


def chain(graphs: Sequence[Any]) -> Any:
    """Return an executable graph that runs these graphs one after the other."""
    parent = call("cuGraphCreate", 0)
    before: list[Any] = []
    for graph in graphs:
        before = [call("cuGraphAddChildGraphNode", parent, before, len(before), graph)]
    return call("cuGraphInstantiate", parent, 0)
