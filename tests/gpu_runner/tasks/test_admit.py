"""The admit job: what a target's first baseline has to show before anything is run against it."""

from pathlib import Path

import pytest

from gpu_runner.candidate import Candidate, Contender
from gpu_runner.errors import ReferenceFailed, SubjectFailed
from gpu_runner.host.machine import environment
from gpu_runner.jobs import Admit, Admitted, Bench, Unfit
from gpu_runner.oracle.admission import Unfitting
from gpu_runner.problem import ProfileName
from gpu_runner.tasks.admit import admit_job
from gpu_runner.tasks.execute import execute
from gpu_runner.tasks.sides import ContenderFailed
from tests.builders import SOFTMAX_CPP, make_candidate, make_problem, make_workload

WORKLOADS = (
    make_workload(),
    make_workload(name="wide", axes={"B": 4, "N": 513}),
    make_workload(name="odd", axes={"B": 3, "N": 33}, visibility="hidden"),
)
UNBUILT = make_candidate(text="int x = ;")


def contender(candidate: Candidate, name: str = "plain") -> Contender:
    return Contender(name=name, candidate=candidate)


def make_admit(*baselines: Contender, problem=None, **changes) -> Admit:
    values = {
        "job_id": "a",
        "problem": problem or make_problem(profiles=(ProfileName.NORMAL,)),
        "workloads": WORKLOADS,
        "baselines": baselines,
    }
    return Admit(**{**values, **changes})


def with_line(line: str) -> Candidate:
    return make_candidate(text=SOFTMAX_CPP.replace("return 0;", f"{line}\n    return 0;"))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


def test_the_first_baseline_is_measured_beside_the_reference_in_its_own_precision(workspace):
    admitted = admit_job(make_admit(contender(make_candidate())), workspace=workspace)
    assert isinstance(admitted, Admitted)
    assert admitted.job_id == "a"
    assert admitted.environment == environment()
    assert set(admitted.margins) > {"plain"}
    assert len(admitted.margins) == 2
    assert all(margin >= 4 for margin in admitted.margins.values())
    assert len(set(admitted.caught)) == len(admitted.caught) > 1


def test_later_baselines_are_neither_built_nor_run(workspace):
    job = make_admit(contender(make_candidate()), contender(UNBUILT, "later"))
    assert "later" not in admit_job(job, workspace=workspace).margins


def test_a_target_without_a_baseline_is_judged_by_its_reference_alone(workspace):
    admitted = admit_job(make_admit(), workspace=workspace)
    assert "plain" not in admitted.margins
    assert len(admitted.margins) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("__builtin_trap();", r"contender 'plain' failed \(crashed\)"),
        ("return 3;", r"contender 'plain' failed \(entry_failed\)"),
        ("a->y[a->B * a->N] = 0;", r"contender 'plain' failed \(guard_overwritten\)"),
    ],
)
def test_a_baseline_that_cannot_run_is_the_targets_fault(workspace, line, said):
    with pytest.raises(ContenderFailed, match=said) as caught:
        admit_job(make_admit(contender(with_line(line))), workspace=workspace)
    assert isinstance(caught.value.__cause__, SubjectFailed)


def test_a_baseline_that_is_wrong_on_a_hidden_shape_is_refused(workspace):
    job = make_admit(contender(with_line("if (a->N == 33) a->y[0] *= 2;")))
    with pytest.raises(Unfitting, match="'plain'"):
        admit_job(job, workspace=workspace)


def test_a_baseline_that_cannot_be_built_is_the_targets_fault(workspace):
    with pytest.raises(ContenderFailed, match=r"'plain' failed \(compile_failed\).*g\+\+ failed"):
        admit_job(make_admit(contender(UNBUILT)), workspace=workspace)


def test_a_contender_that_cannot_be_built_is_never_laid_to_the_candidate(workspace):
    bench = Bench(
        job_id="b",
        problem=make_problem(),
        candidate=make_candidate(),
        against=(contender(UNBUILT),),
        workloads=WORKLOADS[:1],
    )
    for job in (bench, make_admit(contender(UNBUILT))):
        outcome = execute(job, workspace=workspace)
        assert isinstance(outcome, Unfit)
        assert "contender 'plain' failed (compile_failed)" in outcome.message


def test_a_reference_that_raises_stops_admission(workspace):
    problem = make_problem(reference="def run(x):\n    raise KeyError('gamma')\n")
    with pytest.raises((ReferenceFailed, Unfitting), match="gamma"):
        admit_job(make_admit(problem=problem), workspace=workspace)


def test_a_constant_answer_is_no_target(workspace):
    problem = make_problem(
        reference="def run(x):\n    return x * 0 + 1\n", profiles=(ProfileName.NORMAL,)
    )
    with pytest.raises(Unfitting):
        admit_job(make_admit(problem=problem), workspace=workspace)
