"""The guide's own candidate builds and lowers, and its words are the product's."""

import re
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from gpu_runner.candidate import Argument, Language, LaunchPlan
from gpu_runner.device.lowered import lower, read_index, refuse_invalid
from gpu_runner.expression import evaluate
from gpu_runner.jobs import Reason
from gpu_runner.languages import build, missing_toolchain
from gpu_runner.languages.header import problem_header
from gpu_runner.problem import DType, Scalar, Tensor
from tests.builders import make_candidate, make_problem, make_workload
from tests.gpu_runner.languages.outcomes import built

GUIDE = (Path(__file__).parents[3] / "docs" / "gpu-candidates.md").read_text()
BLOCKS = dict(re.findall(r"```(cuda|json)\n(.*?)```", GUIDE, re.DOTALL))
PLANS = TypeAdapter(tuple[LaunchPlan, ...]).validate_json(BLOCKS["json"])
ARGUMENT = TypeAdapter(Argument)


def problem(**changes):
    scalars = (Scalar(name="factor", default=2.0), Scalar(name="eps", default=1e-6))
    return make_problem(scalars=scalars, **changes)


@pytest.mark.skipif(missing_toolchain(Language.CUDA) is not None, reason="no CUDA compiler")
def test_the_example_builds_and_lowers(tmp_path):
    candidate = make_candidate(language=Language.CUDA, text=BLOCKS["cuda"], plans=PLANS)
    artefact = built(build(problem(), candidate, cache=tmp_path, timeout_s=60.0))
    found = lower(problem(), PLANS, read_index(artefact.path), make_workload())
    assert found.launches[0].grid == (8, 1, 1)


@pytest.mark.parametrize("text", re.findall(r"^\| `(.*?)`", GUIDE, re.MULTILINE))
def test_each_kind_of_argument_is_one(text):
    argument = ARGUMENT.validate_json(text)
    launch = PLANS[0].launches[0].model_copy(update={"arguments": (argument,)})
    plan = PLANS[0].model_copy(update={"launches": (launch,), "workspace_bytes": "B * 128"})
    refuse_invalid(problem(), (plan,), Language.CUDA)


def test_the_operators_it_lists_are_those_there_are():
    listed = "ceil_div(N, 8) if N % 8 and not N == 3 or N << 1 > N >> 1 else abs(min(N - 1, N * 2))"
    assert evaluate(listed, {"N": 9}) == 2


def test_helpers_and_reason_have_the_names_it_says():
    halves = (DType.FLOAT16, DType.BFLOAT16)
    tensors = tuple(Tensor(name=f"t{n}", shape=("B",), dtype=d) for n, d in enumerate(halves))
    header = problem_header(problem(inputs=tensors))
    named = set(re.findall(r"`(kp_\w+)`", GUIDE))
    assert len(named) == 6
    assert all(name in header for name in named)
    assert f"`{Reason.FORBIDDEN_INSTRUCTION}`" in GUIDE
