"""The header of any problem compiles without a warning, for C, C++ and CUDA, as it promises."""

import re
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.languages.header import argument_words, problem_header
from gpu_runner.problem import Axis, DType, Scalar, Tensor
from tests.builders import make_problem

STRICT = ("-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I.")
COMPILERS = {
    "gcc": ("gcc", "-std=gnu17", *STRICT, "k.c"),
    "g++": ("g++", "-std=c++20", *STRICT, "k.cpp"),
}
FIELD = re.compile(r"^  (const )?(\w+)(\*?) (\w+);", re.MULTILINE)
C_TYPES = {
    DType.FLOAT64: "double",
    DType.FLOAT32: "float",
    DType.FLOAT16: "kp_fp16",
    DType.BFLOAT16: "kp_bf16",
    DType.INT64: "int64_t",
    DType.INT32: "int32_t",
    DType.INT8: "int8_t",
    DType.UINT8: "uint8_t",
    DType.BOOL: "uint8_t",
}


def problem_of(dtypes, results=(DType.FLOAT32,), **changes):
    inputs = tuple(Tensor(name=f"x{i}", shape=("B",), dtype=d) for i, d in enumerate(dtypes))
    outputs = tuple(Tensor(name=f"y{i}", shape=("B",), dtype=d) for i, d in enumerate(results))
    return make_problem(name="law", inputs=inputs, outputs=outputs, flops="0", **changes)


def struct_of(header):
    text = header.partition("struct law_args {\n")[2].partition("\n};")[0]
    return [(bool(c), kind, bool(star), name) for c, kind, star, name in FIELD.findall(text)]


def said(folder, compiler, problem, body):
    (folder / "problem.h").write_text(problem_header(problem))
    argv = COMPILERS[compiler]
    (folder / argv[-1]).write_text(f'#include "problem.h"\n{body}')
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    return done.stderr


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("dtype", DType)
def test_each_element_type_has_its_size_and_may_be_both_read_and_written(tmp_path, compiler, dtype):
    body = (
        f'KP_STATIC_ASSERT(sizeof(*((struct law_args*)0)->x0) == {dtype.item_bytes}, "size");\n'
        "int kp_run(const struct law_args* a) {\n"
        "  for (int64_t i = 0; i < a->B; ++i) a->y0[i] = a->x0[i];\n  return 0;\n}\n"
    )
    assert said(tmp_path, compiler, problem_of([dtype], [dtype]), body) == ""


@pytest.mark.parametrize("compiler", COMPILERS)
def test_an_input_cannot_be_written(tmp_path, compiler):
    body = "int kp_run(const struct law_args* a) { a->x0[0] = 1; return 0; }\n"
    errors = said(tmp_path, compiler, problem_of([DType.FLOAT32]), body)
    assert "read-only" in errors


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("field", ["B", "N", "threads"])
def test_a_size_cannot_be_written(tmp_path, compiler, field):
    body = f"int kp_run(const struct law_args* a) {{ a->{field} = 1; return 0; }}\n"
    assert "read-only" in said(tmp_path, compiler, problem_of([DType.FLOAT32]), body)


def test_an_entry_of_another_signature_is_an_error(tmp_path):
    body = "void kp_run(const struct law_args* a) { (void)a; }\n"
    assert "conflicting types" in said(tmp_path, "gcc", problem_of([DType.INT8]), body)


