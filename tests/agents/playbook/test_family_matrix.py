"""What each family takes and what it leaves, one property of a problem at a time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.errors import NothingFits
from agents.playbook.families import Shape, detect
from gpu_runner.problem import DType, Problem, Scalar
from tests.agents.builders import problem_of
from tests.agents.playbook.test_families import EPS, NORM

FULL, VECTOR = "M H", "H"


def family_of(problem: Problem) -> str | None:
    try:
        return detect(problem).family
    except NothingFits:
        return None


def norm(name: str, inputs: dict[str, str], outputs: dict[str, str], **changes) -> Problem:
    values = {"reference": NORM, "scalars": EPS, **changes}
    return problem_of(name, inputs, outputs, **values)


def rope(**changes) -> Problem:
    values = {
        "inputs": {"q": "M H D", "cos": "M R", "sin": "M R"},
        "outputs": {"o": "M H D"},
        "expressions": {"D": "2 * R"},
        **changes,
    }
    return problem_of("rope", **values)


def quantised(**changes) -> Problem:
    inputs = {"a": "M K!", "b": "N K!", "scale_a": "M", "scale_b": "N", **changes}
    return problem_of("qmm", {k: v for k, v in inputs.items() if v}, {"y": "M N"})


X, Y = {"x": FULL}, {"y": FULL}
XW = {**X, "w": VECTOR}
CASES = {
    "rms with its weight": (norm("rmsnorm", XW, Y), "rmsnorm"),
    "rms without a weight": (norm("rmsnorm", X, Y), None),
    "rms with two weights": (norm("rmsnorm", {**XW, "v": VECTOR}, Y), None),
    "rms with two residuals": (norm("rmsnorm", {**XW, "r": FULL, "s": FULL}, Y), None),
    "rms with a sum but no residual": (norm("rmsnorm", XW, {**Y, "sum": FULL}), None),
    "rms with a residual and no sum": (norm("rmsnorm", {**XW, "r": FULL}, Y), "rmsnorm"),
    "rms with two normal outputs": (norm("rmsnorm", {**XW, "r": FULL}, {**Y, "z": FULL}), None),
    "rms without an epsilon": (norm("rmsnorm", XW, Y, scalars=()), None),
    "rms with two epsilons": (
        norm("rmsnorm", XW, Y, scalars=(), reference=f"{NORM}    return 1e-5, 1e-6\n"),
        None,
    ),
    "rms that adds one to the weight behind": (
        norm("rmsnorm", XW, Y, reference=NORM.replace("* w", "* (w + 1)")),
        None,
    ),
    "rms that adds ten": (
        norm("rmsnorm", XW, Y, reference=NORM.replace("* w", "* (10 + v)")),
        "rmsnorm",
    ),
    "a norm of one axis": (norm("rmsnorm", {"x": "H", "w": "H"}, {"y": "H"}), None),
    "a norm told by its root": (norm("my_norm", XW, Y), "rmsnorm"),
    "layernorm plain": (norm("layernorm", X, Y), "layernorm"),
    "layernorm with weight and bias": (norm("layer_norm", {**XW, "beta": VECTOR}, Y), "layernorm"),
    "layernorm with two biases": (
        norm("layernorm", {**X, "b_bias": VECTOR, "beta": VECTOR}, Y),
        None,
    ),
    "layernorm with a residual": (norm("layernorm", {**XW, "r": FULL}, Y), None),
    "layernorm of two outputs": (norm("layernorm", XW, {**Y, "mean_of": FULL}), None),
    "layernorm with a weight of bytes": (norm("layernorm", {**X, "w": "H!"}, Y), None),
    "softmax with a temperature": (
        problem_of("softmax", {"x": "B N"}, {"y": "B N"}, scalars=(Scalar(name="t"),)),
        None,
    ),
    "softmax with a mask": (problem_of("softmax", {"x": "B N", "m": "B N"}, {"y": "B N"}), None),
    "softmax turned": (problem_of("softmax", {"x": "B N"}, {"y": "N B"}), None),
    "softmax of a number": (problem_of("softmax", {"x": ""}, {"y": ""}), None),
    "softmax of bytes": (problem_of("softmax", {"x": "B N!"}, {"y": "B N"}), None),
    "a gate of the same width is pointwise": (
        problem_of("silu_and_mul", {"x": "M D"}, {"y": "M D"}),
        "elementwise",
    ),
    "a gate three times as wide": (
        problem_of("swiglu", {"x": "M H"}, {"y": "M D"}, expressions={"H": "3 * D"}),
        None,
    ),
    "a gate over other rows": (
        problem_of("swiglu", {"x": "L H"}, {"y": "M D"}, expressions={"H": "2 * D"}),
        None,
    ),
    "an axis that cannot be computed": (
        problem_of("swiglu", {"x": "M H"}, {"y": "M D"}, expressions={"H": "D // (M - M)"}),
        None,
    ),
    "relu6": (problem_of("relu6", {"x": "B N"}, {"y": "B N"}), None),
    "hard swish": (problem_of("hardswish", {"x": "B N"}, {"y": "B N"}), None),
    "silu of a number": (problem_of("silu", {"x": ""}, {"y": ""}), "elementwise"),
    "a product with a scalar": (
        problem_of("mm", {"x": "M K", "w": "N K"}, {"y": "M N"}, scalars=(Scalar(name="alpha"),)),
        None,
    ),
    "a product with two biases": (
        problem_of("mm", {"x": "M K", "w": "N K", "b": "N", "c": "N"}, {"y": "M N"}),
        None,
    ),
    "a product with a bias by row": (
        problem_of("mm", {"x": "M K", "w": "N K", "b": "M"}, {"y": "M N"}),
        None,
    ),
    "a product of mixed types": (
        problem_of("mm", {"x": "M K!", "w": "N K"}, {"y": "M N"}),
        None,
    ),
    "a batched product": (problem_of("bmm", {"x": "B M K", "w": "B K N"}, {"y": "B M N"}), None),
    "an int8 product": (quantised(), "int8_gemm"),
    "an int8 product with bias": (quantised(bias="N"), "int8_gemm"),
    "an int8 product of the other layout": (quantised(b="K N!"), None),
    "an int8 product without a scale by row": (quantised(scale_a=""), None),
    "an int8 product with a third scale": (quantised(scale_c="N"), None),
    "an int8 product with a bias of bytes": (quantised(bias="N!"), None),
    "rope": (rope(), "rope"),
    "rope without sines": (rope(inputs={"q": "M H D", "cos": "M R"}), None),
    "rope of whole angles": (rope(expressions={"R": "D"}), None),
    "rope with heads behind": (rope(inputs={"q": "H M D", "cos": "M R", "sin": "M R"}), None),
    "rope with another output": (rope(outputs={"o": "M H D", "p": "M H D"}), None),
}


@pytest.mark.parametrize("name", CASES)
def test_a_problem_is_taken_or_left(name):
    problem, family = CASES[name]
    assert family_of(problem) == family


LETTERS = st.text("abcdefgh", min_size=3, max_size=6)


@settings(max_examples=40, deadline=None)
@given(st.lists(LETTERS, min_size=5, max_size=5, unique=True))
def test_names_of_tensors_and_axes_change_no_family(names):
    m, n, k, x, w = names
    axes = (m.upper(), n.upper(), k.upper())
    problem = problem_of(
        "mm",
        {f"{x}_": f"{axes[0]} {axes[2]}", f"{w}_": f"{axes[1]} {axes[2]}"},
        {"out": f"{axes[0]} {axes[1]}"},
    )
    match = detect(problem)
    assert match.family == "gemm"
    assert (match.binding["m"], match.binding["x"]) == (f"a->{axes[0]}", f"{x}_")


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(0, 3), st.booleans())
def test_twice_is_known_from_any_expression_that_always_is(offset, extra, is_right):
    text = f"2 * D + {offset} - {offset}" if is_right else f"2 * D + {extra + 1}"
    shape = Shape(problem_of("p", {"x": "M H"}, {"y": "M D"}, expressions={"H": text}))
    assert shape.is_twice("H", "D") is is_right
    assert not shape.is_twice("D", "H")


@pytest.mark.parametrize(
    ("reference", "scalars", "found"),
    [
        ("def run(x): return x + 1e-06", (), "1e-06"),
        ("def run(x): return x + 1e-06 * 1e-06", (), "1e-06"),
        ("def run(x): return x + 1e-06 * 1e-05", (), None),
        ("def run(x): return x + 0.5", (), None),
        ("def run(x): return x + 0.01", (), None),
        ("def run(x): return x - 0.0", (), None),
        ("def run(x, my_eps): return x + 1e-3", (Scalar(name="my_eps"),), "a->my_eps"),
        ("def run(x, EPSILON): return x", (Scalar(name="EPSILON"),), "a->EPSILON"),
        ("def run(x, t): return x", (Scalar(name="t"),), None),
        ("def run(x:", (), None),
    ],
)
def test_an_epsilon_is_an_argument_or_the_one_small_number(reference, scalars, found):
    problem = problem_of("p", {"x": "M"}, {"y": "M"}, reference=reference, scalars=scalars)
    assert Shape(problem).scalar_or_literal("eps") == found


@pytest.mark.parametrize("name", ["rms", "layernorm", "softmax", "silu", "mm", "rope", "swiglu"])
@pytest.mark.parametrize("dtype", [DType.BFLOAT16, DType.INT32, DType.BOOL])
def test_one_tensor_of_another_type_is_enough_to_be_left(name, dtype):
    taken = {
        "rms": norm("rmsnorm", XW, Y),
        "layernorm": norm("layernorm", XW, Y),
        "softmax": problem_of("softmax", {"x": "B N"}, {"y": "B N"}),
        "silu": problem_of("silu", {"x": "B N"}, {"y": "B N"}),
        "mm": problem_of("mm", {"x": "M K", "w": "N K", "b": "N"}, {"y": "M N"}),
        "rope": rope(),
        "swiglu": problem_of("swiglu", {"x": "M H"}, {"y": "M D"}, expressions={"H": "2 * D"}),
    }[name]
    assert family_of(taken) is not None
    for group in ("inputs", "outputs"):
        tensors = getattr(taken, group)
        for place, tensor in enumerate(tensors):
            odd = tensor.model_copy(update={"dtype": dtype})
            changed = (*tensors[:place], odd, *tensors[place + 1 :])
            assert family_of(taken.model_copy(update={group: changed})) is None, tensor.name
