"""What CUDA candidates are refused for, in whose words, with and without a device."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.candidate import Source
from gpu_runner.jobs import Reason
from gpu_runner.languages import build, cuda, nvrtc_compile
from gpu_runner.languages.device_code import ptxas_counters
from tests.builders import make_problem
from tests.gpu_runner.languages.outcomes import built, refused_by
from tests.gpu_runner.languages.test_cuda import KERNEL, make_cuda, needs_toolchain
from tests.gpu_runner.languages.test_nvrtc_compile import has_nvrtc

needs_nvrtc = pytest.mark.skipif(not has_nvrtc(), reason="cuda-bindings is not installed")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def refused(cache, text, **changes):
    candidate = make_cuda(text, **changes)
    return refused_by(build(make_problem(), candidate, cache=cache, timeout_s=60.0))


BROKEN = {
    "a name that is not declared": (KERNEL.replace("row[255", "rows[255"), 'identifier "rows"'),
    "a header that is not there": ('#include "absent.cuh"\n' + KERNEL, "absent.cuh"),
    "an assertion of the source": ('static_assert(sizeof(int) == 3, "odd");\n' + KERNEL, "odd"),
    "a call of the host": (KERNEL.replace("__syncthreads();", "host();"), '"host"'),
    "a member the struct lacks": (
        KERNEL + "__device__ int f(softmax_args* a) { return a->M; }\n",
        'has no member "M"',
    ),
    "more shared memory than there is": (KERNEL.replace("row[256]", "row[1 << 20]"), "shared"),
    "assembly that is none": (KERNEL.replace("__syncthreads();", 'asm("flip;");'), "flip"),
    "a branch that is not closed": (KERNEL.rstrip().removesuffix("}"), "error"),
}


@needs_toolchain
@pytest.mark.parametrize("name", BROKEN)
def test_source_that_does_not_compile_is_refused_in_the_compilers_words(cache, name):
    text, said = BROKEN[name]
    found = refused(cache, text)
    assert found.reason is Reason.COMPILE_FAILED
    assert found.message.startswith("the CUDA compiler failed: ")
    assert said in found.log_tail
    assert str(cache) not in found.log_tail
    assert len(found.message) < 400


@needs_toolchain
def test_a_refused_candidate_leaves_nothing_in_the_cache(tmp_path):
    refused(tmp_path, "not code\n")
    assert list(tmp_path.iterdir()) == []


@needs_toolchain
def test_a_kernel_with_a_mangled_name_is_told_how_to_declare_it(cache):
    found = refused(cache, KERNEL.replace('extern "C" ', ""))
    assert found.reason is Reason.COMPILE_FAILED
    assert "names the kernel 'softmax'" in found.message
    assert 'extern "C" __global__' in found.message


@needs_toolchain
def test_the_register_limit_reaches_the_compiler(cache):
    # Thirty-two running sums that a limit of sixteen registers cannot hold.
    body = "".join(f"  float s{i} = x[{i}];\n" for i in range(32))
    loop = "".join(f"    s{i} = s{i} * s{(i + 1) % 32} + x[n + {i}];\n" for i in range(32))
    total = " + ".join(f"s{i}" for i in range(32))
    text = (
        '#include "problem.h"\n'
        'extern "C" __global__ void softmax(const float* x, float* y, int64_t N) {\n'
        f"{body}  for (int64_t n = 0; n < N; ++n) {{\n{loop}  }}\n  y[0] = {total};\n}}\n"
    )
    free = built(build(make_problem(), make_cuda(text), cache=cache, timeout_s=60.0))
    candidate = make_cuda(text, flags=("--maxrregcount=24",))
    tight = built(build(make_problem(), candidate, cache=cache, timeout_s=60.0))
    assert free.counters["softmax.registers"] > 24 >= tight.counters["softmax.registers"]
    assert tight.counters["softmax.spill_store_bytes"] > 0
    assert free.counters["softmax.spill_store_bytes"] == 0


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (("kernel.cuh",), "it has 0"),
        (("a.cu", "b.cu"), "it has 2"),
        (("a.cu", "deep/b.cu", "c.cu"), "it has 3"),
    ],
)
def test_one_unit_is_what_a_candidate_has(paths, said):
    sources = tuple(Source(path=path, text=KERNEL) for path in paths)
    found = cuda._refuse(make_cuda(sources=sources))
    assert found is not None
    assert found.reason is Reason.LANGUAGE_MISMATCH
    assert said in found.message


def test_a_flag_is_refused_before_anything_else_is_looked_at():
    found = cuda._refuse(make_cuda(sources=(Source(path="a.py", text=""),), flags=("-O3",)))
    assert found is not None
    assert found.reason is Reason.FLAG_NOT_ALLOWED


@pytest.mark.parametrize("arch", ["sm_80", "sm_90a", "sm_100a"])
def test_an_architecture_that_is_named_outranks_the_device(arch):
    flags = ("--use_fast_math", f"--gpu-architecture={arch}")
    assert cuda.requested_arch(make_cuda(flags=flags)) == arch


@pytest.mark.parametrize(
    ("script", "arch"),
    [
        ("echo 9.0", "sm_90a"),
        ("echo 8.0", "sm_80"),
        ("echo 10.0; echo 9.0", "sm_100a"),
        ("echo 6.1", cuda.DEFAULT_ARCH),
        ("echo No devices were found", cuda.DEFAULT_ARCH),
        ("exit 9", cuda.DEFAULT_ARCH),
        (None, cuda.DEFAULT_ARCH),
    ],
)
def test_the_first_device_gives_the_architecture_where_none_is_named(
    tmp_path, monkeypatch, script, arch
):
    if script is not None:
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    cuda._compute_capability.cache_clear()
    try:
        assert cuda.requested_arch(make_cuda()) == arch
    finally:
        cuda._compute_capability.cache_clear()


def test_a_device_that_did_not_answer_is_asked_again(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    cuda._compute_capability.cache_clear()
    try:
        for script, arch in (("exit 9", cuda.DEFAULT_ARCH), ("echo 8.0", "sm_80")):
            tool.write_text(f"#!/bin/sh\n{script}\n")
            tool.chmod(0o755)
            assert cuda.requested_arch(make_cuda()) == arch
        tool.unlink()
        assert cuda.requested_arch(make_cuda()) == "sm_80"
    finally:
        cuda._compute_capability.cache_clear()


KERNELS = st.lists(
    st.tuples(
        st.sampled_from(["f", "_g2", "softmax", "softmax_tail", "k" * 40, "_Z3foov"]),
        *(st.integers(0, 255) for _ in range(4)),
    ),
    unique_by=lambda row: row[0],
    max_size=5,
)


@settings(max_examples=40, deadline=None)
@given(KERNELS)
def test_counters_are_those_of_their_kernel_whatever_stands_between(rows):
    log = "ptxas info    : 0 bytes gmem\n"
    for name, registers, stack, stores, loads in rows:
        log += (
            f"ptxas info    : Compiling entry function '{name}' for 'sm_90a'\n"
            f"ptxas info    : Function properties for {name}\n    {stack} bytes stack frame, "
            f"{stores} bytes spill stores, {loads} bytes spill loads\n"
            f"kernel.cu(3): warning #177-D: variable was declared but never referenced\n"
            f"ptxas info    : Used {registers} registers, used 1 barriers, 380 bytes cmem[0]\n"
        )
    expected = {}
    for name, registers, stack, stores, loads in rows:
        expected[f"{name}.registers"] = registers
        expected[f"{name}.stack_bytes"] = stack
        expected[f"{name}.spill_store_bytes"] = stores
        expected[f"{name}.spill_load_bytes"] = loads
        expected[f"{name}.barriers"] = 1
        expected[f"{name}.shared_bytes"] = 0
    assert ptxas_counters(log) == expected


@settings(max_examples=60, deadline=None)
@given(st.text())
def test_any_log_is_read_without_failing(log):
    assert ptxas_counters(log) == {}


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-I", "-B", nvrtc_compile.__file__, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )


@needs_nvrtc
@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--gpu-architecture=sm_12", "--gpu-architecture"),
        ("--std=c++99", "--std"),
        ("--no-such-option", "--no-such-option"),
    ],
)
def test_an_option_that_is_none_is_named_and_no_cubin_is_left(tmp_path, option, said):
    (tmp_path / "k.cu").write_text('extern "C" __global__ void f() {}\n')
    finished = run(tmp_path, "k.cu", "k.cubin", "k.ptx", json.dumps([option]))
    assert finished.returncode == 1
    assert said in finished.stdout
    assert not (tmp_path / "k.cubin").exists()


@needs_nvrtc
def test_each_line_of_a_long_log_is_kept(tmp_path):
    lines = "".join(f"__device__ int f{i}() {{ return absent{i}; }}\n" for i in range(40))
    (tmp_path / "k.cu").write_text(lines)
    finished = run(tmp_path, "k.cu", "k.cubin", "k.ptx", json.dumps(["--gpu-architecture=sm_90a"]))
    assert [f'"absent{i}"' in finished.stdout for i in range(40)] == [True] * 40
    assert "\x00" not in finished.stdout


@needs_nvrtc
def test_a_source_that_is_missing_is_told_by_name(tmp_path):
    finished = run(tmp_path, "gone.cu", "k.cubin", "k.ptx", "[]")
    assert finished.returncode != 0
    assert "gone.cu" in finished.stderr
