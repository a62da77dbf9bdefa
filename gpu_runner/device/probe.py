"""Asks the CUDA driver what devices there are, or whether one still works: a program.

Usage: `python probe.py` prints the devices as JSON; `python probe.py --launch ORDINAL` writes,
fills and reads memory of one. It runs on its own, in a process that is gone afterwards, so that
whoever asks never holds a CUDA context; it needs the driver and nothing else.
"""

import ctypes
import itertools
import json
import sys
from typing import Any

_MULTIPROCESSORS = 16
_L2_BYTES = 38
_MAJOR = 75
_MINOR = 76
_NAME_BYTES = 256
_WORDS = 1 << 20
_PATTERN = 0x5EC0DED5


class DriverError(Exception):
    """A call of the driver failed; the message names call and error."""


class Driver:
    """The few calls this program makes."""

    def __init__(self) -> None:
        """Load and initialise the driver."""
        try:
            self._library = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            msg = f"the CUDA driver is not installed: {error}"
            raise DriverError(msg) from error
        self.call("cuInit", ctypes.c_uint(0))

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the driver; raise what it returns."""
        code = getattr(self._library, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._library.cuGetErrorName(code, ctypes.byref(text))
            msg = f"{name}: {(text.value or b'unknown error').decode()} ({code})"
            raise DriverError(msg)

    def whole(self, name: str, *arguments: Any) -> int:
        """Return the integer a function writes to its first argument."""
        value = ctypes.c_int()
        self.call(name, ctypes.byref(value), *arguments)
        return value.value


def devices() -> list[dict[str, Any]]:
    """Return what CUDA programs of this environment see, in their order."""
    driver = Driver()
    version = driver.whole("cuDriverGetVersion")
    found = []
    for ordinal in range(driver.whole("cuDeviceGetCount")):
        device = ctypes.c_int(driver.whole("cuDeviceGet", ctypes.c_int(ordinal)))
        name = ctypes.create_string_buffer(_NAME_BYTES)
        driver.call("cuDeviceGetName", name, _NAME_BYTES, device)
        uuid = (ctypes.c_ubyte * 16)()
        driver.call("cuDeviceGetUuid_v2", ctypes.byref(uuid), device)
        total = ctypes.c_size_t()
        driver.call("cuDeviceTotalMem_v2", ctypes.byref(total), device)
        attributes = {
            key: driver.whole("cuDeviceGetAttribute", ctypes.c_int(number), device)
            for key, number in (
                ("multiprocessors", _MULTIPROCESSORS),
                ("l2_bytes", _L2_BYTES),
                ("major", _MAJOR),
                ("minor", _MINOR),
            )
        }
        found.append(
            {
                "index": ordinal,
                "name": name.value.decode(),
                "uuid": _uuid(bytes(uuid)),
                "memory_bytes": total.value,
                "cuda": f"{version // 1000}.{version % 1000 // 10}",
                **attributes,
            }
        )
    return found


def launch(ordinal: int) -> None:
    """Make a context, let the device fill four mebibytes and read them back.

    Raises:
        DriverError: a call failed, or what came back is not what was written.
    """
    driver = Driver()
    device = ctypes.c_int(driver.whole("cuDeviceGet", ctypes.c_int(ordinal)))
    context, memory = ctypes.c_void_p(), ctypes.c_uint64()
    driver.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    driver.call("cuCtxSetCurrent", context)
    driver.call("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(4 * _WORDS))
    driver.call("cuMemsetD32_v2", memory, ctypes.c_uint(_PATTERN), ctypes.c_size_t(_WORDS))
    words = ctypes.create_string_buffer(4 * _WORDS)
    driver.call("cuMemcpyDtoH_v2", words, memory, ctypes.c_size_t(4 * _WORDS))
    if words.raw != _PATTERN.to_bytes(4, "little") * _WORDS:
        msg = "memory does not read back as it was written"
        raise DriverError(msg)
    driver.call("cuDevicePrimaryCtxRelease_v2", device)


def _uuid(content: bytes) -> str:
    digits = content.hex()
    cuts = (0, 8, 12, 16, 20, 32)
    return "GPU-" + "-".join(digits[a:b] for a, b in itertools.pairwise(cuts))


def main(arguments: list[str]) -> int:
    """Run the program; on failure the reason is one line on stderr."""
    try:
        if arguments[:1] == ["--launch"]:
            launch(int(arguments[1]))
        else:
            sys.stdout.write(json.dumps(devices()) + "\n")
    except DriverError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
