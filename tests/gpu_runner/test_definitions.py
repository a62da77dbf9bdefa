import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.definitions import (
    parse_definition,
    parse_workload,
)
from gpu_runner.problem import Axis, DType, Problem, ProfileName, Scalar, Tensor
from tests.gpu_runner.published import (
    RMSNORM,
    SPLIT_HEADS,
    TRACE,
    answer,
    changed,
    complaint,
    rmsnorm,
)

# Definitions -------------------------------------------------------------------------------------


def test_a_published_definition_becomes_a_problem():
    problem = rmsnorm()
    assert problem.name == "rmsnorm_h8"
    assert problem.description == "Root mean square normalisation."
    assert problem.axes == (
        Axis(name="batch_size", kind="var"),
        Axis(name="hidden_size", kind="const", value=8),
    )
    assert problem.inputs == (
        Tensor(name="hidden_states", shape=("batch_size", "hidden_size"), dtype=DType.FLOAT32),
        Tensor(name="weight", shape=("hidden_size",), dtype=DType.FLOAT32, description="Gain."),
    )
    assert problem.scalars == (Scalar(name="eps", kind="float"),)
    assert problem.outputs[0].name == "output"
    assert problem.constraints == ("batch_size >= 1",)
    assert problem.array_type == "torch"


def test_a_reference_with_a_scalar_in_the_middle_is_called_in_its_own_order():
    problem = rmsnorm()
    workload = parse_workload(TRACE, problem, source="w")
    inputs, outputs = answer(problem, workload)
    x = inputs["hidden_states"].astype(np.float64)
    right = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * inputs["weight"]
    np.testing.assert_allclose(outputs["output"], right, rtol=1e-12)


def test_a_reference_in_our_order_is_kept_as_it_is():
    definition = changed("inputs", dict(sorted(RMSNORM["inputs"].items(), key=lambda i: i[0])))
    definition["inputs"] = {
        name: definition["inputs"][name] for name in ("hidden_states", "weight", "eps")
    }
    definition["reference"] = "def run(hidden_states, weight, eps):\n    return hidden_states\n"
    assert parse_definition(definition, source="k").reference == definition["reference"]


def test_an_expr_axis_follows_the_others_and_division_becomes_whole():
    problem = parse_definition(SPLIT_HEADS, source="k")
    assert problem.axes[-1] == Axis(name="E", kind="expr", expression="D // H")
    workload = parse_workload({"uuid": "u", "axes": {"B": 2, "S": 3}}, problem, source="w")
    assert problem.sizes(workload) == {"B": 2, "S": 3, "D": 16, "H": 4, "E": 4}
    inputs, outputs = answer(problem, workload)
    right = inputs["x"].astype(np.float64).reshape(2, 3, 4, 4).transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(outputs["y"], right)


@pytest.mark.parametrize("size", ["8", 8])
def test_a_literal_size_becomes_a_const_axis(size):
    definition = changed("inputs.weight.shape", [size])
    problem = parse_definition(definition, source="k")
    assert problem.axes[-1] == Axis(name="size_8", kind="const", value=8)
    assert problem.inputs[1].shape == ("size_8",)


def test_equal_literal_sizes_share_an_axis():
    definition = changed("inputs.weight.shape", [8, 8])
    definition["outputs"] = {"output": {"shape": ["8", "16"], "dtype": "float32"}}
    problem = parse_definition(definition, source="k")
    assert [a.name for a in problem.axes[2:]] == ["size_8", "size_16"]


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [("float32", "float"), ("bfloat16", "float"), ("int32", "int"), ("bool", "int")],
)
def test_an_input_without_shape_is_a_scalar_of_its_kind(dtype, kind):
    problem = parse_definition(changed("inputs.eps.dtype", dtype), source="k")
    assert problem.scalars == (Scalar(name="eps", kind=kind),)


def test_a_scalar_may_have_a_default():
    problem = parse_definition(changed("inputs.eps.default", 1e-5), source="k")
    assert problem.scalars[0].default == 1e-5


