import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.definitions import (
    load_problem,
    load_workloads,
    parse_definition,
    parse_workload,
)
from gpu_runner.errors import DefinitionError
from gpu_runner.oracle.contents import Contents
from gpu_runner.oracle.elements import numpy_dtype
from gpu_runner.oracle.reference import Oracle
from gpu_runner.problem import Axis, DType, Problem, ProfileName, Scalar, Tensor, Workload

RMSNORM: dict[str, Any] = {
    "name": "rmsnorm_h8",
    "op_type": "rmsnorm",
    "description": "Root mean square normalisation.",
    "tags": ["status:verified", "model:some_model"],
    "axes": {
        "batch_size": {"type": "var", "description": "Tokens."},
        "hidden_size": {"type": "const", "value": 8},
    },
    "inputs": {
        "hidden_states": {"shape": ["batch_size", "hidden_size"], "dtype": "float32"},
        "eps": {"shape": None, "dtype": "float32", "description": "Keeps from dividing by zero."},
        "weight": {"shape": ["hidden_size"], "dtype": "float32", "description": "Gain."},
    },
    "outputs": {"output": {"shape": ["batch_size", "hidden_size"], "dtype": "float32"}},
    "constraints": ["batch_size >= 1"],
    "reference": (
        "import torch\n\n\ndef run(hidden_states, eps, weight):\n"
        "    x = hidden_states\n"
        "    scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)\n"
        "    return x * scale * weight\n"
    ),
}
TRACE: dict[str, Any] = {
    "definition": "rmsnorm_h8",
    "workload": {
        "uuid": "6120f144-b973-4bd9-b884-77ecb132914e",
        "axes": {"batch_size": 3},
        "inputs": {
            "hidden_states": {"type": "random"},
            "weight": {"type": "random"},
            "eps": {"type": "scalar", "value": 1e-6},
        },
    },
    "solution": None,
    "evaluation": None,
}
SPLIT_HEADS: dict[str, Any] = {
    "name": "split_heads",
    "axes": {
        "B": {"type": "var"},
        "S": {"type": "var"},
        "D": {"type": "const", "value": 16},
        "H": {"type": "const", "value": 4},
        "E": {"type": "expr", "expression": "D / H", "description": "Per head."},
    },
    "inputs": {"x": {"shape": ["B", "S", "D"], "dtype": "float16"}},
    "outputs": {"y": {"shape": ["B", "H", "S", "E"], "dtype": "float16"}},
    "reference": (
        "def run(x):\n    b, s, _ = x.shape\n    return (x.view(b, s, 4, 4).transpose(1, 2),)\n"
    ),
}


def rmsnorm(**changes) -> Problem:
    return parse_definition({**RMSNORM, **changes}, source="rmsnorm.json")


def complaint(definition: object) -> str:
    with pytest.raises(DefinitionError) as caught:
        parse_definition(definition, source="k.json")
    return str(caught.value)


def workload_complaint(workload: object, problem: Problem | None = None) -> str:
    with pytest.raises(DefinitionError) as caught:
        parse_workload(workload, problem or rmsnorm(), source="w.jsonl:3")
    return str(caught.value)


def changed(path: str, value: object) -> dict[str, Any]:
    """The definition with one value replaced, or removed where the value is `...`."""
    definition = json.loads(json.dumps(RMSNORM))
    *parents, last = path.split(".")
    place = definition
    for name in parents:
        place = place[name]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return dict(definition)


Arrays = dict[str, np.ndarray]


def answer(problem: Problem, workload: Workload) -> tuple[Arrays, Arrays]:
    inputs = {
        t.name: np.empty(problem.shape(t, workload), numpy_dtype(t.dtype)) for t in problem.inputs
    }
    Contents(problem, workload, bytes(16)).fill(inputs, call=0)
    return inputs, Oracle(problem).expected(workload, inputs).outputs


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


# Workloads ---------------------------------------------------------------------------------------


