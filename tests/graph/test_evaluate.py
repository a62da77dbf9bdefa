"""Judging one candidate outside of a run."""

import pytest

from gpu_runner.candidate import Contender
from gpu_runner.jobs import Bench, Check, Unserved
from gpu_runner.records import TimingPlan, Verdict
from graph.errors import EvaluationError
from graph.evaluate import Trial, contender_of, evaluate
from graph.settings import load_settings
from tests.builders import make_candidate
from tests.graph.builders import make_target
from tests.graph.pool import ScenarioPool

JOBS = load_settings().jobs


def make_trial(text: str = "us=50", **changes) -> Trial:
    target = make_target()
    values = {
        "target": target,
        "candidate": make_candidate(text=f"// {text}"),
        "against": target.baselines[0],
        "plan": TimingPlan(sittings=5, most_sittings=5),
    }
    return Trial(**{**values, **changes})


@pytest.mark.parametrize(
    ("text", "verdict"),
    [("us=50", Verdict.FASTER), ("us=100", Verdict.SAME), ("us=200", Verdict.SLOWER)],
)
async def test_a_verdict_is_arithmetic_over_the_record(text, verdict):
    found = await evaluate(make_trial(text), ScenarioPool(), JOBS)
    assert found.verdict is verdict
    assert found.low is not None
    assert found.high is not None
    assert found.speedup is not None
    assert found.low <= found.speedup <= found.high
    assert set(found.workloads) == {"small", "wide"}
    assert found.sittings == 5


async def test_the_candidate_is_checked_on_everything_before_it_is_timed():
    pool = ScenarioPool()
    await evaluate(make_trial(), pool, JOBS)
    check, bench = pool.ran
    assert isinstance(check, Check)
    assert isinstance(bench, Bench)
    assert [w.name for w in check.workloads] == ["small", "wide", "odd"]
    assert [w.name for w in bench.workloads] == ["small", "wide"]
    assert [w.name for w in bench.hidden] == ["odd"]


@pytest.mark.parametrize(
    ("text", "reason", "stage", "jobs"),
    [("check=fail", "wrong_result", "check", 1), ("bench=fail", "stale_result", "bench", 2)],
)
async def test_a_rejection_is_a_verdict_with_its_reason(text, reason, stage, jobs):
    pool = ScenarioPool()
    found = await evaluate(make_trial(text), pool, JOBS)
    assert (found.verdict, found.reason, found.stage) == (Verdict.REJECTED, reason, stage)
    assert found.speedup is None
    assert len(pool.ran) == jobs


async def test_another_candidate_can_be_the_other_side():
    against = Contender(name="against", candidate=make_candidate(text="// us=25"))
    found = await evaluate(make_trial("us=50", against=against), ScenarioPool(), JOBS)
    assert found.verdict is Verdict.SLOWER
    assert found.against == "against"


async def test_the_same_candidate_on_both_sides_is_the_same():
    same = Contender(name="against", candidate=make_candidate(text="// us=50"))
    found = await evaluate(make_trial("us=50", against=same), ScenarioPool(), JOBS)
    assert found.verdict is Verdict.SAME


async def test_feedback_takes_one_sitting_and_says_so():
    plan = TimingPlan(sittings=1, most_sittings=1)
    found = await evaluate(make_trial(plan=plan, is_claim=False), ScenarioPool(), JOBS)
    assert found.reason.startswith("feedback of 1 sittings")


async def test_our_own_failure_is_an_error_and_no_verdict():
    class Lost(ScenarioPool):
        async def run(self, job):
            return Unserved(
                job_id=job.job_id, cause="no_tool", message="install g++", is_retryable=False
            )

    with pytest.raises(EvaluationError, match=r"no_tool.*install g\+\+"):
        await evaluate(make_trial(), Lost(), JOBS)


async def test_the_record_is_kept_where_it_is_asked_for(tmp_path):
    found = await evaluate(make_trial(), ScenarioPool(), JOBS, tmp_path)
    assert [path.stem for path in tmp_path.iterdir()] == [found.record_id]


async def test_the_words_say_verdict_interval_and_every_workload():
    words = (await evaluate(make_trial(), ScenarioPool(), JOBS)).words()
    assert words.startswith("FASTER: claim of 5 sittings")
    assert "vs torch eager" in words
    assert "small" in words
    assert "wide" in words
    rejected = (await evaluate(make_trial("check=fail"), ScenarioPool(), JOBS)).words()
    assert rejected.splitlines() == ["REJECTED: wrong_result", "  check failed"]


def test_the_first_baseline_is_the_default_other_side():
    target = make_target()
    assert contender_of(target, "") is target.baselines[0]
    assert contender_of(target, "torch compile") is target.baselines[1]
    with pytest.raises(EvaluationError, match="did you mean 'torch compile'"):
        contender_of(target, "torch compil")
