"""The targets in `configs/targets`: their references, bounds and baselines against each other."""

import ast
import types

import numpy as np
import pytest
import torch
import yaml

from gpu_runner.oracle.contents import Contents
from gpu_runner.oracle.elements import as_float64
from gpu_runner.oracle.reference import Oracle
from gpu_runner.problem import DType, Problem, ProfileName, Workload
from graph.target import Target
from graph.targets import TARGETS, load_target, target_names

NAMES = (
    "gelu_tanh",
    "gemm_bias_act",
    "int8_scaled_mm",
    "layernorm",
    "rmsnorm",
    "rope",
    "silu_and_mul",
    "softmax",
)
"""Those for both devices."""
GPU_ONLY = ("quantize_per_token",)
ALL = tuple(sorted((*NAMES, *GPU_ONLY)))
COMPILED = ("torch compile", "torch compile max-autotune")
KEY = bytes(range(16))
MARGIN = 4
"""What the admission gate asks of every trusted implementation (MEASUREMENT C3)."""

Arrays = dict[str, np.ndarray]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=NAMES)
def target(request) -> Target:
    return load_target(request.param)


def contents_of(problem: Problem, workload: Workload, profile: ProfileName | None = None) -> Arrays:
    drawn = Contents(problem, workload, KEY)
    into = {t.name: np.empty(problem.shape(t, workload), as_numpy(t.dtype)) for t in problem.inputs}
    drawn.fill(into, call=1, profile=profile)
    return into


def as_numpy(dtype: DType) -> np.dtype:
    return np.dtype("uint16" if dtype is DType.BFLOAT16 else dtype.value)


def baseline_run(target: Target, name: str, *, backend: str = "inductor"):
    chosen = next(b for b in target.baselines if b.name == name)
    module = types.ModuleType("baseline")
    source = chosen.candidate.sources[0].text
    source = source.replace("fullgraph=True", f"fullgraph=True, backend={backend!r}")
    code = compile(source, "baseline.py", "exec")
    exec(code, module.__dict__)
    return module.run


def answers(run, problem: Problem, workload: Workload, inputs: Arrays) -> Arrays:
    given = [torch.from_numpy(inputs[t.name].copy()) for t in problem.inputs]
    outputs = {
        t.name: torch.full(problem.shape(t, workload), float("nan")) for t in problem.outputs
    }
    with torch.inference_mode():
        run(*given, *problem.scalar_values(workload), *outputs.values())
    for tensor, value in zip(problem.inputs, given, strict=True):
        np.testing.assert_array_equal(value.numpy(), inputs[tensor.name], err_msg=tensor.name)
    return {name: value.numpy() for name, value in outputs.items()}


def worst_ratio(target: Target, workload: Workload, inputs: Arrays, actual: Arrays) -> float:
    """Largest error over its bound; infinite where NaN or infinity is not where it should be."""
    expected = Oracle(target.problem).expected(workload, inputs)
    worst = 0.0
    for tensor in target.problem.outputs:
        right = expected.outputs[tensor.name]
        given = as_float64(actual[tensor.name], tensor.dtype)
        is_finite = np.isfinite(right)
        if not np.array_equal(given[~is_finite], right[~is_finite], equal_nan=True):
            return float("inf")
        error = np.abs(given - right)[is_finite] / expected.bounds[tensor.name][is_finite]
        worst = max(worst, float(error.max(initial=0.0)) if np.isfinite(error).all() else np.inf)
    return worst


def test_these_targets_are_shipped():
    assert target_names() == ALL


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_each_target_loads_for_both_devices(name, device):
    target = load_target(name, device)
    assert target.hardware.device == device
    names = [b.name for b in target.baselines]
    if device == "cpu":
        assert names == ["torch eager", "torch compile"]
        assert target.goal.against == "torch eager"
    else:
        assert names[:3] == ["torch eager", *COMPILED]
        assert target.goal.against == "best"
    assert all(b.is_trusted and b.candidate.calling == "destination" for b in target.baselines)
    assert len(target.public) >= 3
    assert len(target.hidden) >= 6