def test_a_trace_becomes_a_workload():
    workload = parse_workload(TRACE, rmsnorm(), source="w")
    assert workload == Workload(
        name="w_6120f144_b973_4bd9_b884_77ecb132914e",
        axes={"batch_size": 3},
        scalars={"eps": 1e-6},
        source="uuid 6120f144-b973-4bd9-b884-77ecb132914e",
    )


def test_a_bare_workload_is_read_alike():
    assert parse_workload(TRACE["workload"], rmsnorm(), source="w") == parse_workload(
        TRACE, rmsnorm(), source="w"
    )


def test_our_own_fields_of_a_workload_pass_through():
    given = {
        "name": "decode",
        "axes": {"batch_size": 1},
        "scalars": {"eps": 1e-5},
        "weight": 3,
        "profile": "large",
        "visibility": "hidden",
        "source": "a chat server at night",
    }
    workload = parse_workload(given, rmsnorm(), source="w")
    assert workload.name == "decode"
    assert workload.weight == 3
    assert workload.profile is ProfileName.LARGE
    assert workload.visibility == "hidden"
    assert workload.source == "a chat server at night"
    assert workload.scalars == {"eps": 1e-5}


def test_a_workload_without_uuid_is_named_by_its_sizes():
    problem = parse_definition(SPLIT_HEADS, source="k")
    assert parse_workload({"axes": {"B": 2, "S": 3}}, problem, source="w").name == "B2_S3"


def test_tolerances_of_a_published_workload_are_dropped():
    extra = {**TRACE["workload"], "tolerance": {"max_atol": 0.02}, "eval_mode": "full"}
    assert parse_workload(extra, rmsnorm(), source="w") == parse_workload(
        TRACE, rmsnorm(), source="w"
    )


@pytest.mark.parametrize("value", [True, 0, 3, 1e-6])
def test_scalars_are_numbers(value):
    given = {"axes": {"batch_size": 1}, "inputs": {"eps": {"type": "scalar", "value": value}}}
    assert parse_workload(given, rmsnorm(), source="w").scalars == {"eps": float(value)}


EPS = {"eps": {"type": "scalar", "value": 1e-6}}


@pytest.mark.parametrize(
    ("workload", "words"),
    [
        ([], "w.jsonl:3 must be an object"),
        ({"inputs": EPS}, "w.jsonl:3: axes is missing; keys given: inputs"),
        ({"axes": {"batch_size": 1}}, "gives no value for the scalar 'eps'"),
        ({"axes": {}, "inputs": EPS}, "axes is ''; a name starts with a letter"),
        ({"uuid": "a", "axes": {}, "inputs": EPS}, "axes ['batch_size'] are missing or not var"),
        (
            {"axes": {"batch_size": 1, "hidden_size": 8}, "inputs": EPS},
            "axes ['hidden_size'] are missing or not var axes",
        ),
        ({"axes": {"batch_size": 0}, "inputs": EPS}, "breaks the constraint 'batch_size >= 1'"),
        ({"axes": {"batch_size": "x"}, "inputs": EPS}, "w.jsonl:3: axes.batch_size: Input should"),
        ({"axs": {}, "axes": {}}, "axs is not a known key; did you mean 'axes'?"),
        (
            {"axes": {"batch_size": 1}, "inputs": {"wieght": {"type": "random"}}},
            "inputs.wieght is no input of 'rmsnorm_h8'; did you mean 'weight'?",
        ),
        (
            {"axes": {"batch_size": 1}, "inputs": {"weight": {"type": "randn"}}},
            "inputs.weight.type is 'randn', not random or scalar; did you mean 'random'?",
        ),
        (
            {"axes": {"batch_size": 1}, "inputs": {"weight": {"type": "custom"}}},
            'contents are drawn anew for every timed call; make it {"type": "random"}',
        ),
        (
            {
                "axes": {"batch_size": 1},
                "inputs": {"weight": {"type": "safetensors", "path": "w.st", "tensor_key": "w"}},
            },
            "inputs.weight.type is 'safetensors', but contents are drawn anew",
        ),
        (
            {"axes": {"batch_size": 1}, "inputs": {"weight": {"type": "scalar", "value": 1}}},
            "inputs.weight.type is 'scalar', but the definition makes it 'random'",
        ),
        (
            {"axes": {"batch_size": 1}, "inputs": {"eps": {"type": "random"}}},
            "inputs.eps.type is 'random', but the definition makes it 'scalar'",
        ),
        (
            {"axes": {"batch_size": 1}, "inputs": {"eps": {"type": "scalar"}}},
            "inputs.eps.value is missing",
        ),
        (
            {"axes": {"batch_size": 1}, "inputs": {"eps": {"type": "scalar", "value": "1e-6"}}},
            "inputs.eps.value must be a number, not '1e-6'",
        ),
        (
            {"axes": {"batch_size": 1}, "inputs": {"eps": {"type": "scalar", "valeu": 1}}},
            "inputs.eps.valeu is not a known key; did you mean 'value'?",
        ),
        (
            {"definition": "softmax", "workload": TRACE["workload"]},
            "definition is 'softmax', but the problem is 'rmsnorm_h8'",
        ),
        (
            {"axes": {"batch_size": 1}, "inputs": EPS, "weight": 0},
            "weight: Input should be greater",
        ),
    ],
)
def test_a_malformed_workload_is_explained(workload, words):
    assert words in workload_complaint(workload)


