"""From a draft to a measured candidate: build, check and bench, each over all lanes."""

import pytest

from gpu_runner.jobs import Bench, Build, Check, Reason, Stage
from gpu_runner.records import Verdict
from graph.errors import LoopError
from graph.ledger import AttemptOutcome
from graph.nodes.bench import bench
from graph.nodes.build import build
from graph.nodes.check import check
from tests.graph.builders import make_admitted
from tests.graph.pool import ScenarioPool


def statuses(update) -> dict[str, str]:
    return {key: lane.status for key, lane in update["lanes"].items()}


def rows(workshop) -> dict[str, AttemptOutcome]:
    return {row.attempt_id: row.outcome for row in workshop.files.attempts()}


# -- build ---------------------------------------------------------------------------------------


async def test_every_draft_is_built_and_what_does_not_compile_is_a_row(workshop):
    lanes = (workshop.lane(0, "us=60"), workshop.lane(1, "us=60 build=fail"))
    update = await build(workshop.state(*lanes), workshop.runtime)
    assert statuses(update) == {"0": "built", "1": "rejected"}
    assert update["issued"] == 2
    (row,) = workshop.files.attempts()
    assert (row.attempt_id, row.stage, row.reason) == (
        "a0002",
        Stage.BUILD,
        Reason.COMPILE_FAILED,
    )
    assert "error: expected ';'" in update["lanes"]["1"].message, "the writer reads the log"


async def test_only_drafts_are_built(workshop):
    lanes = (
        workshop.lane(0, "us=1", status="built"),
        workshop.lane(1, "us=2", status="undrafted"),
        workshop.lane(2, "us=3"),
    )
    update = await build(workshop.state(*lanes), workshop.runtime)
    assert statuses(update) == {"2": "built"}
    (job,) = workshop.ran()
    assert isinstance(job, Build)
    assert job.timeout_s == workshop.services.jobs.build_s


async def test_attempt_ids_are_given_once_whatever_became_of_them(workshop):
    lanes = (workshop.lane(0, "us=1"), workshop.lane(1, "us=2", status="undrafted"))
    assert (await build(workshop.state(*lanes), workshop.runtime))["issued"] == 2
    later = workshop.state(workshop.lane(0, "us=1"), issued=9)
    assert (await build(later, workshop.runtime))["issued"] == 9


async def test_a_repaired_lane_is_another_visit_of_the_node(workshop):
    await build(workshop.state(workshop.lane(0, "us=1 build=fail")), workshop.runtime)
    repaired = workshop.lane(0, "us=1", repair=1, attempt_id="a0003")
    update = await build(workshop.state(repaired), workshop.runtime)
    assert statuses(update) == {"0": "built"}
    assert workshop.kinds().count("stage_started") == 2


# -- check ---------------------------------------------------------------------------------------


async def test_what_is_right_gets_a_version_in_the_order_of_lanes(workshop):
    lanes = (
        workshop.lane(0, "us=1", status="built"),
        workshop.lane(1, "us=2 check=fail", status="built"),
        workshop.lane(2, "us=3", status="built"),
    )
    update = await check(workshop.state(*lanes, versions=4), workshop.runtime)
    assert statuses(update) == {"0": "checked", "1": "rejected", "2": "checked"}
    assert [lane.version for lane in update["lanes"].values()] == ["v005", "", "v006"]
    assert update["versions"] == 6
    assert rows(workshop) == {"a0002": AttemptOutcome.REJECTED}


async def test_a_check_covers_hidden_workloads_and_repeats_nothing_a_candidate_printed(workshop):
    lane = workshop.lane(0, "us=2 check=fail", status="built")
    update = await check(workshop.state(lane), workshop.runtime)
    (job,) = workshop.ran()
    assert isinstance(job, Check)
    assert [w.name for w in job.workloads] == ["small", "wide", "odd"]
    assert update["lanes"]["0"].message == "check failed"
    assert "printed by the candidate" not in workshop.files.attempts()[0].message


# -- bench ---------------------------------------------------------------------------------------