@pytest.mark.parametrize("name", NAMES)
def test_the_devices_differ_in_element_type(name):
    kinds = {d: {t.dtype for t in load_target(name, d).problem.outputs} for d in ("cpu", "cuda")}
    assert kinds["cpu"] == {DType.FLOAT32}
    assert kinds["cuda"] <= {DType.FLOAT16, DType.BFLOAT16}


@pytest.mark.parametrize(
    ("name", "device", "roundoff"),
    [
        ("softmax", "cpu", "2.0**-24"),
        ("softmax", "cuda", "2.0**-8"),
        ("layernorm", "cuda", "2.0**-11"),
    ],
)
def test_the_reference_is_told_the_roundoff_of_its_type(name, device, roundoff):
    reference = load_target(name, device).problem.reference
    assert f"U = {roundoff}\n" in reference
    assert "ROUNDOFF_" not in reference


def test_every_public_shape_says_where_it_is_met(target):
    assert all(len(w.source) > 10 for w in target.public)


def test_every_hidden_shape_differs_from_the_public_ones(target):
    public = [w.axes for w in target.public]
    assert not [w.name for w in target.hidden if w.axes in public]


def test_hidden_shapes_have_odd_sizes_and_single_rows(target):
    sizes = {size for w in target.hidden for size in w.axes.values()}
    assert 1 in sizes
    assert sizes & {31, 32, 33}
    assert sizes & {127, 128, 129}


def test_public_shapes_stay_cheap_to_verify(target):
    elements = {
        w.name: sum(int(np.prod(target.problem.shape(t, w))) for t in target.problem.inputs)
        for w in target.public
    }
    assert max(elements.values()) <= 1_600_000, elements


def test_parameters_are_never_drawn_at_zero_or_one_only(target):
    for rule in target.problem.rules:
        assert rule.low < rule.high, rule
        assert (rule.low, rule.high) not in {(0, 1), (0, 0), (1, 1)}, rule


def test_row_operations_may_be_verified_in_chunks(target):
    """A product may not: every chunk would convert the whole weight again."""
    is_product = target.name in {"gemm_bias_act", "int8_scaled_mm"}
    first = target.problem.outputs[0].shape[0]
    assert Oracle(target.problem).rowwise_axis == (None if is_product else first)


def test_sources_are_indented_python_of_reasonable_width(target):
    texts = [target.problem.reference, *(b.candidate.sources[0].text for b in target.baselines)]
    for text in texts:
        ast.parse(text)
        assert max(map(len, text.splitlines())) <= 100


def test_yaml_lines_fit_the_page():
    for name in ALL:
        lines = (TARGETS / f"{name}.yaml").read_text().splitlines()
        assert max(map(len, lines)) <= 106, name


def test_eager_is_within_the_bound_with_margin_on_every_shape(target):
    run = baseline_run(target, "torch eager")
    ratios = {}
    for workload in target.workloads:
        inputs = contents_of(target.problem, workload)
        actual = answers(run, target.problem, workload, inputs)
        ratios[workload.name] = worst_ratio(target, workload, inputs, actual)
    assert max(ratios.values()) <= 1 / MARGIN, ratios


def test_eager_and_plain_numpy_are_within_the_bound_on_every_profile(target):
    run = baseline_run(target, "torch eager")
    workload = min(target.public, key=target.problem.required_bytes)
    oracle = Oracle(target.problem)
    ratios = {}
    for profile in target.problem.profiles:
        inputs = contents_of(target.problem, workload, profile)
        actual = answers(run, target.problem, workload, inputs)
        ratios[profile, "eager"] = worst_ratio(target, workload, inputs, actual)
        plain = oracle.same_precision(workload, inputs)
        ratios[profile, "plain"] = worst_ratio(target, workload, inputs, plain)
    assert max(ratios.values()) <= 1 / MARGIN, ratios