# Files -------------------------------------------------------------------------------------------


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_definition_file_is_read(tmp_path):
    assert load_problem(written(tmp_path, "d.json", json.dumps(RMSNORM))) == rmsnorm()


@pytest.mark.parametrize("layout", ["lines", "blank lines", "array"])
def test_workload_files_are_lines_or_an_array(tmp_path, layout):
    items = [TRACE, {"uuid": "two", "axes": {"batch_size": 5}, "inputs": EPS}]
    texts = [json.dumps(item) for item in items]
    text = {
        "lines": "\n".join(texts) + "\n",
        "blank lines": "\n\n".join(texts) + "\n\n  \n",
        "array": json.dumps(items),
    }[layout]
    workloads = load_workloads(written(tmp_path, "w.jsonl", text), rmsnorm())
    assert [w.axes["batch_size"] for w in workloads] == [3, 5]
    assert workloads[1].name == "w_two"


def file_complaint(read, *arguments) -> str:
    with pytest.raises(DefinitionError) as caught:
        read(*arguments)
    return str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    text = file_complaint(load_problem, tmp_path / "none.json")
    assert text == f"{tmp_path / 'none.json'} cannot be read: No such file or directory"


def test_a_file_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "d.json"
    path.write_bytes(b"\xff\xfe\x00")
    assert file_complaint(load_problem, path) == f"{path} cannot be read: it is not UTF-8 text"


def test_a_file_that_is_no_json_says_where(tmp_path):
    path = written(tmp_path, "d.json", '{\n  "name": oops\n}')
    assert "is not JSON: Expecting value at line 2, column 11" in file_complaint(load_problem, path)


def test_a_bad_line_of_workloads_is_numbered(tmp_path):
    path = written(tmp_path, "w.jsonl", json.dumps(TRACE) + "\n{bad}\n")
    assert f"{path}:2 is not JSON" in file_complaint(load_workloads, path, rmsnorm())


def test_a_bad_item_of_an_array_is_numbered(tmp_path):
    path = written(tmp_path, "w.json", json.dumps([TRACE, {"uuid": "x"}]))
    assert f"{path}[1]: axes is missing" in file_complaint(load_workloads, path, rmsnorm())


def test_a_workload_that_is_there_twice_is_named(tmp_path):
    path = written(tmp_path, "w.jsonl", f"{json.dumps(TRACE)}\n{json.dumps(TRACE)}\n")
    text = file_complaint(load_workloads, path, rmsnorm())
    assert "w_6120f144" in text
    assert "is there more than once; rename one" in text


@pytest.mark.parametrize("text", ["", "\n\n", "[]"])
def test_a_file_without_workloads_is_refused(tmp_path, text):
    path = written(tmp_path, "w.jsonl", text)
    assert "holds no workload; add one JSON object a line" in file_complaint(
        load_workloads, path, rmsnorm()
    )
