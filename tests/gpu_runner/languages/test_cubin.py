import shutil
import struct
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.languages.cubin import CubinError, parameter_sizes

SOURCE = """
struct alignas(64) Map { char bytes[128]; };
extern "C" __global__ void none() {}
extern "C" __global__ void one(float* x) { *x = 1; }
extern "C" __global__ void all(float* x, int n, double d, const __grid_constant__ Map m, char c,
                               short s, float f, long long l) {
    *x = n + d + m.bytes[n] + c + s + f + l;
}
"""

needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc on PATH")


@needs_nvcc
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a", "sm_100a"])
def test_sizes_of_all_parameters_are_in_order(tmp_path, arch):
    (tmp_path / "k.cu").write_text(SOURCE)
    subprocess.run(
        ["nvcc", "-cubin", f"-arch={arch}", "k.cu", "-o", "k.cubin"], cwd=tmp_path, check=True
    )
    assert parameter_sizes((tmp_path / "k.cubin").read_bytes()) == {
        "none": (),
        "one": (8,),
        "all": (8, 4, 8, 128, 1, 2, 4, 8),
    }


def elf(sections):
    """A file with the given sections as the assembler lays them out."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in [*sections, ".shstrtab"])
    body, headers, at = b"", [struct.pack("<IIQQQQ16x", 0, 0, 0, 0, 0, 0)], 64
    place = 1
    for name, content in [*sections.items(), (".shstrtab", names)]:
        headers.append(struct.pack("<IIQQQQ16x", place, 1, 0, 0, at + len(body), len(content)))
        body += content
        place += len(name) + 1
    start = b"\x7fELF\x02\x01".ljust(40, b"\0") + struct.pack("<Q", at + len(body))
    start = start.ljust(0x3A, b"\0") + struct.pack("<HHH", 56, len(headers), len(headers) - 1)
    # The table's offset stands at 0x28, its shape at 0x3A.
    return start + body + b"".join(headers)


def attribute(ordinal, size):
    return struct.pack("<BBHIHHI", 4, 0x17, 12, 0, ordinal, ordinal * 8, size << 18)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,12}", fullmatch=True),
        st.lists(st.integers(1, 4096), max_size=6),
        max_size=4,
    )
)
def test_sizes_are_read_whatever_stands_between(kernels):
    other = struct.pack("<BBH", 3, 0x19, 77) + struct.pack("<BBHQ", 4, 0x0A, 8, 5)
    sections = {
        f".nv.info.{name}": b"".join(
            other + attribute(ordinal, size) for ordinal, size in reversed(list(enumerate(sizes)))
        )
        for name, sizes in kernels.items()
    }
    expected = {name: tuple(sizes) for name, sizes in kernels.items()}
    assert parameter_sizes(elf({".text": b"code", **sections})) == expected


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"text", b"\x7fELF\x01\x01" + bytes(90)])
def test_what_is_no_cubin_is_told(content):
    with pytest.raises(CubinError, match="no 64-bit little-endian ELF"):
        parameter_sizes(content)


def test_a_table_past_every_address_is_told():
    whole = elf({".nv.info.k": attribute(0, 8)})
    broken = whole[:0x28] + (1 << 63).to_bytes(8, "little") + whole[0x30:]
    with pytest.raises(CubinError, match="the cubin is damaged"):
        parameter_sizes(broken)


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_cubin_is_told_and_nothing_else_is_raised(data):
    whole = elf({".nv.info.k": attribute(0, 8) + attribute(1, 4)})
    at = data.draw(st.integers(6, len(whole) - 1))
    broken = whole[:at] + data.draw(st.binary(min_size=1, max_size=8)) + whole[at + 1 :]
    cut = broken[: data.draw(st.integers(6, len(broken)))]
    try:
        found = parameter_sizes(cut)
    except CubinError:
        return
    assert all(isinstance(size, int) for sizes in found.values() for size in sizes)