def test_an_output_without_shape_is_a_tensor_without_axes():
    definition = changed("outputs", {"total": {"shape": None, "dtype": "float32"}})
    definition["reference"] = (
        "def run(hidden_states, eps, weight):\n    return (hidden_states * weight).sum().item()\n"
    )
    problem = parse_definition(definition, source="k")
    assert problem.outputs[0].shape == ()
    inputs, outputs = answer(problem, parse_workload(TRACE, problem, source="w"))
    total = (inputs["hidden_states"].astype(np.float64) * inputs["weight"]).sum()
    assert outputs["total"] == pytest.approx(total)


def test_names_with_dots_and_dashes_become_identifiers():
    problem = parse_definition(changed("name", "gemm-n.4096/k=8"), source="k")
    assert problem.name == "gemm_n_4096_k_8"


def test_long_names_are_cut():
    assert len(parse_definition(changed("name", "x" * 100), source="k").name) == 64


def test_our_own_additions_pass_through():
    extra = {
        "array_type": "numpy",
        "tolerance": {"relative_units": 8, "absolute": 1e-6},
        "rules": [{"input": "weight", "role": "parameter", "low": 0.5, "high": 1.5}],
        "profiles": ["normal", "large"],
        "library_ops": ["aten::rms_norm"],
        "flops": "4 * batch_size * hidden_size",
    }
    problem = rmsnorm(**extra)
    assert problem.array_type == "numpy"
    assert problem.tolerance.relative_units == 8
    assert problem.rules[0].role == "parameter"
    assert problem.profiles == (ProfileName.NORMAL, ProfileName.LARGE)
    assert problem.library_ops == ("aten::rms_norm",)
    assert problem.flops == "4 * batch_size * hidden_size"


def test_empty_optional_fields_are_as_good_as_none():
    problem = rmsnorm(constraints=None, description=None, custom_inputs_entrypoint=None, tags=None)
    assert problem.constraints == ()
    assert problem.description == ""


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("hidden_size % 2 == 0", "hidden_size % 2 == 0"),
        ("batch_size == hidden_size / 2", "batch_size == hidden_size // 2"),
        ("hidden_size ** 2 > 4", "hidden_size * hidden_size > 4"),
        ("+hidden_size > 4", "hidden_size > 4"),
    ],
)
def test_constraints_are_whole_number_arithmetic(given, text):
    assert rmsnorm(constraints=[given]).constraints == (text,)


@settings(deadline=None, max_examples=50)
@given(
    height=st.integers(1, 64),
    width=st.integers(1, 64),
    batch=st.integers(0, 8),
)
def test_any_sizes_survive_the_way_through_text(height, width, batch):
    definition = {
        "name": "add",
        "axes": {
            "B": {"type": "var"},
            "H": {"type": "const", "value": height},
            "A": {"type": "expr", "expression": f"H * {width}"},
        },
        "inputs": {"x": {"shape": ["B", "A", str(width)], "dtype": "int32"}},
        "outputs": {"y": {"shape": ["B", "A", width], "dtype": "int32"}},
        "reference": "def run(x):\n    return x + 1\n",
    }
    problem = parse_definition(json.loads(json.dumps(definition)), source="k")
    workload = parse_workload({"axes": {"B": batch}}, problem, source="w")
    assert problem.shape(problem.inputs[0], workload) == (batch, height * width, width)
    assert Problem.model_validate_json(problem.model_dump_json()) == problem


