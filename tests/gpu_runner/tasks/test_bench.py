from collections import Counter
from pathlib import Path

import pytest

from gpu_runner.candidate import Candidate, Contender, Language
from gpu_runner.decision import decide
from gpu_runner.errors import SubjectFailed
from gpu_runner.jobs import Bench, Reason
from gpu_runner.message import digest_of
from gpu_runner.records import TimingPlan, Verdict
from gpu_runner.tasks.bench import _refuse_impossible, bench
from gpu_runner.tasks.sides import ContenderFailed
from tests.builders import SOFTMAX_CPP, make_candidate, make_problem, make_workload

pytestmark = pytest.mark.timed

PLAN = TimingPlan(pairs=12, most_pairs=20, candidate_s=0, warmup_s=0.01, most_s=2.0)
WORKLOADS = (
    make_workload(weight=3),
    make_workload(name="rows", axes={"B": 32, "N": 256}),
)
HIDDEN = (make_workload(name="odd", axes={"B": 3, "N": 33}, visibility="hidden"),)
TWICE = SOFTMAX_CPP.replace("    return 0;\n}", "    return 0;\n}\n").replace(
    'extern "C" int kp_run', "static int once"
) + (
    '\nextern "C" int kp_run(const struct softmax_args* a) {\n'
    "    for (int i = 0; i < 3; ++i) once(a);\n    return 0;\n}\n"
)


def make_bench(candidate: Candidate, *against: Contender, **changes) -> Bench:
    values = {
        "job_id": "b",
        "problem": make_problem(),
        "candidate": candidate,
        "against": against or (Contender(name="plain", candidate=make_candidate()),),
        "workloads": WORKLOADS,
        "hidden": HIDDEN,
        "plan": PLAN,
    }
    return Bench(**{**values, **changes})


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


def test_a_record_holds_every_pair_of_every_workload_and_contender(workspace):
    others = (
        Contender(name="plain", candidate=make_candidate()),
        Contender(name="tensor", candidate=make_candidate(language=Language.PYTHON)),
    )
    job = make_bench(make_candidate(text=SOFTMAX_CPP + "\n"), *others)
    record = bench(job, workspace=workspace).record
    assert record.candidate_digest == job.candidate.digest
    assert record.problem_digest == digest_of(job.problem)
    assert record.against == {c.name: c.candidate.digest for c in others}
    (sitting,) = record.sittings
    seen = Counter((series.workload, series.against) for series in sitting.series)
    assert seen == Counter((w.name, c.name) for w in WORKLOADS for c in others)
    for series in sitting.series:
        lengths = {
            len(series.candidate_us),
            len(series.against_us),
            len(series.candidate_cpu_us),
            len(series.against_cpu_us),
        }
        assert len(lengths) == 1
        assert 12 <= lengths.pop() <= 20
        assert min(*series.candidate_us, *series.against_us) > 0
        assert series.slots >= 1
    # Candidate and untrusted contenders in every block, the first three of which do not count.
    least = sum(s.slots * (len(s.candidate_us) + 3) * 3 / 2 for s in sitting.series)
    assert sitting.verified_outputs == int(least) + len(HIDDEN)


def test_pairs_of_one_sitting_share_the_candidates_time(workspace):
    others = tuple(Contender(name=n, candidate=make_candidate()) for n in ("one", "two"))
    record = bench(make_bench(make_candidate(), *others), workspace=workspace).record
    first, second = (s for s in record.sittings[0].series if s.workload == "rows")
    assert first.candidate_us == second.candidate_us
    assert first.against_us != second.against_us


def test_every_sitting_has_a_key_of_its_own(workspace):
    plan = PLAN.model_copy(update={"sittings": 3, "most_sittings": 3})
    record = bench(make_bench(make_candidate(), plan=plan), workspace=workspace).record
    assert [sitting.index for sitting in record.sittings] == [0, 1, 2]
    assert len({sitting.key_digest for sitting in record.sittings}) == 3


def test_three_times_the_work_is_slower_and_a_third_of_it_faster(workspace):
    plan = PLAN.model_copy(update={"sittings": 5, "most_sittings": 5})
    slow, plain = make_candidate(text=TWICE), make_candidate()
    for candidate, other, verdict in ((slow, plain, Verdict.SLOWER), (plain, slow, Verdict.FASTER)):
        job = make_bench(candidate, Contender(name="other", candidate=other), plan=plan)
        decision = decide(bench(job, workspace=workspace).record, "other", basis="claim")
        assert decision.overall.verdict is verdict
        assert decision.sittings == 5


def test_a_result_that_goes_wrong_only_while_timed_is_found(workspace):
    text = SOFTMAX_CPP.replace(
        "return 0;",
        "static int calls; if (++calls > 90 && a->N == 256) a->y[0] *= 2;\n    return 0;",
    )
    with pytest.raises(SubjectFailed) as caught:
        bench(make_bench(make_candidate(text=text)), workspace=workspace)
    assert caught.value.reason in {Reason.WRONG_RESULT, Reason.STALE_RESULT}


def test_a_shape_that_was_never_timed_is_asked_for_afterwards(workspace):
    text = SOFTMAX_CPP.replace("return 0;", "if (a->N == 33) a->y[0] = 0;\n    return 0;")
    with pytest.raises(SubjectFailed) as caught:
        bench(make_bench(make_candidate(text=text)), workspace=workspace)
    assert caught.value.message == "hidden shape after timing: the result is wrong"


def test_a_failing_contender_says_nothing_of_the_candidate(workspace):
    broken = make_candidate(text=SOFTMAX_CPP.replace("return 0;", "return 1;"))
    job = make_bench(make_candidate(), Contender(name="other", candidate=broken))
    with pytest.raises(ContenderFailed, match="contender 'other' failed"):
        bench(job, workspace=workspace)


def test_times_that_no_copy_could_reach_are_refused(workspace):
    job = make_bench(make_candidate())
    record = bench(job, workspace=workspace).record
    _refuse_impossible(record, job, workspace)
    (sitting,) = record.sittings
    hurried = tuple(
        series.model_copy(update={"candidate_us": tuple(us / 1e4 for us in series.candidate_us)})
        for series in sitting.series
    )
    sittings = (sitting.model_copy(update={"series": hurried}),)
    with pytest.raises(SubjectFailed, match="work was not done") as caught:
        _refuse_impossible(record.model_copy(update={"sittings": sittings}), job, workspace)
    assert caught.value.reason is Reason.FASTER_THAN_POSSIBLE
