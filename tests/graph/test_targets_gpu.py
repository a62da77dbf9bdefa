"""The `cuda` sections of the shipped targets, as far as a processor can hold them to account."""

import types

import numpy as np
import pytest
import torch

from gpu_runner.candidate import Language
from gpu_runner.oracle.admission import Unfitting, admit
from gpu_runner.oracle.compare import judge
from gpu_runner.oracle.contents import Contents
from gpu_runner.oracle.elements import as_float64, from_float64, numpy_dtype
from gpu_runner.oracle.reference import Oracle
from gpu_runner.problem import DType, ProfileName, Workload
from graph.target import BEST, Target
from graph.targets import load_target, target_names

NAMES = target_names()
ISSUED = {
    "int8_scaled_mm": [{"M": 64, "N": 2048, "K": 2048}],
    "softmax": [{"B": 4096, "N": 8192}],
    "rmsnorm": [{"M": 4096, "H": 8192}],
    "silu_and_mul": [{"M": 4096, "D": 8192}],
    "gemm_bias_act": [{"M": m, "N": 4096, "K": 4096} for m in (16, 64)],
    "quantize_per_token": [{"M": 4096, "H": 8192}],
}
"""Shapes that figures have been published for."""
MAX_AUTOTUNE = "max-autotune-no-cudagraphs"

Arrays = dict[str, np.ndarray]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=NAMES)
def target(request) -> Target:
    return load_target(request.param, "cuda")


def as_torch(raw: np.ndarray, dtype: DType) -> torch.Tensor:
    tensor = torch.from_numpy(np.array(raw))
    return tensor.view(torch.bfloat16) if dtype is DType.BFLOAT16 else tensor


def as_raw(tensor: torch.Tensor) -> np.ndarray:
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    return tensor.numpy()


def eager(target: Target, workload: Workload, inputs: Arrays) -> Arrays:
    """Run the first baseline of the device on the processor."""
    problem = target.problem
    module = types.ModuleType("baseline")
    exec(target.baselines[0].candidate.sources[0].text, module.__dict__)
    given = [as_torch(inputs[t.name], t.dtype) for t in problem.inputs]
    outputs = {
        t.name: torch.empty(problem.shape(t, workload), dtype=getattr(torch, t.dtype.value))
        for t in problem.outputs
    }
    with torch.inference_mode():
        module.run(*given, *problem.scalar_values(workload), *outputs.values())
    return {name: as_raw(value) for name, value in outputs.items()}


def drawn(target: Target, workload: Workload, profile: ProfileName | None = None) -> Arrays:
    problem = target.problem
    into = {
        t.name: np.empty(problem.shape(t, workload), numpy_dtype(t.dtype)) for t in problem.inputs
    }
    Contents(problem, workload, bytes(range(16))).fill(into, call=1, profile=profile)
    return into


def small(target: Target) -> list[Workload]:
    return [w for w in target.hidden if target.problem.required_bytes(w) < 2_000_000]


# -- what they say -------------------------------------------------------------------------------


def test_six_public_shapes_at_least_each_with_its_source(target):
    assert len(target.public) >= 6
    assert all(len(w.source) > 10 for w in target.public)
    assert len({tuple(w.axes.items()) for w in target.public}) == len(target.public)
    assert len(target.hidden) >= 6
    assert not [w.name for w in target.hidden if w.axes in [p.axes for p in target.public]]


@pytest.mark.parametrize(("name", "shapes"), ISSUED.items())
def test_shapes_with_published_figures_are_public(name, shapes):
    public = [w.axes for w in load_target(name, "cuda").public]
    assert [shape for shape in shapes if shape not in public] == []


def test_device_code_is_what_may_be_written(target):
    assert target.scope.languages == (Language.CUDA, Language.TRITON)


def test_the_bar_is_the_best_of_several_baselines(target):
    assert target.goal.against == BEST
    assert target.goal.speedup > 1
    names = [baseline.name for baseline in target.baselines]
    assert names[:3] == ["torch eager", "torch compile", "torch compile max-autotune"]
    assert len({baseline.candidate.digest for baseline in target.baselines}) == len(names)


def test_the_compiled_baselines_differ_in_their_mode_alone(target):
    default, most = (b.candidate.sources[0].text for b in target.baselines[1:3])
    assert default.startswith("MODE = 'default'\n")
    assert most == default.replace("MODE = 'default'", f"MODE = {MAX_AUTOTUNE!r}", 1)
    assert default.count("mode=MODE") == 1


def test_the_fused_epilogue_of_the_library_is_a_baseline_of_its_own():
    names = {name: [b.name for b in load_target(name, "cuda").baselines] for name in NAMES}
    assert [name for name, found in names.items() if "cublaslt" in found] == ["gemm_bias_act"]


