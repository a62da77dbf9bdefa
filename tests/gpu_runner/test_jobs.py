import pytest
from pydantic import ValidationError

from gpu_runner.candidate import Language
from gpu_runner.errors import SubjectFailed
from gpu_runner.jobs import (
    JOB,
    OUTCOME,
    Admit,
    Bench,
    Build,
    Check,
    Mismatch,
    Profile,
    Reason,
    Rejected,
    Sanitize,
    Stage,
    Unfit,
    Unserved,
)
from gpu_runner.records import TimingPlan
from tests.builders import make_candidate, make_problem, make_workload

COMMON = {"job_id": "r1-k003-l0-check", "problem": make_problem()}
POINT = (make_workload(),)
JOBS = [
    Admit(**COMMON, workloads=POINT),
    Build(**COMMON, candidate=make_candidate()),
    Check(**COMMON, candidate=make_candidate(), workloads=POINT),
    Bench(
        **COMMON,
        candidate=make_candidate(),
        against=({"name": "torch eager", "candidate": make_candidate(language=Language.PYTHON)},),
        workloads=POINT,
        plan=TimingPlan(sittings=5),
    ),
    Profile(**COMMON, candidate=make_candidate(), workloads=POINT),
    Sanitize(**COMMON, candidate=make_candidate(), workloads=POINT),
]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.kind)
def test_a_job_comes_back_from_the_wire_equal(job):
    assert JOB.validate_json(JOB.dump_json(job)) == job


@pytest.mark.parametrize(
    "outcome",
    [
        Rejected(
            job_id="a",
            stage=Stage.CHECK,
            reason=Reason.WRONG_RESULT,
            message="rows/normal: output 'y' is wrong",
            mismatch=Mismatch(case="hidden shape", output="y"),
        ),
        Unfit(job_id="a", message="the reference raised"),
        Unserved(job_id="a", cause="no_tool", message="no g++", is_retryable=False),
    ],
    ids=lambda outcome: outcome.kind,
)
def test_an_outcome_says_whose_fault_it_was_after_the_wire_too(outcome):
    assert OUTCOME.validate_json(OUTCOME.dump_json(outcome)) == outcome


@pytest.mark.parametrize("job_id", ["", "Upper", "a/b", "../x", "a b", "x" * 129])
def test_a_job_id_is_a_plain_file_name(job_id):
    with pytest.raises(ValidationError, match="job_id"):
        Build(job_id=job_id, problem=make_problem(), candidate=make_candidate())


def test_a_bench_without_contender_or_workload_is_refused():
    with pytest.raises(ValidationError, match="against"):
        Bench(**COMMON, candidate=make_candidate(), against=(), workloads=POINT)
    with pytest.raises(ValidationError, match="workloads"):
        Check(**COMMON, candidate=make_candidate(), workloads=())


def test_an_unknown_kind_names_the_known_ones():
    with pytest.raises(ValidationError, match="'admit', 'build', 'check', 'bench'"):
        JOB.validate_python({"kind": "train"})


def test_a_subject_failure_keeps_its_reason_and_log():
    failure = SubjectFailed(Reason.CRASHED, "SIGSEGV", "last words")
    assert (failure.reason, failure.message, failure.log_tail) == (
        Reason.CRASHED,
        "SIGSEGV",
        "last words",
    )
    assert str(failure) == "SIGSEGV"
