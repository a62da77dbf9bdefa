"""Values, slices and tensor maps: what fits, what does not, and which field says so."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.candidate import Slice, TensorMap, Value
from gpu_runner.device.arguments import Point, lower_argument, refuse_mismatch
from gpu_runner.device.lowered import Map, PlanError, Pointer, Scratch, Word
from gpu_runner.device.plan_rules import Site, Words
from gpu_runner.problem import Axis, DType, Scalar, Tensor
from tests.gpu_runner.device.plans import plan_problem

SITE = Site(plan=2, launch=1, kernel="k")
WORDS = Words(plan_problem())


def point(rows=8, columns=128, *, words=WORDS, eps=1e-6, groups=4):
    sizes = {"B": rows, "N": columns, "H": columns // 2}
    return Point(words=words, sizes=sizes, scalars={"eps": eps, "groups": groups}, name="w")


def lowered(argument, where=None, *, workspace_bytes=0):
    return lower_argument(SITE, "arguments[3]", argument, where or point(), workspace_bytes)


def refusal(argument, where=None, **changes):
    with pytest.raises(PlanError) as caught:
        lowered(argument, where, **changes)
    text = str(caught.value)
    assert text.startswith("plan 2, launch 1 ('k'), arguments[3]")
    return text


def test_bare_names_are_pointers_int64_and_double():
    assert lowered("x") == Pointer(tensor="x")
    assert lowered("H") == Word(bytes=struct.pack("<q", 64))
    assert lowered("eps") == Word(bytes=struct.pack("<d", 1e-6))
    assert lowered("groups") == Word(bytes=struct.pack("<q", 4))
    assert lowered("workspace", workspace_bytes=1) == Scratch(offset=0)


def test_a_problems_own_workspace_comes_first():
    tensor = Tensor(name="workspace", shape=("B",), dtype=DType.INT8)
    words = Words(plan_problem(inputs=(tensor,)))
    assert lowered("workspace", point(words=words)) == Pointer(tensor="workspace")


FORMATS = {"i32": "<i", "i64": "<q"}


@given(st.sampled_from(sorted(FORMATS)), st.integers(-(2**62), 2**62))
def test_a_whole_number_arrives_or_is_refused(kind, number):
    bits = int(kind[1:])
    argument = Value(value=str(number), type=kind)
    if -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
        word = lowered(argument)
        assert struct.unpack(FORMATS[kind], word.bytes) == (number,)
    else:
        assert f"{number} does not fit {kind}" in refusal(argument)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_rounded_to_its_type_or_refused(number):
    where = point(eps=number)
    assert struct.unpack("<d", lowered(Value(value="eps", type="f64"), where).bytes) == (number,)
    narrow = Value(value="eps", type="f32")
    if abs(number) < 3.4e38:
        (found,) = struct.unpack("<f", lowered(narrow, where).bytes)
        assert found == pytest.approx(number, rel=2**-24, abs=2**-149)
    elif abs(number) > 3.41e38:
        assert "does not fit f32" in refusal(narrow, where)


def test_an_int_scalar_beyond_64_bits_is_refused():
    assert "does not fit i64" in refusal("groups", point(groups=2**63))


def test_a_scalar_that_is_no_whole_number_is_passed_as_it_is():
    assert lowered(Value(value=" eps ", type="f64"), point(eps=0.3)).bytes == struct.pack("<d", 0.3)


def test_divisible_is_held_to_its_word():
    argument = Value(value="N", type="i32", divisible=16)
    assert lowered(argument, point(8, 48)) == Word(bytes=struct.pack("<i", 48))
    assert ".divisible: 'N' gives 40, no multiple of 16; guard the plan" in refusal(
        argument, point(8, 40)
    )


@pytest.mark.parametrize(
    ("text", "workspace_bytes", "said"),
    [
        ("8", 64, "offset 8 is no multiple of 16"),
        ("N", 128, "offset 128 lies outside the plan's workspace of 128 bytes"),
        ("-16", 64, "offset -16 lies outside"),
        ("0", 0, "offset 0 lies outside"),
        ("N // (B - 8)", 64, "divides by zero"),
    ],
)
def test_a_slice_lies_in_the_workspace(text, workspace_bytes, said):
    assert said in refusal(Slice(workspace=text), workspace_bytes=workspace_bytes)


def test_a_slice_is_an_offset():
    assert lowered(Slice(workspace="B * 16"), workspace_bytes=129) == Scratch(offset=128)


def make_map(**changes):
    values = {"tensor": "x", "box": ("8", "64")}
    return TensorMap(**{**values, **changes})


def test_a_map_sees_leading_axes_together():
    tensor = Tensor(name="x", shape=("B", "H", "N"), dtype=DType.FLOAT16)
    words = Words(plan_problem(inputs=(tensor,)))
    argument = make_map(swizzle="128B", l2_promotion="256B")
    assert lowered(argument, point(words=words)) == Map(
        tensor="x",
        rows=8 * 64,
        columns=128,
        box=(8, 64),
        item_bytes=2,
        dtype=DType.FLOAT16,
        swizzle="128B",
        l2_promotion="256B",
    )


def test_a_map_may_name_its_rows_and_columns():
    made = lowered(make_map(rows="B * 2", columns="N // 2"))
    assert isinstance(made, Map)
    assert (made.rows, made.columns) == (16, 64)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"box": ("0", "64")}, ".box[0]: 0; 1 to 256"),
        ({"box": ("257", "64")}, ".box[0]: 257; 1 to 256"),
        ({"box": ("8", "264")}, ".box[1]: 264; 1 to 256"),
        ({"box": ("8", "4")}, ".box[1]: a box row has 8 bytes; a multiple of 16"),
        ({"swizzle": "64B"}, ".box[1]: a box row has 128 bytes; swizzle 64B takes at most 64"),
        ({"rows": "B + 1"}, ".rows: 9 x 128 elements of the 1024 that 'x' has"),
        ({"rows": "0"}, ".rows: 0 rows"),
        ({"columns": "0"}, ".columns: 0 columns"),
        ({"columns": "N - 1"}, ".columns: a row has 254 bytes; a multiple of 16"),
        ({"rows": "N // (B - 8)"}, ".rows: workload 'w': "),
        ({"box": ("N // (B - 8)", "64")}, ".box[0]: workload 'w': "),
    ],
)
def test_a_map_that_breaks_a_rule_of_the_copy_engine_is_refused(changes, said):
    assert said in refusal(make_map(**changes))


def test_a_map_of_rows_that_are_not_whole_lines_is_refused():
    assert "guard the plan, or change the map" in refusal(make_map(), point(8, 100))


@given(
    st.integers(1, 300),
    st.integers(1, 3000),
    st.integers(0, 300),
    st.integers(0, 300),
    st.sampled_from(["none", "32B", "64B", "128B"]),
)
def test_each_map_that_is_given_out_keeps_every_rule(rows, columns, box_rows, box_columns, swizzle):
    argument = make_map(box=(str(box_rows), str(box_columns)), swizzle=swizzle)
    try:
        made = lowered(argument, point(rows, columns))
    except PlanError:
        assert "arguments[3]." in refusal(argument, point(rows, columns))
        return
    assert isinstance(made, Map)
    assert made.columns * made.item_bytes % 16 == 0
    assert made.rows * made.columns <= rows * columns
    assert all(1 <= extent <= 256 for extent in made.box)
    assert made.box[1] * made.item_bytes % 16 == 0
    assert swizzle == "none" or made.box[1] * made.item_bytes <= int(swizzle[:-1])


@pytest.mark.parametrize(
    ("argument", "parameter"),
    [
        ("x", "u64"),
        ("x", "b64"),
        ("B", "s64"),
        ("groups", "u64"),
        ("eps", "f64"),
        ("workspace", "u64"),
        (Slice(workspace="0"), "u64"),
        (Value(value="B", type="i32"), "u32"),
        (Value(value="B", type="i32"), "b32"),
        (Value(value="eps", type="f32"), "f32"),
        (Value(value="eps", type="f32"), "b32"),
        (make_map(), "b8[128]"),
    ],
)
def test_an_argument_of_the_parameters_type_passes(argument, parameter):
    refuse_mismatch(SITE, "arguments[0]", argument, WORDS, parameter)


@pytest.mark.parametrize(
    ("argument", "parameter", "said"),
    [
        (
            "B",
            "u32",
            "passes 8 bytes (integer), the kernel declares this parameter as u32",
        ),
        ("eps", "f32", "8 bytes (float)"),
        ("eps", "u64", "8 bytes (float)"),
        ("groups", "f64", "8 bytes (integer)"),
        ("x", "f64", "8 bytes (pointer)"),
        ("x", "b8[128]", "8 bytes (pointer)"),
        ("workspace", "u32", "8 bytes (pointer)"),
        (Slice(workspace="0"), "u32", "8 bytes (pointer)"),
        (Value(value="B", type="i32"), "f32", "4 bytes (integer)"),
        (Value(value="B", type="i64"), "u32", "8 bytes (integer)"),
        (Value(value="eps", type="f32"), "u32", "4 bytes (float)"),
        (make_map(), "u64", "128 bytes (tensor map)"),
    ],
)
def test_an_argument_of_another_type_is_refused_with_both(argument, parameter, said):
    with pytest.raises(PlanError) as caught:
        refuse_mismatch(SITE, "arguments[0]", argument, WORDS, parameter)
    assert str(caught.value).startswith("plan 2, launch 1 ('k'), arguments[0]: ")
    assert said in str(caught.value)


def test_a_name_that_means_nothing_is_refused_here_too():
    words = Words(
        plan_problem(
            axes=(
                Axis(name="B", kind="var"),
                Axis(name="N", kind="var"),
                Axis(name="H", kind="var"),
            ),
            scalars=(Scalar(name="eps"),),
        )
    )
    assert "'absent' is no tensor" in refusal("absent", point(words=words))