async def test_before_a_promotion_the_rival_is_the_first_baseline(workshop):
    lane = workshop.lane(0, "us=60", status="checked")
    update = await bench(workshop.state(lane), workshop.runtime)
    (job,) = workshop.benches()
    assert [side.name for side in job.against] == ["torch eager"]
    assert job.hidden == ()
    assert job.plan.sittings == 1
    measured = update["lanes"]["0"]
    assert (measured.status, measured.verdict) == ("measured", Verdict.FASTER)
    assert measured.speedup == pytest.approx(100 / 60, rel=0.01)
    assert measured.record_id in workshop.files.records()


async def test_later_the_rival_is_the_incumbent(workshop):
    workshop.promoted(1, "us=50")
    lane = workshop.lane(1, "us=60", status="checked")
    update = await bench(workshop.state(lane, incumbent="a0001"), workshop.runtime)
    assert [side.name for side in workshop.benches()[0].against] == ["incumbent"]
    assert update["lanes"]["1"].verdict is Verdict.SLOWER
    assert workshop.files.attempts()[1].outcome is AttemptOutcome.MEASURED


async def test_all_but_the_one_worth_a_claim_are_decided_by_their_feedback(workshop):
    lanes = [
        workshop.lane(number, f"us={us}", status="checked")
        for number, us in enumerate((70, 50, 100))
    ]
    await bench(workshop.state(*lanes), workshop.runtime)
    decided = workshop.files.attempts()
    assert [row.attempt_id for row in decided] == ["a0001", "a0003"]
    assert all(row.feedback is not None for row in decided)


async def test_where_none_is_faster_all_are_decided(workshop):
    lanes = [workshop.lane(number, "us=100", status="checked") for number in range(2)]
    await bench(workshop.state(*lanes), workshop.runtime)
    assert set(rows(workshop)) == {"a0001", "a0002"}


async def test_what_answers_stale_results_is_rejected_when_it_is_timed(workshop):
    lane = workshop.lane(0, "us=1 bench=fail", status="checked")
    update = await bench(workshop.state(lane), workshop.runtime)
    assert statuses(update) == {"0": "rejected"}
    assert workshop.files.attempts()[0].reason is Reason.STALE_RESULT


# -- all of them ---------------------------------------------------------------------------------

STEPS = [(build, "drafted", Build), (check, "built", Check), (bench, "checked", Bench)]


@pytest.mark.parametrize(("node", "status", "kind"), STEPS)
async def test_a_node_repeated_after_a_kill_runs_no_job_twice(workshop, node, status, kind):
    state = workshop.state(workshop.lane(0, "us=60", status=status))
    first = await node(state, workshop.runtime)
    assert await node(state, workshop.runtime) == first
    (job,) = workshop.ran()
    assert isinstance(job, kind)


@pytest.mark.parametrize(("node", "status", "kind"), STEPS)
async def test_what_our_side_loses_for_good_is_unserved_and_no_fault(workshop, node, status, kind):
    lane = workshop.lane(0, "us=60 lost=99", status=status)
    update = await node(workshop.state(lane), workshop.runtime)
    assert statuses(update) == {"0": "unserved"}
    assert rows(workshop) == {"a0001": AttemptOutcome.UNSERVED}
    assert len(workshop.ran()) == workshop.services.jobs.tries
    assert all(isinstance(job, kind) for job in workshop.ran())


@pytest.mark.parametrize(("node", "status"), [step[:2] for step in STEPS])
async def test_lanes_of_an_earlier_round_are_left_alone(workshop, node, status):
    state = workshop.state(workshop.lane(0, "us=60", status=status), round=2)
    update = await node(state, workshop.runtime)
    assert update["lanes"] == {}
    assert workshop.ran() == []


class Confused(ScenarioPool):
    """Answers every job as if it had been asked to admit a target."""

    async def run(self, job):
        return make_admitted(job.job_id)


@pytest.mark.parametrize(("node", "status", "kind"), STEPS)
async def test_an_answer_to_another_question_is_a_fault_of_the_runner(
    make_workshop, node, status, kind
):
    workshop = make_workshop(pool=Confused())
    state = workshop.state(workshop.lane(0, "us=60", status=status))
    with pytest.raises(LoopError, match=rf"\({kind.__name__.lower()}\) ended as .* update it"):
        await node(state, workshop.runtime)
    assert rows(workshop) == {}
