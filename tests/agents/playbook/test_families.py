"""A family is recognised by structure and name, and what is none is refused with a remedy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.errors import NothingFits
from agents.playbook.families import CPP, detect
from gpu_runner.problem import Axis, DType, Scalar, Tensor
from graph.targets import load_target
from tests.agents.builders import problem_of
from tests.agents.playbook.device import ON_CPU
from tests.builders import make_problem

NORM = "import numpy as np\ndef run(x, w, eps):\n    return x / np.sqrt((x * x).mean(-1)) * w\n"
GELU = "import numpy as np\ndef run(x):\n    return x * np.tanh(x + 0.044715 * x**3)\n"
EPS = (Scalar(name="eps"),)


@pytest.mark.parametrize("name", ON_CPU)
def test_every_target_belongs_to_a_family(name):
    families = {
        "softmax": "softmax",
        "rmsnorm": "rmsnorm",
        "layernorm": "layernorm",
        "silu_and_mul": "gated",
        "gelu_tanh": "elementwise",
        "gemm_bias_act": "gemm",
        "rope": "rope",
        "int8_scaled_mm": "int8_gemm",
    }
    match = detect(load_target(name).problem)
    assert match.family == families.get(name, match.family)
    assert match.binding["problem"] == name


def test_softmax_binds_rows_and_columns():
    assert detect(make_problem()).binding == {
        "problem": "softmax",
        "rows": "a->B",
        "columns": "a->N",
        "x": "x",
        "y": "y",
    }


def test_softmax_is_known_by_what_it_does_when_it_is_called_otherwise():
    assert detect(make_problem(name="attention_scores")).family == "softmax"


@given(st.integers(1, 5))
def test_rows_are_the_product_of_every_leading_axis(rank):
    axes = [f"A{i}" for i in range(rank)]
    shape = " ".join(axes)
    match = detect(problem_of("softmax", {"x": shape}, {"y": shape}))
    assert match.binding["rows"] == (" * ".join(f"a->{a}" for a in axes[:-1]) or "int64_t{1}")
    assert match.binding["columns"] == f"a->{axes[-1]}"


def test_an_empty_product_is_one():
    assert CPP.product(()) == "int64_t{1}"


def test_rmsnorm_without_a_residual():
    problem = problem_of(
        "rmsnorm", {"x": "M H", "w": "H"}, {"y": "M H"}, reference=NORM, scalars=EPS
    )
    binding = detect(problem).binding
    assert (binding["residual"], binding["residual_out"]) == ("", "")
    assert (binding["weight"], binding["eps"]) == ("w", "a->eps")


def test_the_sum_is_told_from_the_normalised_output_in_either_order():
    inputs = {"x": "M H", "r": "M H", "w": "H"}
    for outputs in ({"y": "M H", "residual_out": "M H"}, {"residual_out": "M H", "y": "M H"}):
        problem = problem_of("add_rmsnorm", inputs, outputs, reference=NORM, scalars=EPS)
        binding = detect(problem).binding
        assert (binding["y"], binding["residual_out"]) == ("y", "residual_out")


def test_an_epsilon_in_the_reference_is_found():
    reference = NORM.replace(", eps)", ")").replace(".mean(-1)", ".mean(-1) + 1e-05")
    problem = problem_of("rmsnorm", {"x": "M H", "w": "H"}, {"y": "M H"}, reference=reference)
    assert detect(problem).binding["eps"] == "1e-05"


def test_layernorm_may_lack_weight_or_bias():
    problem = problem_of(
        "layer_norm", {"x": "M H", "shift": "H"}, {"y": "M H"}, reference=NORM, scalars=EPS
    )
    binding = detect(problem).binding
    assert (binding["weight"], binding["bias"]) == ("", "shift")


@pytest.mark.parametrize(
    ("expressions", "inputs"),
    [({"H": "2 * D"}, {"x": "M H"}), ({"D": "H // 2"}, {"x": "M H"})],
)
def test_a_gate_is_twice_as_wide_however_it_is_written(expressions, inputs):
    problem = problem_of("swiglu", inputs, {"y": "M D"}, expressions=expressions)
    match = detect(problem)
    assert (match.family, match.binding["activation"]) == ("gated", "silu")


@pytest.mark.parametrize(
    ("name", "reference", "activation"),
    [
        ("gelu", GELU, "gelu_tanh"),
        ("silu", "def run(x): return x", "silu"),
        ("relu", "def run(x): return x", "relu"),
        ("sigmoid", "def run(x): return x", "sigmoid"),
    ],
)
def test_elementwise_activations(name, reference, activation):
    problem = problem_of(name, {"x": "A B C"}, {"y": "A B C"}, reference=reference)
    match = detect(problem)
    assert match.family == "elementwise"
    assert match.binding["activation"] == activation
    assert match.binding["elements"] == "a->A * a->B * a->C"


@pytest.mark.parametrize(
    ("body", "activation"),
    [("x @ w.T", "identity"), ("np.maximum(x @ w.T, 0)", "relu"), ("gelu(x @ w.T)", None)],
)
def test_a_product_tells_its_activation_by_its_reference(body, activation):
    problem = problem_of(
        "linear", {"x": "M K", "w": "N K"}, {"y": "M N"}, reference=f"def run(x, w): return {body}"
    )
    if activation is None:
        with pytest.raises(NothingFits):
            detect(problem)
        return
    assert detect(problem).binding["activation"] == activation


@pytest.mark.parametrize(
    ("inputs", "layout", "x"),
    [
        ({"x": "M K", "w": "N K"}, "nk", "x"),
        ({"x": "M K", "w": "K N"}, "kn", "x"),
        ({"w": "N K", "x": "M K"}, "nk", "x"),
    ],
)
def test_a_product_is_bound_by_its_axes_not_by_its_names(inputs, layout, x):
    binding = detect(problem_of("mm", inputs, {"y": "M N"}, reference="def run(): ...")).binding
    assert (binding["layout"], binding["x"]) == (layout, x)
    assert (binding["m"], binding["n"], binding["k"]) == ("a->M", "a->N", "a->K")


def test_scales_are_told_apart_by_their_axes():
    problem = problem_of(
        "qmm",
        {"b": "N K!", "a": "M K!", "scale_of_b": "N", "scale_of_a": "M"},
        {"y": "M N"},
    )
    binding = detect(problem).binding
    assert (binding["x"], binding["w"], binding["bias"]) == ("a", "b", "")
    assert (binding["row_scale"], binding["column_scale"]) == ("scale_of_a", "scale_of_b")


REFUSED = {
    "log of softmax": problem_of("log_softmax", {"x": "B N"}, {"y": "B N"}),
    "erf form of gelu": problem_of(
        "gelu", {"x": "B N"}, {"y": "B N"}, reference="def run(x): return x * erf(x)"
    ),
    "leaky relu": problem_of("leaky_relu", {"x": "B N"}, {"y": "B N"}),
    "elu": problem_of("elu", {"x": "B N"}, {"y": "B N"}),
    "gate of another width": problem_of("silu_and_mul", {"x": "M H"}, {"y": "M D"}),
    "factor 1 + weight": problem_of(
        "rmsnorm",
        {"x": "M H", "w": "H"},
        {"y": "M H"},
        reference=NORM.replace("* w", "* (1 + w)"),
        scalars=EPS,
    ),
    "interleaved pairs": problem_of(
        "rope",
        {"q": "M H D", "cos": "M R", "sin": "M R"},
        {"o": "M H D"},
        expressions={"D": "2 * R"},
        reference="def run(q, cos, sin): return q[..., ::2] * cos",
    ),
    "heads given back as bytes": problem_of(
        "rope",
        {"q": "M H D", "cos": "M R", "sin": "M R"},
        {"o": "M H D!"},
        expressions={"D": "2 * R"},
    ),
    "square": problem_of("mm", {"x": "N N", "w": "N N"}, {"y": "N N"}),
    "three matrices": problem_of("mm", {"x": "M K", "v": "K N", "w": "K N"}, {"y": "M N"}),
    "scan": problem_of("prefix_sum", {"x": "B N"}, {"y": "B N"}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_recipe_covers_is_refused(name):
    problem = REFUSED[name]
    with pytest.raises(NothingFits) as caught:
        detect(problem)
    message = str(caught.value)
    assert message.startswith(f"problem {problem.name!r}: no recipe covers ")
    assert "--team" in message
    assert "agents/recipes/" in message


@pytest.mark.parametrize("dtype", [DType.BFLOAT16, DType.FLOAT16, DType.FLOAT64])
def test_other_types_are_refused_by_name(dtype):
    tensors = [Tensor(name=n, shape=("B", "N"), dtype=dtype) for n in "xy"]
    with pytest.raises(NothingFits, match=rf"x\[B, N\] {dtype.value}"):
        detect(make_problem(inputs=tensors[:1], outputs=tensors[1:]))


def test_a_reference_that_is_no_python_is_left_to_admission():
    assert detect(make_problem(reference="def run(x:")).family == "softmax"


def test_const_axes_count_with_their_value():
    axes = (Axis(name="M", kind="var"), Axis(name="D", kind="const", value=8))
    x = Tensor(name="x", shape=("M", "H"), dtype=DType.FLOAT32)
    y = Tensor(name="y", shape=("M", "D"), dtype=DType.FLOAT32)
    for size, fits in ((16, True), (17, False)):
        wide = Axis(name="H", kind="const", value=size)
        values = {"name": "silu_and_mul", "axes": (*axes, wide), "inputs": (x,), "outputs": (y,)}
        problem = make_problem(**values, flops="0")
        if fits:
            assert detect(problem).family == "gated"
        else:
            with pytest.raises(NothingFits):
                detect(problem)
