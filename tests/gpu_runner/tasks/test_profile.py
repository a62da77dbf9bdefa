import pytest

from gpu_runner.candidate import Language, Launch, LaunchPlan
from gpu_runner.device.machine import identities
from gpu_runner.errors import SubjectFailed, ToolchainMissing
from gpu_runner.jobs import Profile, Profiled, Reason
from gpu_runner.tasks.profile import _per_call_ns, profile
from tests.builders import SOFTMAX_CPP, make_candidate, make_problem, make_workload


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return tmp_path_factory.mktemp("workspace")


def run(workspace, *, workloads=None, **changes):
    job = Profile(
        job_id="r-1-profile",
        problem=make_problem(),
        candidate=make_candidate(**changes),
        workloads=workloads or (make_workload(),),
    )
    return profile(job, workspace=workspace)


@pytest.mark.timed
def test_softmax_in_cpp_gives_every_kind_of_fact(workspace):
    workloads = (
        make_workload(),
        make_workload(name="wide", axes={"B": 2, "N": 4096}),
        make_workload(name="secret", axes={"B": 3, "N": 31}, visibility="hidden"),
    )
    outcome = run(workspace, workloads=workloads)
    assert isinstance(outcome, Profiled)
    facts = outcome.facts
    assert facts.tier == "cpu"
    assert any("expf" in remark.text for remark in facts.remarks)
    assert facts.instructions is not None
    assert [r.workload for r in facts.roofline] == ["small", "wide"]
    assert all(r.time_us > 0 and r.floor_us > 0 for r in facts.roofline)
    assert {"small.busy_threads", "wide.busy_threads"} <= set(facts.counters)
    assert "secret" not in outcome.model_dump_json()
    assert list((workspace / "scratch").iterdir()) == []


@pytest.mark.timed
def test_python_has_a_roofline_and_names_what_is_missing(workspace):
    outcome = run(workspace, language=Language.PYTHON, text="def run(x): return x.clone()\n")
    assert isinstance(outcome, Profiled)
    assert len(outcome.facts.roofline) == 1
    assert outcome.facts.instructions is None
    assert any("none of python" in text for text in outcome.facts.unavailable)


@pytest.mark.parametrize("language", [Language.CUDA, Language.TRITON])
@pytest.mark.skipif(bool(identities()), reason="there is a CUDA device")
def test_gpu_languages_are_for_another_worker(workspace, language):
    launch = Launch(kernel="k", grid=("1", "1", "1"), block=("32", "1", "1"), arguments=("x", "y"))
    plans = (LaunchPlan(launches=(launch,)),)
    with pytest.raises(ToolchainMissing, match="send the job to a GPU worker"):
        run(workspace, language=language, text="x", plans=plans)


def test_candidate_that_does_not_build_is_its_own_fault(workspace):
    with pytest.raises(SubjectFailed) as failure:
        run(workspace, text="int x = ;\n")
    assert failure.value.reason is Reason.COMPILE_FAILED


@pytest.mark.timed
def test_candidate_that_fails_is_its_own_fault(workspace):
    with pytest.raises(SubjectFailed) as failure:
        run(workspace, text=SOFTMAX_CPP.replace("return 0;", "return 7;"))
    assert failure.value.reason is Reason.ENTRY_FAILED


@pytest.mark.parametrize(
    ("one_ns", "all_ns", "slots", "expected"),
    [
        (100_000, 400_000, 4, 100_000.0),
        (60_000, 91_000, 32, 1_000.0),
        (80_000, 90_000, 1, 80_000.0),
        (100_000, 90_000, 10, 9_000.0),
    ],
)
def test_cost_of_the_token_is_not_the_call(one_ns, all_ns, slots, expected):
    assert _per_call_ns(one_ns, all_ns, slots) == expected
