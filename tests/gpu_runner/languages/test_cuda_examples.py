"""The examples of the writer's guide compile for a GPU, and their plans fit their kernels."""

import pytest

from agents.guide import example, example_problem
from gpu_runner.candidate import Language
from gpu_runner.device.kernel_index import read_index
from gpu_runner.device.lowered import lower
from gpu_runner.languages import build, missing_toolchain
from tests.builders import make_workload
from tests.gpu_runner.languages.outcomes import built


@pytest.mark.parametrize("language", [Language.CUDA, Language.TRITON])
def test_an_example_compiles_and_its_plan_fits_its_kernel(language, tmp_path):
    if missing_toolchain(language) is not None:
        pytest.skip(f"no toolchain for {language.value}")
    candidate, problem = example(language), example_problem()
    artefact = built(build(problem, candidate, cache=tmp_path, timeout_s=120.0))
    index = read_index(artefact.path)
    workload = make_workload(axes={"B": 3, "N": 1000})
    lowered = lower(problem, candidate.plans, index, workload)
    (launch,) = lowered.launches
    assert launch.grid == (3, 1, 1)
    assert launch.block[0] * launch.block[1] * launch.block[2] <= 1024
