"""What a cubin itself says of its kernels' parameters: the one source a launcher may rely on.

PTX is text that its writer may have shaped; the driver reads as many arguments as the cubin asks
for. Pure: bytes in, sizes out.
"""

import struct
from collections.abc import Iterator

_MAGIC = b"\x7fELF\x02\x01"
_INFO_PREFIX = ".nv.info."
_NO_BITS = 8
_WITH_PAYLOAD = 0x04
_PARAMETER = 0x17
_SIZE_SHIFT = 18


class CubinError(ValueError):
    """These bytes are no cubin as the assembler writes them."""


def parameter_sizes(cubin: bytes) -> dict[str, tuple[int, ...]]:
    """Return the bytes of every parameter of every kernel, in order.

    Raises:
        CubinError: these bytes are no cubin.

    Source: the `.nv.info.<kernel>` sections, attribute EIATTR_KPARAM_INFO.
    """
    if not cubin.startswith(_MAGIC):
        raise CubinError("the compiler left no 64-bit little-endian ELF file")
    try:
        return {
            name.removeprefix(_INFO_PREFIX): _sizes(content)
            for name, content in _sections(cubin)
            if name.startswith(_INFO_PREFIX)
        }
    except (struct.error, ValueError, LookupError, OverflowError) as error:
        raise CubinError(f"the cubin is damaged: {error}") from error


def _sections(cubin: bytes) -> Iterator[tuple[str, bytes]]:
    (table,) = struct.unpack_from("<Q", cubin, 0x28)
    width, count, names_at = struct.unpack_from("<HHH", cubin, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", cubin, table + n * width) for n in range(count)]
    names = headers[names_at][4]
    for at, kind, _, _, offset, size in headers:
        end = cubin.index(b"\0", names + at)
        name = cubin[names + at : end].decode()
        yield name, b"" if kind == _NO_BITS else cubin[offset : offset + size]


def _sizes(content: bytes) -> tuple[int, ...]:
    found: dict[int, int] = {}
    at = 0
    while at < len(content):
        form, attribute, size = struct.unpack_from("<BBH", content, at)
        at += 4
        if form != _WITH_PAYLOAD:
            continue
        if attribute == _PARAMETER:
            _, ordinal, _, packed = struct.unpack_from("<IHHI", content, at)
            found[ordinal] = packed >> _SIZE_SHIFT
        at += size
    return tuple(found[n] for n in range(len(found)))
