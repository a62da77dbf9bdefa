import struct
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.jobs import Reason
from gpu_runner.languages.sanitized import (
    ENTRY_FAILED_CODE,
    PROGRAM_FILE,
    build_sanitized,
    call_file,
)
from gpu_runner.problem import Axis, DType, Scalar, Tensor
from tests.builders import make_candidate, make_problem, make_workload
from tests.gpu_runner.languages.outcomes import built, refused_by

TIMEOUT_S = 60.0


def make_scaled():
    """Two inputs, a constant axis, an expression axis and both kinds of scalar."""
    return make_problem(
        name="scaled",
        axes=(
            Axis(name="B", kind="var"),
            Axis(name="N", kind="const", value=6),
            Axis(name="H", kind="expr", expression="N // 2"),
        ),
        inputs=(
            Tensor(name="x", shape=("B", "N"), dtype=DType.FLOAT32),
            Tensor(name="w", shape=("H",), dtype=DType.INT8),
        ),
        scalars=(Scalar(name="eps", default=0.5), Scalar(name="groups", kind="int", default=3)),
        library_ops=(),
        flops="0",
    )


def make_inputs(rows):
    return {
        "x": np.arange(rows * 6, dtype=np.float32).reshape(rows, 6),
        "w": np.array([-1, 0, 1], np.int8),
    }


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def run(cache, folder, body, *, rows=2, threads=1):
    text = f'#include "problem.h"\nextern "C" int kp_run(const scaled_args* a) {{ {body} }}\n'
    artefact = built(
        build_sanitized(make_scaled(), make_candidate(text=text), cache=cache, timeout_s=TIMEOUT_S)
    )
    workload = make_workload(axes={"B": rows})
    content = call_file(make_scaled(), workload, make_inputs(rows), threads=threads)
    (folder / "call").write_bytes(content)
    return subprocess.run(
        [str(artefact.path / PROGRAM_FILE), str(folder / "call")],
        capture_output=True,
        text=True,
        check=False,
        env={"ASAN_OPTIONS": "detect_leaks=0"},
    )


@given(st.integers(1, 50), st.integers(1, 8))
def test_call_file_has_the_layout_the_driver_reads(rows, threads):
    workload = make_workload(axes={"B": rows}, scalars={"groups": 9})
    content = call_file(make_scaled(), workload, make_inputs(rows), threads=threads)

    inputs, outputs, tail = struct.unpack_from("<3Q", content)
    assert (inputs, outputs, tail) == (2, 1, 6)
    assert struct.unpack_from("<3Q", content, 24) == (24 * rows, 3, 24 * rows)
    assert struct.unpack_from("<3q", content, 48) == (rows, 6, 3)
    assert struct.unpack_from("<d", content, 72) == (0.5,)
    assert struct.unpack_from("<2q", content, 80) == (9, threads)
    assert content[96:] == b"".join(a.tobytes() for a in make_inputs(rows).values())


def test_driver_gives_the_kernel_what_the_file_says(cache, tmp_path):
    body = (
        "if (a->B != 2 || a->N != 6 || a->H != 3 || a->threads != 4) return 1;"
        "if (a->eps != 0.5 || a->groups != 3) return 2;"
        "if (a->w[0] != -1 || a->w[2] != 1) return 3;"
        "for (int i = 0; i < 12; ++i) if (a->x[i] != i) return 4;"
        "for (int i = 0; i < 12; ++i) a->y[i] = 0;"
        "return 0;"
    )
    finished = run(cache, tmp_path, body, threads=4)
    assert finished.returncode == 0, finished.stderr


def test_kernel_that_fails_is_told_from_a_finding(cache, tmp_path):
    finished = run(cache, tmp_path, "return 9;")
    assert finished.returncode == ENTRY_FAILED_CODE
    assert finished.stderr == ""


@pytest.mark.parametrize(
    "body",
    [
        "return (int)a->x[a->B * a->N];",
        "return (int)a->x[-1];",
        "return a->w[a->H];",
        "a->y[a->B * a->N] = 0; return 0;",
    ],
)
def test_each_tensor_ends_where_it_ends(cache, tmp_path, body):
    finished = run(cache, tmp_path, body)
    assert finished.returncode not in (0, ENTRY_FAILED_CODE)
    assert "heap-buffer-overflow" in finished.stderr


def test_empty_tensor_is_passed_on(cache, tmp_path):
    assert run(cache, tmp_path, "return a->B == 0 ? 0 : 1;", rows=0).returncode == 0


def test_truncated_file_is_refused_by_the_driver(cache, tmp_path):
    assert run(cache, tmp_path, "return 0;").returncode == 0
    path = tmp_path / "call"
    path.write_bytes(path.read_bytes()[:-1])
    program = next(cache.glob(f"*/{PROGRAM_FILE}"))
    finished = subprocess.run([str(program), str(path)], check=False, capture_output=True)
    assert finished.returncode == 2


def test_sanitized_program_is_cached_apart_from_the_kernel(cache):
    text = '#include "problem.h"\nextern "C" int kp_run(const softmax_args*) { return 0; }\n'
    candidate = make_candidate(text=text)
    first = built(build_sanitized(make_problem(), candidate, cache=cache, timeout_s=TIMEOUT_S))
    again = built(build_sanitized(make_problem(), candidate, cache=cache, timeout_s=TIMEOUT_S))
    assert (first.is_cached, again.is_cached) == (False, True)
    assert not first.entry.exists()


def test_compile_error_is_told(cache):
    candidate = make_candidate(text="int x = ;\n")
    outcome = build_sanitized(make_problem(), candidate, cache=cache, timeout_s=TIMEOUT_S)
    refused = refused_by(outcome)
    assert refused.reason is Reason.COMPILE_FAILED
    assert "kernel.cpp:1" in refused.message
