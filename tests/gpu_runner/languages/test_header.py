import ctypes
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.errors import DefinitionError
from gpu_runner.languages.header import argument_words, problem_header
from gpu_runner.problem import Axis, DType, Scalar, Tensor
from tests.builders import make_problem

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "problem.h"


def make_rich_problem():
    """Every element type, every kind of axis, both kinds of scalar, a 0-d tensor."""
    return make_problem(
        name="rich",
        axes=(
            Axis(name="B", kind="var"),
            Axis(name="N", kind="const", value=256),
            Axis(name="H", kind="expr", expression="N // 2"),
        ),
        inputs=(
            Tensor(name="x", shape=("B", "N"), dtype=DType.BFLOAT16),
            Tensor(name="half", shape=("B", "H"), dtype=DType.FLOAT16),
            Tensor(name="wide", shape=("N",), dtype=DType.FLOAT64),
            Tensor(name="index", shape=("B",), dtype=DType.INT32),
            Tensor(name="mask", shape=("N",), dtype=DType.BOOL),
            Tensor(name="scale", shape=(), dtype=DType.FLOAT32),
        ),
        outputs=(
            Tensor(name="y", shape=("B", "N"), dtype=DType.INT8),
            Tensor(name="count", shape=("B",), dtype=DType.INT64),
        ),
        scalars=(Scalar(name="eps", default=1e-6), Scalar(name="groups", kind="int", default=1)),
        library_ops=(),
    )


def compile_c(text, folder, *, compiler, standard, name):
    source = folder / name
    source.write_text(text)
    shared = folder / f"{source.stem}-{compiler}.so"
    subprocess.run(
        [
            *(compiler, standard, "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"),
            *(f"-I{folder}", str(source), "-o", str(shared)),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    return ctypes.CDLL(str(shared))


def test_header_of_a_rich_problem_is_the_golden_text():
    assert problem_header(make_rich_problem()) == GOLDEN.read_text()


@pytest.mark.parametrize(
    ("compiler", "standard", "name"),
    [("gcc", "-std=c17", "k.c"), ("gcc", "-std=gnu11", "k.c"), ("g++", "-std=c++20", "k.cpp")],
)
def test_struct_has_the_promised_layout(tmp_path, compiler, standard, name):
    problem = make_rich_problem()
    (tmp_path / "problem.h").write_text(problem_header(problem))
    names = [t.name for t in (*problem.inputs, *problem.outputs)]
    names += [*(axis.name for axis in problem.axes), *problem.scalar_names, "threads"]
    offsets = ", ".join(f"offsetof(struct rich_args, {n})" for n in names)
    text = (
        '#include "problem.h"\n#include <stddef.h>\n'
        f"static const size_t offsets[] = {{{offsets}}};\n"
        "int kp_run(const struct rich_args* a) {\n"
        "  if (sizeof(struct rich_args) != 8 * sizeof offsets / sizeof *offsets) return 1;\n"
        "  for (size_t i = 0; i < sizeof offsets / sizeof *offsets; ++i)\n"
        "    if (offsets[i] != 8 * i) return 2;\n"
        "  return a->B == 5 && a->eps == 0.5 && a->groups == 7 && a->threads == 3 ? 0 : 3;\n}\n"
    )
    library = compile_c(text, tmp_path, compiler=compiler, standard=standard, name=name)

    words = (ctypes.c_int64 * argument_words(problem))(*range(len(names)))
    words[names.index("B")] = 5
    ctypes.cast(words, ctypes.POINTER(ctypes.c_double))[names.index("eps")] = 0.5
    words[names.index("groups")] = 7
    words[names.index("threads")] = 3

    assert library.kp_run(words) == 0


@pytest.fixture(scope="module")
def conversions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bf16")
    (folder / "problem.h").write_text(problem_header(make_rich_problem()))
    text = (
        '#include "problem.h"\n'
        "void widen(const kp_bf16* in, float* out, int64_t n) {\n"
        "  for (int64_t i = 0; i < n; ++i) out[i] = kp_bf16_to_float(in[i]);\n}\n"
        "void narrow(const float* in, kp_bf16* out, int64_t n) {\n"
        "  for (int64_t i = 0; i < n; ++i) out[i] = kp_float_to_bf16(in[i]);\n}\n"
    )
    return compile_c(text, folder, compiler="gcc", standard="-std=c17", name="c.c")


def convert(function, source, result):
    pointers = (a.ctypes.data_as(ctypes.c_void_p) for a in (source, result))
    function(*pointers, ctypes.c_int64(source.size))
    return result


def test_every_bf16_value_survives_the_way_through_float(conversions):
    patterns = np.arange(1 << 16, dtype=np.uint16)
    floats = convert(conversions.widen, patterns, np.empty(patterns.size, np.float32))
    back = convert(conversions.narrow, floats, np.empty_like(patterns))

    assert np.array_equal(floats.view(np.uint32), patterns.astype(np.uint32) << 16)
    is_nan = np.isnan(floats)
    assert np.array_equal(back[~is_nan], patterns[~is_nan])
    assert np.array_equal(back[is_nan], patterns[is_nan] | 0x40)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_bf16_rounds_to_nearest_ties_to_even(conversions, values):
    source = np.array(values, np.float32)
    result = convert(conversions.narrow, source, np.empty(source.size, np.uint16))

    low = (source.view(np.uint32) >> 16).astype(np.uint32)
    below = (low << 16).view(np.float32).astype(np.float64)
    step = np.where(np.abs(below) > 0, np.spacing(np.abs(below).astype(np.float32)), 0) * 2.0**16
    above = (low + 1 << 16).view(np.float32).astype(np.float64)
    exact = source.astype(np.float64)
    up = np.abs(above - exact) < np.abs(exact - below)
    tie = np.abs(above - exact) == np.abs(exact - below)
    finite = np.isfinite(above) & (step >= 0)
    wanted = np.where(up | (tie & (low % 2 == 1)), low + 1, low)
    assert np.array_equal(result[finite], wanted[finite].astype(np.uint16))


@pytest.mark.parametrize(
    "name", ["class", "and", "int", "lambda", "threads", "kp_run", "_Static__x", "unix", "NAN"]
)
@pytest.mark.parametrize("role", ["axis", "tensor", "scalar"])
def test_reserved_name_is_refused_by_name(name, role):
    cases: dict[str, dict[str, Any]] = {
        "axis": {"axes": (*make_problem().axes, Axis(name=name, kind="var"))},
        "tensor": {"outputs": (Tensor(name=name, shape=("B",), dtype=DType.FLOAT32),)},
        "scalar": {"scalars": (Scalar(name=name),)},
    }
    with pytest.raises(DefinitionError, match=f"name '{name}' is reserved.*rename"):
        problem_header(make_problem(**cases[role]))


def test_helpers_appear_only_where_a_tensor_needs_them():
    text = problem_header(make_problem())
    assert "kp_bf16" not in text
    assert "kp_fp16" not in text


def test_header_may_be_included_twice(tmp_path):
    (tmp_path / "problem.h").write_text(problem_header(make_rich_problem()))
    text = (
        '#include "problem.h"\n#include "problem.h"\n'
        "int kp_run(const struct rich_args* a) { return a == 0; }\n"
    )
    library = compile_c(text, tmp_path, compiler="g++", standard="-std=c++20", name="k.cpp")
    assert library.kp_run(None) == 1
