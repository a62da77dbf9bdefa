from pathlib import Path

import pytest

from gpu_runner.errors import RunnerError
from gpu_runner.facts import InstructionMix
from gpu_runner.languages import build
from gpu_runner.profiling.disassembly import (
    MOST_HOTSPOTS,
    disassemble,
    hotspots,
    instruction_mix,
    is_readable,
)
from tests.builders import make_candidate, make_problem
from tests.gpu_runner.languages.outcomes import built
from tests.gpu_runner.profiling.test_assembly import listing, of_code


def mix_of(*lines):
    return instruction_mix(of_code(*lines, "jne 1000 <kp_run>", "ret"))


def test_naive_softmax_calls_and_spills():
    assert instruction_mix(listing("naive")) == InstructionMix(
        total=39,
        vector_bits={"256": 10},
        fma=0,
        vector_arithmetic=2,
        scalar_arithmetic=2,
        division=2,
        calls_in_loops=("expf",),
        spills=2,
    )


def test_vectorised_softmax_is_wide_and_fused():
    mix = instruction_mix(listing("vectorised"))
    assert mix.vector_bits == {"512": 24}
    assert mix.fma == 16
    assert (mix.calls_in_loops, mix.spills, mix.division) == ((), 0, 0)


def test_hotspots_are_the_innermost_loops_longest_first():
    spots = hotspots(listing("naive"))
    assert [spot.detail for spot in spots] == [
        "15 instructions, scalar",
        "13 instructions, 256-bit vectors, 2 division",
        "11 instructions, scalar, 2 spills, calls expf",
    ]
    assert sum(spot.share for spot in spots) == pytest.approx(1.0)
    assert all(spot.symbol.startswith("kp_run+0x") for spot in spots)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("vfmadd231ps %zmm1,%zmm2,%zmm3", "fma"),
        ("vfnmadd132sd %xmm1,%xmm2,%xmm3", "fma"),
        ("vpdpbusd %zmm1,%zmm2,%zmm3", "fma"),
        ("vaddps %ymm1,%ymm2,%ymm3", "vector_arithmetic"),
        ("vmaxpd (%rax),%ymm2,%ymm3", "vector_arithmetic"),
        ("vpmaddwd %ymm1,%ymm2,%ymm3", "vector_arithmetic"),
        ("vpaddd %ymm1,%ymm2,%ymm3", "vector_arithmetic"),
        ("vrndscaleps $0xc,%zmm1,%zmm1", "vector_arithmetic"),
        ("mulps %xmm1,%xmm2", "vector_arithmetic"),
        ("vmulss %xmm1,%xmm2,%xmm3", "scalar_arithmetic"),
        ("addsd (%rax),%xmm2", "scalar_arithmetic"),
        ("vfmadd231ss %xmm1,%xmm2,%xmm3", "scalar_arithmetic"),
        ("vdivps %ymm1,%ymm2,%ymm3", "division"),
        ("vsqrtss %xmm1,%xmm2,%xmm3", "division"),
        ("idiv %rcx", "division"),
        ("divl (%rax)", "division"),
        ("vgatherdps %ymm1,(%rax,%ymm2,4),%ymm3", "gathers"),
        ("vpgatherqd %xmm1,(%rax,%ymm2,4),%xmm3", "gathers"),
        ("vmovntps %zmm0,(%rdi)", "non_temporal_stores"),
        ("movnti %rax,(%rdi)", "non_temporal_stores"),
        ("vmovaps %ymm0,0x40(%rsp)", "spills"),
        ("vaddsd (%rsp),%xmm1,%xmm1", "spills"),
    ],
)
def test_instruction_counts_in_its_field(line, field):
    assert getattr(mix_of(line), field) == 1


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("lea 0x40(%rsp),%rax", "spills"),
        ("vmovups (%rsi,%rsp,1),%ymm0", "spills"),
        ("mov -0x8(%rbp),%rax", "spills"),
        ("vandps %ymm1,%ymm2,%ymm3", "vector_arithmetic"),
        ("vpslld $0x17,%ymm1,%ymm1", "vector_arithmetic"),
        ("add %rax,%rbx", "scalar_arithmetic"),
        ("vmovss (%rax),%xmm0", "scalar_arithmetic"),
        ("paddd_unknown %xmm0,%xmm1", "fma"),
    ],
)
def test_instruction_does_not_count(line, field):
    assert getattr(mix_of(line), field) == 0


def test_frame_pointer_makes_its_slots_spills():
    text = of_code(
        "push %rbp",
        "mov %rsp,%rbp",
        "vmovsd -0x38(%rbp),%xmm0",
        "jne 1020 <kp_run+0x20>",
        "ret",
    )
    assert instruction_mix(text).spills == 1


@pytest.mark.parametrize(
    ("line", "bits"),
    [
        ("vaddps %zmm1,%zmm2,%zmm3", {"512": 1}),
        ("vcvtps2pd %xmm1,%ymm3", {"256": 1}),
        ("movups (%rax),%xmm3", {"128": 1}),
        ("vaddss %xmm1,%xmm2,%xmm3", {}),
        ("vmovd %eax,%xmm3", {}),
        ("vcvttss2si %xmm1,%eax", {}),
        ("vxorps %xmm0,%xmm0,%xmm0", {}),
        ("vmovaps %ymm0,%ymm1", {}),
        ("vmovaps (%rax),%ymm1", {"256": 1}),
    ],
)
def test_width_is_that_of_the_widest_register_that_works(line, bits):
    assert mix_of(line).vector_bits == bits


def test_code_without_a_loop_counts_as_a_whole():
    text = of_code("vaddps %zmm1,%zmm2,%zmm3", "vmulss %xmm1,%xmm2,%xmm3", "ret")
    mix = instruction_mix(text)
    assert (mix.total, mix.vector_arithmetic, mix.scalar_arithmetic) == (3, 1, 1)
    assert hotspots(text) == ()


def test_listing_without_the_entry_has_nothing():
    assert instruction_mix("") == InstructionMix(total=0)


def test_number_of_hotspots_is_bounded():
    loops = [f"jne {0x1000 + 16 * n:x} <kp_run+{16 * n:#x}>" for n in range(3 * MOST_HOTSPOTS)]
    assert len(hotspots(of_code(*loops, "ret"))) == MOST_HOTSPOTS


def test_built_kernel_is_disassembled_and_read(tmp_path):
    artefact = built(
        build(make_problem(), make_candidate(), cache=tmp_path / "cache", timeout_s=60.0)
    )
    text = disassemble(artefact.entry, scratch=tmp_path)
    if not is_readable(text):
        pytest.skip("not x86-64")
    mix = instruction_mix(text)
    assert mix.calls_in_loops == ("expf",)
    assert mix.total > 0


def test_file_that_is_no_object_is_told_by_name(tmp_path):
    path = Path(tmp_path / "kernel.so")
    path.write_text("not machine code")
    with pytest.raises(RunnerError, match=r"objdump failed on kernel\.so"):
        disassemble(path, scratch=tmp_path)


def test_other_architectures_are_not_read():
    assert is_readable(listing("naive"))
    assert not is_readable("kernel.so:     file format elf64-littleaarch64\n")