def test_answers_in_half_precision_are_refused(target):
    workload = min(target.public, key=target.problem.required_bytes)
    inputs = contents_of(target.problem, workload)
    right = Oracle(target.problem).same_precision(workload, inputs)
    rounded = {name: a.astype(np.float16).astype(np.float32) for name, a in right.items()}
    assert worst_ratio(target, workload, inputs, rounded) > 1


def test_zeros_and_constants_are_refused(target):
    workload = min(target.public, key=target.problem.required_bytes)
    inputs = contents_of(target.problem, workload)
    right = Oracle(target.problem).same_precision(workload, inputs)
    for constant in (np.zeros_like, lambda a: np.full_like(a, a.mean())):
        wrong = {name: constant(a) for name, a in right.items()}
        assert worst_ratio(target, workload, inputs, wrong) > 1


def test_every_input_moves_the_answer_far_beyond_its_bound(target):
    """A kernel that ignores an input must not pass (MEASUREMENT C4)."""
    workload = min(target.public, key=target.problem.required_bytes)
    inputs = contents_of(target.problem, workload)
    oracle = Oracle(target.problem)
    for tensor in target.problem.inputs:
        values = inputs[tensor.name]
        other = contents_of(target.problem, workload.model_copy(update={"name": "other"}))
        changed = {
            **inputs,
            tensor.name: np.roll(values, 1, axis=-1) if values.size > 1 else other[tensor.name],
        }
        wrong = oracle.same_precision(workload, changed)
        assert worst_ratio(target, workload, inputs, wrong) > 100, tensor.name


def test_softmax_admits_every_shape_of_the_published_problem():
    target = load_target("softmax")
    shapes = {(w.axes["B"], w.axes["N"]): w.visibility for w in target.workloads}
    assert shapes[256, 4096] == "public"
    assert shapes[8, 128] == "public"
    assert (32, 65536) in shapes
    assert any(n >= 32768 for (_, n), kind in shapes.items() if kind == "public")
    assert any(n % 128 for _, n in shapes)


def test_the_softmax_reference_has_finite_bounds_under_masks():
    problem = load_target("softmax").problem
    workload = Workload(name="masked", axes={"B": 2, "N": 3})
    x = np.array([[-np.inf, 1, 2], [0, -np.inf, -np.inf]], np.float32)
    expected = Oracle(problem).expected(workload, {"x": x})
    e = np.exp(1.0)
    right = np.array([[0, 1 / (1 + e), e / (1 + e)], [1, 0, 0]])
    np.testing.assert_allclose(expected.outputs["y"], right, rtol=1e-12)
    assert np.isfinite(expected.bounds["y"]).all()


def test_layernorm_refuses_the_one_pass_variance():
    target = load_target("layernorm")
    workload = Workload(name="offset", axes={"M": 16, "H": 1024})
    inputs = contents_of(target.problem, workload, ProfileName.OFFSET)
    x, weight, bias = (inputs[name] for name in ("x", "weight", "bias"))
    mean = x.mean(-1, keepdims=True)
    variance = (x * x).mean(-1, keepdims=True) - mean * mean
    y = (x - mean) / np.sqrt(np.abs(variance) + np.float32(1e-5)) * weight + bias
    assert worst_ratio(target, workload, inputs, {"y": y}) > 1


def test_rmsnorm_writes_the_sum_that_it_normalises():
    problem = load_target("rmsnorm").problem
    workload = Workload(name="tiny", axes={"M": 1, "H": 2}, scalars={"eps": 0.0})
    inputs = {
        "x": np.array([[1, 2]], np.float32),
        "residual": np.array([[2, 2]], np.float32),
        "weight": np.array([1, 10], np.float32),
    }
    expected = Oracle(problem).expected(workload, inputs)
    rms = np.sqrt((9 + 16) / 2)
    np.testing.assert_allclose(expected.outputs["y"], [[3 / rms, 40 / rms]], rtol=1e-12)
    np.testing.assert_array_equal(expected.outputs["residual_out"], [[3, 4]])