# Complaints about definitions --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("inptus", {}, "k.json: inptus is not a known key; did you mean 'inputs'?"),
        ("reference", ..., "k.json: reference is missing; keys given: axes, constraints"),
        ("axes", [], "k.json: axes must be an object {name: ...}, not list"),
        ("axes.hidden_size.type", "constant", "axes.hidden_size.type is 'constant', not const"),
        ("axes.hidden_size.type", "constant", "did you mean 'const'?"),
        ("axes.hidden_size.valeu", 3, "axes.hidden_size.valeu is not a known key; did you mean"),
        ("axes.hidden_size.value", ..., "axes.hidden_size: the definition: axis 'hidden_size' of"),
        ("axes.hidden_size.value", -4, "axes.hidden_size: value: Input should be greater"),
        ("axes.hidden_size.value", "many", "axes.hidden_size: value: Input should be a valid"),
        ("axes.bad-name", {"type": "var"}, "axes.bad-name: name: String should match"),
        (
            "axes.half",
            {"type": "expr", "expression": "hidden_size //"},
            "axes.half.expression cannot be read",
        ),
        (
            "axes.half",
            {"type": "expr", "expression": "hidden_size ** batch_size"},
            "'hidden_size ** batch_size' has a power that is no number up to 4",
        ),
        ("axes.half", {"type": "expr", "expression": 3}, "must be text, an expression over axes"),
        ("inputs", {}, "but the inputs are []; make them agree"),
        ("outputs", {}, "k.json: outputs: Tuple should have at least 1 item"),
        ("inputs.weight", [8], "inputs.weight must be an object {name: ...}, not list"),
        ("inputs.weight.dtype", ..., "inputs.weight.dtype is missing; keys given: description"),
        ("inputs.weight.shpae", [], "inputs.weight.shpae is not a known key; did you mean 'shape'"),
        ("inputs.weight.dtype", "float23", "inputs.weight.dtype 'float23' is not supported; did"),
        ("inputs.weight.dtype", "float8_e4m3fn", "'float8_e4m3fn' is not supported"),
        ("inputs.weight.shape", "hidden_size", "must be a list of axis names, or null"),
        (
            "inputs.weight.shape",
            ["hiden_size"],
            "inputs.weight.shape uses the unknown axis 'hiden_size'; did you mean 'hidden_size'?",
        ),
        (
            "inputs.weight.shape",
            ["2 * hidden_size_of_all"],
            "define it under axes (as expr for a formula)",
        ),
        ("outputs.weight", {"shape": [], "dtype": "int8"}, "uses the name 'weight' more than once"),
        ("constraints", ["hidden_size <"], "constraints[0] cannot be read"),
        (
            "constraints",
            ["batch_size == indptr[-1].item()"],
            "is about contents, which are drawn anew for every call",
        ),
        ("constraints", ["hiden > 1"], "uses the unknown axis 'hiden'"),
        ("reference", 7, "reference must be Python source, not int"),
        ("reference", "def run(x:\n  pass", "reference, line 1:"),
        ("reference", "def forward(x): ...", "no top-level function run (functions: forward)"),
        ("reference", "def rnu(x): ...", "did you mean 'rnu'?"),
        ("reference", "def run(x): ...", "run takes ['x'], but the inputs are ['hidden_states'"),
        ("custom_inputs_entrypoint", "make", "contents are drawn by the harness, new for every"),
        ("name", "9lives", "name is '9lives'; a name starts with a letter"),
        ("name", "", "name is ''; a name starts with a letter"),
        ("profiles", ["norml"], "k.json: profiles.0: Input should be"),
        ("tolerance", {"relativ": 1}, "k.json: tolerance.relativ: Extra inputs are not permitted"),
        ("array_type", "jax", "k.json: array_type: Input should be 'numpy' or 'torch'"),
    ],
)
def test_a_malformed_definition_is_explained(path, value, words):
    assert words in complaint(changed(path, value))


@pytest.mark.parametrize("definition", [None, [], "text", 7, {1: 2}])
def test_a_definition_must_be_an_object(definition):
    assert complaint(definition).startswith("k.json must be an object {name: ...}, not ")


@pytest.mark.parametrize(
    "parameters", ["hidden_states, eps, weight, extra=1", "*everything", "a, /, b, c"]
)
def test_parameters_that_fit_are_accepted(parameters):
    reference = f"def run({parameters}):\n    pass\n"
    assert "def run(hidden_states, weight, eps)" in rmsnorm(reference=reference).reference