@pytest.mark.parametrize(("macros", "declares_entry"), [((), True), (("-D__CUDACC__",), False)])
def test_a_device_compiler_sees_the_struct_without_the_entry(tmp_path, macros, declares_entry):
    (tmp_path / "problem.h").write_text(problem_header(problem_of([DType.FLOAT32, DType.INT8])))
    (tmp_path / "k.cpp").write_text('#include "problem.h"\nstruct law_args kept;\n')
    done = subprocess.run(
        ["g++", "-std=c++20", "-E", "-P", *macros, "-I.", "k.cpp"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ("kp_run" in done.stdout) is declares_entry
    assert "const int8_t* x1;" in done.stdout


def test_a_compiler_without_a_library_gets_its_integers_from_the_header(tmp_path):
    (tmp_path / "problem.h").write_text(problem_header(problem_of(list(C_TYPES)[4:])))
    body = "".join(
        f"static_assert(sizeof({name}) == {size} && {name}(-1) {sign} 0);\n"
        for name, size, sign in (
            *(("int8_t", 1, "<"), ("int32_t", 4, "<"), ("int64_t", 8, "<")),
            *(("uint8_t", 1, ">"), ("uint16_t", 2, ">"), ("uint32_t", 4, ">")),
        )
    )
    (tmp_path / "k.cpp").write_text(f'#include "problem.h"\n{body}')
    runtime = ("-D__CUDACC__", "-D__CUDACC_RTC__", "-nostdinc", "-nostdinc++")
    done = subprocess.run(
        ["g++", "-std=c++20", *runtime, *STRICT, "k.cpp"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""


SOME = st.lists(st.sampled_from(list(DType)), min_size=1, max_size=5)
NAMES = st.lists(
    st.from_regex(r"[A-Z][a-z]{2,6}[0-9]", fullmatch=True), unique=True, min_size=1, max_size=6
)


@settings(max_examples=60, deadline=None)
@given(SOME, SOME, NAMES, st.lists(st.sampled_from(["int", "float"]), max_size=3))
def test_fields_are_words_in_the_order_of_the_call(given_types, made_types, axes, kinds):
    scalars = tuple(Scalar(name=f"s{i}", kind=kind) for i, kind in enumerate(kinds))
    names = tuple(Axis(name=name, kind="var") for name in ("B", *axes))
    problem = problem_of(given_types, made_types, axes=names, scalars=scalars)
    fields = struct_of(problem_header(problem))
    assert fields == [
        *((True, C_TYPES[d], True, f"x{i}") for i, d in enumerate(given_types)),
        *((False, C_TYPES[d], True, f"y{i}") for i, d in enumerate(made_types)),
        *((False, "int64_t", False, axis.name) for axis in names),
        *((False, "int64_t" if s.kind == "int" else "double", False, s.name) for s in scalars),
        (False, "int64_t", False, "threads"),
    ]
    assert len(fields) == argument_words(problem)


@settings(max_examples=60, deadline=None)
@given(SOME, SOME)
def test_helpers_are_there_exactly_where_their_type_is(given_types, made_types):
    text = problem_header(problem_of(given_types, made_types))
    used = {*given_types, *made_types}
    assert ("kp_bf16_to_float" in text) == (DType.BFLOAT16 in used)
    assert ("_Float16" in text) == (DType.FLOAT16 in used)


def test_headers_of_two_problems_do_not_hide_one_another(tmp_path):
    """As C++, which overloads the entry; under one guard the second struct would be unknown."""
    for name in ("first", "second"):
        text = problem_header(problem_of([DType.FLOAT32]).model_copy(update={"name": name}))
        (tmp_path / f"{name}.h").write_text(text.replace('extern "C"', ""))
    body = '#include "first.h"\n#include "second.h"\nfirst_args a;\nsecond_args b;\n'
    (tmp_path / "k.cpp").write_text(body)
    done = subprocess.run(COMPILERS["g++"], cwd=tmp_path, capture_output=True, check=False)
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("axis", "comment"),
    [
        (Axis(name="D", kind="const", value=64), "always 64"),
        (Axis(name="D", kind="expr", expression="B // 2"), "= B // 2"),
    ],
)
def test_a_size_that_is_not_free_says_what_it_is(axis, comment):
    problem = problem_of([DType.FLOAT32], axes=(Axis(name="B", kind="var"), axis))
    (line,) = [line for line in problem_header(problem).splitlines() if "int64_t D;" in line]
    assert line.endswith(f"/* {comment} */")
