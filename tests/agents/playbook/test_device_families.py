"""On a GPU a family binds names of tensors and axes, one element type, scalars by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.errors import NothingFits
from agents.playbook.device_families import DEVICE, detect_on_device
from gpu_runner.problem import DType, Problem, Scalar
from tests.agents.builders import problem_of
from tests.agents.playbook.device import NAMES, match_of, target_of
from tests.agents.playbook.test_families import EPS, GELU, NORM

FLOATS = (DType.FLOAT16, DType.BFLOAT16, DType.FLOAT32)
QUANTISE = "def run(x):\n    top = max(abs(x), 1e-10)\n    return x / top * 127, top / 127\n"


def typed(problem: Problem, dtype: DType, *, kept: tuple[str, ...] = ()) -> Problem:
    """The problem with every float32 tensor of another type, but for those kept."""

    def turned(tensors):
        return tuple(
            t.model_copy(update={"dtype": dtype})
            if t.dtype is DType.FLOAT32 and t.name not in kept
            else t
            for t in tensors
        )

    changes = {"inputs": turned(problem.inputs), "outputs": turned(problem.outputs)}
    return problem.model_copy(update=changes)


SOFTMAX = problem_of("softmax", {"x": "B N"}, {"y": "B N"})
RMS = problem_of(
    "rmsnorm",
    {"x": "M H", "r": "M H", "w": "H"},
    {"y": "M H", "residual_out": "M H"},
    reference=NORM,
    scalars=EPS,
)
QUANT = problem_of("quantize_rows", {"x": "B M H"}, {"q": "B M H!", "s": "B M"}, reference=QUANTISE)
PRODUCT = problem_of("mm", {"x": "M K", "w": "N K", "b": "N"}, {"y": "M N"})
INT8 = problem_of(
    "qmm",
    {"p": "M K!", "q": "N K!", "scale_p": "M", "scale_q": "N", "b": "N"},
    {"y": "M N"},
)


@pytest.mark.parametrize("name", NAMES)
def test_every_target_for_a_gpu_is_bound_without_c(name):
    binding = match_of(name).binding
    assert binding["problem"] == name
    assert not any("->" in str(value) or "int64_t{" in str(value) for value in binding.values())
    known = {t.name for t in (*target_of(name).problem.inputs, *target_of(name).problem.outputs)}
    named = {binding[key] for key in ("input", "output", "a", "b", "cosines") if key in binding}
    assert named
    assert named <= known


@pytest.mark.parametrize("dtype", FLOATS)
def test_softmax_binds_names_expressions_and_types(dtype):
    ctype, size = {
        DType.FLOAT16: ("kp_fp16", 2),
        DType.BFLOAT16: ("kp_bf16", 2),
        DType.FLOAT32: ("float", 4),
    }[dtype]
    assert detect_on_device(typed(SOFTMAX, dtype)).binding == {
        "problem": "softmax",
        "input": "x",
        "output": "y",
        "rows": "B",
        "columns": "N",
        "dtype": dtype.value,
        "ctype": ctype,
        "item_bytes": size,
    }


@given(st.integers(1, 5))
def test_rows_are_the_product_of_every_leading_axis(rank):
    axes = [f"A{i}" for i in range(rank)]
    shape = " ".join(axes)
    match = detect_on_device(problem_of("softmax", {"x": shape}, {"y": shape}))
    assert match.binding["rows"] == (" * ".join(axes[:-1]) or "1")
    assert match.binding["columns"] == axes[-1]


def test_an_epsilon_is_a_scalar_of_the_plan_or_a_number_of_the_source():
    binding = detect_on_device(RMS).binding
    assert (binding["eps"], binding["eps_value"]) == ("eps", "")
    changes = {"scalars": (), "reference": NORM.replace(", eps", "").replace("* w", "* w + 1e-6")}
    binding = detect_on_device(RMS.model_copy(update=changes)).binding
    assert (binding["eps"], binding["eps_value"]) == ("", "1e-06")


def test_a_residual_and_its_sum_are_named():
    binding = detect_on_device(typed(RMS, DType.BFLOAT16)).binding
    assert (binding["input"], binding["residual"], binding["weight"]) == ("x", "r", "w")
    assert (binding["output"], binding["residual_out"]) == ("y", "residual_out")


@pytest.mark.parametrize("kept", ["x", "r", "w", "y", "residual_out"])
def test_mixed_element_types_are_left_with_their_names(kept):
    with pytest.raises(NothingFits, match=rf"one element type, but .*{kept} is float32"):
        detect_on_device(typed(RMS, DType.BFLOAT16, kept=(kept,)))


def test_quantising_by_rows_binds_integers_and_scales_in_either_order():
    for outputs in (QUANT.outputs, QUANT.outputs[::-1]):
        found = detect_on_device(QUANT.model_copy(update={"outputs": outputs}))
        assert found.family == "quantize"
        assert (found.binding["output"], found.binding["scale"]) == ("q", "s")
        assert (found.binding["rows"], found.binding["columns"]) == ("B * M", "H")
        assert found.binding["least"] == "1e-10"


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "scale_rows"},
        {"reference": QUANTISE.replace("127", "448")},
        {"reference": QUANTISE.replace("1e-10", "1")},
        {"scalars": (Scalar(name="s0"),)},
        {"outputs": QUANT.outputs[:1]},
    ],
)
def test_what_is_no_quantising_by_rows_is_left(changes):
    with pytest.raises(NothingFits, match="no recipe covers"):
        detect_on_device(QUANT.model_copy(update=changes))


@pytest.mark.parametrize("place", [0, 1])
def test_quantised_outputs_of_other_types_are_left(place):
    outputs = list(QUANT.outputs)
    outputs[place] = outputs[place].model_copy(update={"dtype": DType.BFLOAT16})
    with pytest.raises(NothingFits, match="no recipe covers"):
        detect_on_device(QUANT.model_copy(update={"outputs": tuple(outputs)}))


@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.BFLOAT16])
def test_a_product_binds_both_factors_and_the_type_of_its_answer(dtype):
    binding = detect_on_device(typed(PRODUCT, dtype)).binding
    assert binding == {
        "problem": "mm",
        "a": "x",
        "b": "w",
        "bias": "b",
        "output": "y",
        "m": "M",
        "n": "N",
        "k": "K",
        "activation": "none",
        "dtype": dtype.value,
        "ctype": {"float16": "kp_fp16", "bfloat16": "kp_bf16"}[dtype.value],
        "item_bytes": 2,
        "out_dtype": dtype.value,
        "out_ctype": {"float16": "kp_fp16", "bfloat16": "kp_bf16"}[dtype.value],
        "out_item_bytes": 2,
    }


def test_an_int8_product_binds_its_scales_and_another_type_of_answer():
    problem = typed(INT8, DType.FLOAT16, kept=("scale_p", "scale_q"))
    match = detect_on_device(problem)
    assert match.family == "int8_gemm"
    binding = match.binding
    assert (binding["a"], binding["b"], binding["output"], binding["bias"]) == ("p", "q", "y", "b")
    assert (binding["scale_a"], binding["scale_b"]) == ("scale_p", "scale_q")
    assert (binding["dtype"], binding["ctype"]) == ("int8", "int8_t")
    assert (binding["out_dtype"], binding["out_ctype"]) == ("float16", "kp_fp16")


@pytest.mark.parametrize(
    "problem",
    [
        PRODUCT,
        typed(problem_of("mm", {"x": "M K", "w": "K N"}, {"y": "M N"}), DType.BFLOAT16),
        typed(problem_of("sigmoid_mm", {"x": "M K", "w": "N K"}, {"y": "M N"}), DType.BFLOAT16),
        typed(INT8, DType.FLOAT16),
        INT8,
    ],
    ids=["float32", "other layout", "sigmoid", "half scales", "float32 answer"],
)
def test_products_beyond_the_recipes_are_left_with_a_reason(problem):
    with pytest.raises(NothingFits, match=r"device recipes of .* take a"):
        detect_on_device(problem)


def test_a_bias_of_another_type_than_the_answer_is_left():
    with pytest.raises(NothingFits, match="y is float16, b is float32"):
        detect_on_device(typed(PRODUCT, DType.FLOAT16, kept=("b",)))


def test_the_erf_form_of_gelu_has_recipes_on_a_gpu():
    erf = "from math import erf\ndef run(x):\n    return x * erf(x)\n"
    problem = problem_of("gelu", {"x": "B N"}, {"y": "B N"}, reference=erf)
    assert detect_on_device(problem).binding["activation"] == "gelu"
    tanh = problem.model_copy(update={"reference": GELU})
    assert detect_on_device(tanh).binding["activation"] == "gelu_tanh"


def test_integers_are_no_numbers_to_normalise():
    assert not {DType.INT8, DType.INT32, DType.BOOL} & DEVICE.floats
    with pytest.raises(NothingFits, match="no recipe covers"):
        detect_on_device(typed(SOFTMAX, DType.INT32))