def test_silu_and_mul_is_zero_where_the_gate_is_far_below_zero():
    problem = load_target("silu_and_mul").problem
    workload = Workload(name="tiny", axes={"M": 1, "D": 2})
    x = np.array([[-1e4, 2, 5, 3]], np.float32)
    expected = Oracle(problem).expected(workload, {"x": x})
    np.testing.assert_allclose(expected.outputs["y"], [[0, 6 / (1 + np.exp(-2))]], rtol=1e-12)


def test_gelu_of_the_reference_is_torchs_in_double_precision():
    problem = load_target("gelu_tanh").problem
    workload = Workload(name="line", axes={"M": 1, "D": 2001})
    x = np.linspace(-12, 12, 2001, dtype=np.float32)[None]
    expected = Oracle(problem).expected(workload, {"x": x}).outputs["y"]
    theirs = torch.nn.functional.gelu(torch.from_numpy(x).double(), approximate="tanh").numpy()
    np.testing.assert_allclose(expected, theirs, rtol=1e-9, atol=1e-14)


def test_rope_rotates_by_the_angle_of_the_token():
    problem = load_target("rope").problem
    workload = Workload(name="turn", axes={"M": 2, "HQ": 1, "HK": 1, "R": 1})
    heads = np.array([[[3, 4]], [[3, 4]]], np.float32)
    inputs = {
        "q": heads,
        "k": 2 * heads,
        "cosines": np.array([[1], [0]], np.float32),
        "sines": np.array([[0], [1]], np.float32),
    }
    outputs = Oracle(problem).expected(workload, inputs).outputs
    np.testing.assert_array_equal(outputs["q_out"][:, 0], [[3, 4], [-4, 3]])
    np.testing.assert_array_equal(outputs["k_out"][:, 0], [[6, 8], [-8, 6]])


def test_int8_sums_are_exact_beyond_single_precision():
    problem = load_target("int8_scaled_mm").problem
    workload = Workload(name="deep", axes={"M": 1, "N": 1, "K": 4097})
    inputs: Arrays = {
        "a": np.full((1, 4097), -128, np.int8),
        "b": np.full((1, 4097), -128, np.int8),
        "scale_a": np.array([1], np.float32),
        "scale_b": np.array([1], np.float32),
        "bias": np.array([0.5], np.float32),
    }
    inputs["b"][0, 0] = 127
    exact = 4096 * 16384 - 127 * 128
    expected = Oracle(problem).expected(workload, inputs).outputs["y"]
    np.testing.assert_array_equal(expected, [[exact + 0.5]])


@pytest.mark.parametrize("name", NAMES)
def test_compiled_baselines_are_one_graph_and_answer_as_eager_ones(name):
    """Traced in full, run by torch's own kernels: what inductor emits is its own concern."""
    target = load_target(name)
    workload = min(target.public, key=target.problem.required_bytes)
    inputs = contents_of(target.problem, workload)
    run = baseline_run(target, "torch compile", backend="eager")
    actual = answers(run, target.problem, workload, inputs)
    assert worst_ratio(target, workload, inputs, actual) <= 1 / MARGIN


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor's own imports
def test_a_compiled_baseline_serves_several_shapes():
    target = load_target("softmax")
    run = baseline_run(target, "torch compile")
    for workload in sorted(target.public, key=target.problem.required_bytes)[:2]:
        inputs = contents_of(target.problem, workload)
        actual = answers(run, target.problem, workload, inputs)
        assert worst_ratio(target, workload, inputs, actual) <= 1 / MARGIN


def test_no_reference_is_the_same_as_its_yaml_siblings():
    references = {
        yaml.safe_load((TARGETS / f"{n}.yaml").read_text())["problem"]["reference"] for n in NAMES
    }
    assert len(references) == len(NAMES)
