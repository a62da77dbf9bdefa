"""What follows from a job for its wait."""

import pytest

from gpu_runner.candidate import Language
from gpu_runner.jobs import Admit, Bench, Build, Check, Profile, Sanitize
from gpu_runner.terms import Demand, session_of, terms_of
from tests.builders import make_candidate, make_problem, make_workload
from tests.gpu_runner.executors import make_job

NEEDS = {"problem": make_problem(), "workloads": (make_workload(),)}


def make(kind, language=Language.CPP):
    values = {**NEEDS, "job_id": "job", "candidate": make_candidate(language=language)}
    if kind is Build:
        del values["workloads"]
    if kind is Bench:
        values["against"] = ({"name": "plain", "candidate": make_candidate()},)
    return kind(**values)


@pytest.mark.parametrize("kind", [Bench, Profile, Sanitize, Check])
def test_what_runs_a_kernel_owns_its_worker(kind):
    assert terms_of(make(kind)).demand == Demand()
    assert terms_of(make(kind, Language.CUDA)).demand == Demand(wish=frozenset({"gpu"}))


@pytest.mark.parametrize(
    ("language", "wish"),
    [
        (Language.CPP, set()),
        (Language.PYTHON, set()),
        (Language.CUDA, {"nvrtc"}),
        (Language.TRITON, {"triton"}),
    ],
)
def test_a_build_shares_and_wishes_for_its_compiler(language, wish):
    assert terms_of(make(Build, language)).demand == Demand(is_shared=True, wish=frozenset(wish))


@pytest.mark.parametrize(("device", "wish"), [("cpu", set()), ("cuda", {"gpu"})])
def test_an_admission_wishes_for_where_its_baseline_runs(device, wish):
    admit = Admit(job_id="job", device=device, **NEEDS)
    assert terms_of(admit).demand == Demand(wish=frozenset(wish))


@pytest.mark.parametrize(
    ("job_id", "session"),
    [
        ("softmax-20261122-ab12-r001-l0-a3-build-t0", "softmax-20261122-ab12"),
        ("softmax-20261122-ab12-admit-t0", "softmax-20261122-ab12"),
        ("softmax-rope-r2", "softmax-rope"),
        ("job", "job"),
        ("r1-job", "r1-job"),
    ],
)
def test_the_session_is_the_run_that_an_id_begins_with(job_id, session):
    assert session_of(job_id) == session


def test_what_a_submission_says_counts_more():
    terms = terms_of(make_job("run-r001-a"), session="mine", priority=8, need=("sm_90",))
    assert (terms.kind, terms.session, terms.priority) == ("build", "mine", 8)
    assert terms.demand.need == {"sm_90"}
