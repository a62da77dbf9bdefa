import errno
from pathlib import Path, PosixPath

import pytest

from gpu_runner.candidate import Contender, Language
from gpu_runner.jobs import (
    Admit,
    Admitted,
    Build,
    Built,
    Check,
    Reason,
    Rejected,
    Stage,
    Unfit,
    Unserved,
)
from gpu_runner.problem import Axis, ProfileName
from gpu_runner.tasks.execute import execute
from tests.builders import SOFTMAX_CPP, make_candidate, make_problem, make_workload


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


def test_a_build_is_done_once(workspace):
    job = Build(job_id="b", problem=make_problem(), candidate=make_candidate())
    first, second = (execute(job, workspace=workspace) for _ in range(2))
    assert isinstance(first, Built)
    assert isinstance(second, Built)
    assert (first.is_cached, second.is_cached) == (False, True)
    assert first.artefact_digest == second.artefact_digest


def test_what_does_not_compile_is_the_candidates_fault(workspace):
    job = Build(job_id="b", problem=make_problem(), candidate=make_candidate(text="int x = ;"))
    outcome = execute(job, workspace=workspace)
    assert isinstance(outcome, Rejected)
    assert (outcome.stage, outcome.reason) == (Stage.BUILD, Reason.COMPILE_FAILED)
    assert "error" in outcome.log_tail


def test_a_wrong_result_brings_its_place(workspace):
    text = SOFTMAX_CPP.replace("return 0;", "a->y[3] += 1;\n    return 0;")
    job = Check(
        job_id="c",
        problem=make_problem(),
        candidate=make_candidate(text=text),
        workloads=(make_workload(),),
    )
    outcome = execute(job, workspace=workspace)
    assert isinstance(outcome, Rejected)
    assert outcome.mismatch is not None
    assert outcome.stage is Stage.CHECK


def test_a_reference_that_raises_is_the_targets_fault(workspace):
    problem = make_problem(reference="def run(x):\n    raise KeyError('gamma')\n")
    job = Check(
        job_id="c", problem=problem, candidate=make_candidate(), workloads=(make_workload(),)
    )
    outcome = execute(job, workspace=workspace)
    assert isinstance(outcome, Unfit)
    assert "gamma" in outcome.message


def test_an_axis_no_compiler_takes_is_the_targets_fault(workspace):
    axes = (Axis(name="B", kind="var"), Axis(name="N", kind="var"), Axis(name="int", kind="var"))
    job = Build(job_id="b", problem=make_problem(axes=axes), candidate=make_candidate())
    outcome = execute(job, workspace=workspace)
    assert isinstance(outcome, Unfit)
    assert "'int'" in outcome.message


def test_a_full_disk_is_ours_and_worth_another_try(tmp_path):
    full = tmp_path / "full"
    full.mkdir()

    class NoSpace(PosixPath):
        """A directory on a disk without space."""

        def __truediv__(self, name):
            raise OSError(errno.ENOSPC, "No space left on device", str(self))

    job = Build(job_id="b", problem=make_problem(), candidate=make_candidate())
    outcome = execute(job, workspace=NoSpace(full))
    assert isinstance(outcome, Unserved)
    assert (outcome.cause, outcome.is_retryable) == ("no_space", True)
    assert str(full) in outcome.message


def test_any_other_fault_of_the_machine_is_not_hidden(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    job = Build(job_id="b", problem=make_problem(), candidate=make_candidate())
    with pytest.raises(OSError, match="Not a directory"):
        execute(job, workspace=file)


def admission(workspace: Path, **changes):
    baseline = Contender(
        name="tensor", candidate=make_candidate(language=Language.PYTHON), is_trusted=True
    )
    problem = make_problem(profiles=(ProfileName.NORMAL,), **changes)
    workloads = (make_workload(), make_workload(name="wide", axes={"B": 4, "N": 513}))
    job = Admit(job_id="a", problem=problem, workloads=workloads, baselines=(baseline,))
    return execute(job, workspace=workspace)


def test_a_target_that_tells_right_from_wrong_is_admitted(workspace):
    outcome = admission(workspace)
    assert isinstance(outcome, Admitted)
    assert outcome.margins["tensor"] >= 4
    assert "zeros" in outcome.caught
    assert outcome.environment.cores >= 1


def test_a_tolerance_that_lets_zeros_through_is_refused(workspace):
    reference = "import numpy as np\n\n\ndef run(x):\n    return np.exp(x) / 1e6\n"
    outcome = admission(workspace, reference=reference, tolerance={"absolute": 1.0})
    assert isinstance(outcome, Unfit)


def test_a_baseline_that_disagrees_with_the_reference_is_refused(workspace):
    reference = "import numpy as np\n\n\ndef run(x):\n    return np.exp(x)\n"
    outcome = admission(workspace, reference=reference, tolerance={"relative_units": 64})
    assert isinstance(outcome, Unfit)
    assert "'tensor'" in outcome.message
