"""The measurement that a promotion rests on."""

import pytest

from gpu_runner.jobs import Benched
from gpu_runner.records import Verdict
from graph.events import JobFinished
from graph.ledger import AttemptOutcome
from graph.nodes.claim import claim
from graph.target import Budget, Goal
from tests.graph.builders import make_baseline, make_target

FASTER = {"status": "measured", "verdict": Verdict.FASTER, "speedup": 1.5, "version": "v001"}


def bench_took(seconds: float) -> JobFinished:
    """A feedback bench that took so long, all sides and sittings of it."""
    return JobFinished(
        key="job_finished:before",
        job_id="before",
        job="bench",
        outcome="benched",
        seconds=seconds,
        sittings=1,
        sides=2,
    )


async def test_the_first_claim_is_against_the_first_baseline(workshop):
    lane = workshop.lane(0, "us=60", **FASTER)
    update = await claim(workshop.state(lane), workshop.runtime)
    assert update == {"claimed": "a0001", "claim_tries": 1}
    (job,) = workshop.benches()
    assert job.job_id == "softmax-test-r001-l0-a0001-claim-t0"
    assert [side.name for side in job.against] == ["torch eager"]
    assert [w.name for w in job.workloads] == ["small", "wide"]
    assert [w.name for w in job.hidden] == ["odd"]
    assert job.plan.sittings >= 5


async def test_a_later_claim_is_against_the_incumbent_too(workshop):
    workshop.promoted(1, "us=80")
    lane = workshop.lane(1, "us=60", **FASTER)
    state = workshop.state(lane, incumbent="a0001", claim_tries=2)
    update = await claim(state, workshop.runtime)
    assert update["claim_tries"] == 3
    (job,) = workshop.benches()
    assert [side.name for side in job.against] == ["incumbent", "torch eager"]
    assert "us=80" in job.against[0].candidate.sources[0].text


@pytest.mark.parametrize(
    ("aim", "names"),
    [
        ("torch eager", ["torch eager"]),
        ("torch compile", ["torch eager", "torch compile"]),
        ("other", ["torch eager", "other"]),
    ],
)
async def test_of_the_further_baselines_only_the_goals_is_measured(make_workshop, aim, names):
    sides = (make_baseline(), make_baseline("torch compile", 90.0), make_baseline("other", 95.0))
    workshop = make_workshop(target=make_target(baselines=sides, goal=Goal(against=aim)))
    await claim(workshop.state(workshop.lane(0, "us=60", **FASTER)), workshop.runtime)
    assert [side.name for side in workshop.benches()[0].against] == names


async def test_of_several_faster_lanes_the_fastest_is_claimed(workshop):
    slow = workshop.lane(0, "us=70", **FASTER)
    fast = workshop.lane(1, "us=50", **{**FASTER, "speedup": 2.0})
    update = await claim(workshop.state(slow, fast), workshop.runtime)
    assert update["claimed"] == "a0002"


async def test_without_a_faster_lane_nothing_is_measured(workshop):
    lane = workshop.lane(0, "us=100", **{**FASTER, "verdict": Verdict.SAME})
    assert await claim(workshop.state(lane), workshop.runtime) == {"claimed": ""}
    assert workshop.ran() == []


async def test_a_claim_that_would_not_fit_is_not_begun_and_the_row_is_written(make_workshop):
    workshop = make_workshop(target=make_target(budget=Budget(rounds=3, wall_s=100)))
    workshop.services.tell(bench_took(60.0))
    lane = workshop.lane(0, "us=60", **FASTER)
    update = await claim(workshop.state(lane), workshop.runtime)
    assert update["claimed"] == ""
    assert "claim_tries" not in update, "nothing was tried"
    assert update["lanes"]["0"].verdict is None
    assert workshop.ran() == []
    (row,) = workshop.files.attempts()
    assert row.outcome is AttemptOutcome.MEASURED
    assert row.message.startswith("feedback says FASTER; no claim: 300 s are needed")
    assert [d.choice for d in workshop.decisions("claim")] == ["none"]


async def test_what_cheats_in_its_claim_is_rejected_and_the_try_counts(workshop):
    lane = workshop.lane(0, "us=60 bench=fail", **FASTER)
    update = await claim(workshop.state(lane), workshop.runtime)
    assert (update["claimed"], update["claim_tries"]) == ("", 1)
    stopped = update["lanes"]["0"]
    assert (stopped.status, stopped.verdict) == ("rejected", None)
    (row,) = workshop.files.attempts()
    assert (row.outcome, row.reason) == (AttemptOutcome.REJECTED, "stale_result")


async def test_a_claim_our_side_cannot_serve_is_none_and_does_not_count(workshop):
    lane = workshop.lane(0, "us=60 lost=99", **FASTER)
    update = await claim(workshop.state(lane), workshop.runtime)
    assert update["claimed"] == ""
    assert "claim_tries" not in update
    assert len(workshop.ran()) == workshop.services.jobs.tries
    (row,) = workshop.files.attempts()
    assert row.outcome is AttemptOutcome.MEASURED
    assert "worker gone" in row.message


async def test_a_claim_repeated_after_a_kill_measures_nothing_again(workshop):
    lane = workshop.lane(0, "us=60", **FASTER)
    first = await claim(workshop.state(lane), workshop.runtime)
    again = await claim(workshop.state(lane), workshop.runtime)
    assert first == again
    assert len(workshop.ran()) == 1
    outcome = workshop.files.outcome("softmax-test-r001-l0-a0001-claim-t0")
    assert isinstance(outcome, Benched)
    assert workshop.kinds().count("stage_started") == 1