def test_the_library_computes_the_tanh_form_on_a_gpu():
    """Torch's decomposition of the operator chooses the form by the device."""
    bias, x, w = torch.randn(8), torch.randn(3, 5), torch.randn(5, 8)
    z = torch.addmm(bias, x, w)
    on_cpu = torch.ops.aten._addmm_activation(bias, x, w, use_gelu=True)
    torch.testing.assert_close(on_cpu, torch.nn.functional.gelu(z))
    constants = torch._decomp.decomposition_table[torch.ops.aten._addmm_activation.default]
    inner = constants
    while hasattr(inner, "__wrapped__"):
        inner = inner.__wrapped__
    assert {"tanh", "is_cuda"} <= {*inner.__code__.co_consts, *inner.__code__.co_names}


# -- what holds for them on a processor ----------------------------------------------------------


def test_eager_is_right_in_the_gpus_types(target):
    oracle = Oracle(target.problem)
    for workload in small(target):
        inputs = drawn(target, workload, workload.profile)
        judged = judge(
            target.problem,
            oracle.expected(workload, inputs),
            eager(target, workload, inputs),
            case=workload.name,
            is_hidden=False,
        )
        assert judged.mismatch is None, judged.mismatch


@pytest.mark.parametrize("name", ["quantize_per_token", "gemm_bias_act"])
def test_the_gate_admits_them(name):
    target = load_target(name, "cuda")
    found = admit(
        target.problem,
        tuple(small(target)),
        {"torch eager": lambda workload, inputs: eager(target, workload, dict(inputs))},
    )
    assert min(found.margins.values()) > 3.9
    assert len(found.caught) >= 6


# -- per-token quantisation ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def quantize() -> Target:
    return load_target("quantize_per_token", "cuda")


def judged_rows(quantize: Target, rows: list[list[float]], q, scale=None):
    problem = quantize.problem
    workload = Workload(name="rows", axes={"M": len(rows), "H": len(rows[0])})
    x = from_float64(np.array(rows, np.float64), DType.BFLOAT16)
    expected = Oracle(problem).expected(workload, {"x": x})
    right = expected.outputs["scale"].astype(np.float32)
    answer = {"q": np.array(q, np.int8), "scale": right if scale is None else scale}
    return judge(problem, expected, answer, case="rows", is_hidden=False), expected


def test_a_row_of_zeros_has_the_least_scale_and_zeros(quantize):
    judged, expected = judged_rows(quantize, [[0, 0, 0]], [[0, 0, 0]])
    assert judged.mismatch is None
    np.testing.assert_allclose(expected.outputs["scale"], [1e-10 / 127])


def test_the_largest_magnitude_becomes_127(quantize):
    _, expected = judged_rows(quantize, [[0.5, -2, 1.0]], [[32, -127, 64]])
    np.testing.assert_array_equal(expected.outputs["q"], [[32, -127, 64]])


@pytest.mark.parametrize("halves", [63, 64])
def test_a_tie_may_go_to_either_side(quantize, halves):
    judged, expected = judged_rows(quantize, [[2, 1, 0.25]], [[127, halves, 16]])
    assert judged.mismatch is None
    assert expected.outputs["q"][0, 1] == 64, "the reference rounds ties to even"


@pytest.mark.parametrize("wrong", [[127, 64, 15], [126, 64, 16], [127, 64, -16]])
def test_any_other_neighbour_is_wrong(quantize, wrong):
    judged, _ = judged_rows(quantize, [[2, 1, 0.25]], [wrong])
    assert judged.mismatch is not None
    assert judged.mismatch.output == "q"


def test_a_scale_in_half_precision_is_wrong(quantize):
    coarse = np.array([np.float16(3 / 127)], np.float32)
    judged, _ = judged_rows(quantize, [[3, 1, 0.25]], [[127, 42, 11]], coarse)
    assert judged.mismatch is not None
    assert judged.mismatch.output == "scale"


def test_truncation_is_refused_on_drawn_contents(quantize):
    workload = Workload(name="drawn", axes={"M": 8, "H": 256})
    inputs = drawn(quantize, workload)
    expected = Oracle(quantize.problem).expected(workload, inputs)
    x = as_float64(inputs["x"], DType.BFLOAT16)
    scale = np.abs(x).max(-1) / 127
    cut = np.trunc(x / scale[:, None]).astype(np.int8)
    answer = {"q": cut, "scale": scale.astype(np.float32)}
    judged = judge(quantize.problem, expected, answer, case="drawn", is_hidden=False)
    assert judged.mismatch is not None
    assert judged.mismatch.wrong_fraction is not None
    assert judged.mismatch.wrong_fraction > 0.3


def test_a_target_that_only_copies_would_not_be_admitted(quantize):
    """The gate is not asleep: the same problem with a loose bound is refused."""
    loose = quantize.problem.reference.replace("np.where(may_turn, 4.0", "np.where(x == x, 300.0")
    assert loose != quantize.problem.reference
    problem = quantize.problem.model_copy(update={"reference": loose})
    with pytest.raises(Unfitting):
        admit(problem, tuple(small(quantize)), {})
