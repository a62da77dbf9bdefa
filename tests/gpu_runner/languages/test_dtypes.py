"""Kernels over every element type: header, compiler and argument layout together."""

import ctypes

import numpy as np
import pytest

from gpu_runner.languages import build
from gpu_runner.languages.header import argument_words
from gpu_runner.oracle.elements import as_float64, from_float64, numpy_dtype
from gpu_runner.problem import DType, Scalar, Tensor
from tests.builders import make_candidate, make_problem
from tests.gpu_runner.languages.outcomes import built

TO_FLOAT = {DType.BFLOAT16: "kp_bf16_to_float({})"}
FROM_FLOAT = {
    DType.BFLOAT16: "kp_float_to_bf16({})",
    DType.FLOAT16: "(kp_fp16)({})",
    DType.BOOL: "({}) != 0",
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def make_halving(dtype):
    return make_problem(
        name="halving",
        inputs=(Tensor(name="x", shape=("B", "N"), dtype=dtype),),
        outputs=(Tensor(name="y", shape=("B", "N"), dtype=dtype),),
        scalars=(Scalar(name="factor", default=0.5),),
        library_ops=(),
    )


def halving_text(dtype):
    if dtype in (DType.INT64, DType.FLOAT64):
        value = "a->x[i] * a->factor"
    else:
        read = TO_FLOAT.get(dtype, "{}").format("a->x[i]")
        value = FROM_FLOAT.get(dtype, "{}").format(f"{read} * (float)a->factor")
    return (
        '#include "problem.h"\n'
        'extern "C" int kp_run(const struct halving_args* a) {\n'
        f"  for (int64_t i = 0; i < a->B * a->N; ++i) a->y[i] = {value};\n"
        "  return 0;\n}\n"
    )


def call(artefact, problem, x, factor):
    y = np.zeros_like(x)
    words = (ctypes.c_int64 * argument_words(problem))(x.ctypes.data, y.ctypes.data, *x.shape)
    ctypes.cast(words, ctypes.POINTER(ctypes.c_double))[4] = factor
    words[5] = 1
    assert ctypes.CDLL(str(artefact.entry)).kp_run(words) == 0
    return y


@pytest.mark.parametrize("dtype", DType)
def test_kernel_reads_and_writes_every_element_type(cache, dtype):
    problem = make_halving(dtype)
    candidate = make_candidate(text=halving_text(dtype))
    artefact = built(build(problem, candidate, cache=cache, timeout_s=60.0))
    values = np.array([[0, 1, 2, 4, 8], [16, 32, 64, 2, 0]], np.float64)
    if dtype is DType.BOOL:
        values = np.minimum(values, 1)
    x = np.ascontiguousarray(from_float64(values, dtype))
    assert x.dtype == numpy_dtype(dtype)

    y = as_float64(call(artefact, problem, x, 0.5), dtype)

    halved = values / 2 if dtype.is_float else np.floor(values / 2)
    assert np.array_equal(y, values if dtype is DType.BOOL else halved)


@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.BFLOAT16])
def test_half_types_round_as_the_oracle_rounds(cache, dtype):
    problem = make_halving(dtype)
    candidate = make_candidate(text=halving_text(dtype))
    artefact = built(build(problem, candidate, cache=cache, timeout_s=60.0))
    values = np.random.default_rng(5).normal(size=(16, 64))
    x = from_float64(values, dtype)
    factor = float(np.float32(1 / 3))

    y = call(artefact, problem, x, factor)

    product = (as_float64(x, dtype).astype(np.float32) * np.float32(factor)).astype(np.float64)
    assert np.array_equal(y, from_float64(product, dtype))
