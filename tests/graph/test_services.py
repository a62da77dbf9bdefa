"""What nodes work with: estimates, allowances, decisions and stages of one run."""

import pytest

from graph import budget
from graph.errors import RunDamaged
from graph.events import JobFinished, StageEnded, StageStarted
from graph.ledger import AttemptOutcome
from graph.target import Budget
from tests.graph.builders import make_digest, make_plan, make_review, make_target
from tests.graph.nodes.workshop import Workshop


def limited(tmp_path, **limits) -> Workshop:
    return Workshop(tmp_path, target=make_target(budget=Budget(**{"rounds": 9, **limits})))


def benched(workshop: Workshop, seconds: float, name: str = "before") -> None:
    """One feedback bench: one sitting, two sides."""
    workshop.services.tell(
        JobFinished(
            key=f"job_finished:{name}",
            job_id=name,
            job="bench",
            outcome="benched",
            seconds=seconds,
            sittings=1,
            sides=2,
        )
    )


# -- the incumbent -------------------------------------------------------------------------------


def test_the_incumbent_is_a_side_with_its_version(tmp_path):
    workshop = Workshop(tmp_path)
    workshop.promoted(3, "us=60")
    assert workshop.services.incumbent(workshop.state()) is None
    side = workshop.services.incumbent(workshop.state(incumbent="a0003"))
    assert side is not None
    assert (side.name, side.version, side.is_trusted) == ("incumbent", "v003", False)
    assert "us=60" in side.candidate.sources[0].text


def test_a_row_the_ledger_lost_is_named_with_the_way_out(tmp_path):
    workshop = Workshop(tmp_path)
    with pytest.raises(RunDamaged, match=r"lost its row a0009; delete checkpoints\.sqlite"):
        workshop.services.attempt("a0009")


def test_the_view_is_of_the_files_as_they_are_now(tmp_path):
    workshop = Workshop(tmp_path)
    assert workshop.services.view(workshop.state()).attempts == ()
    workshop.promoted(1, "us=60")
    view = workshop.services.view(workshop.state(incumbent="a0001", round=4, idle_rounds=2))
    assert [past.attempt_id for past in view.attempts] == ["a0001"]
    assert (view.round, view.stalled_rounds, view.incumbent) == (4, 2, "a0001")
    assert {w.name for w in view.workloads} == {"small", "wide"}


# -- what the run may use ------------------------------------------------------------------------


def test_rounds_that_ended_are_spent(tmp_path):
    workshop = Workshop(tmp_path)
    workshop.clock.now_s = 12.0
    spent = workshop.services.spent(workshop.state(round=3))
    assert (spent.rounds, spent.wall_s) == (2, 12.0)


def test_before_any_bench_the_settings_estimate_the_final_claims(tmp_path):
    workshop = Workshop(tmp_path)
    state = workshop.state()
    assert workshop.services.bench_s(state, workshop.services.bench.claim, 1) == 0
    assert workshop.services.final_s(state) == workshop.services.loop.claim_expected_s


def test_benches_of_this_machine_replace_the_settings_estimate(tmp_path):
    workshop = Workshop(tmp_path)
    benched(workshop, 6.0)
    state, services = workshop.state(), workshop.services
    sittings = services.bench.claim.sittings
    assert services.bench_s(state, services.bench.claim, 1) == 3.0 * sittings * 2
    assert services.bench_s(state, services.bench.claim, 2) == 3.0 * sittings * 3
    assert services.final_s(state) > services.bench_s(state, services.bench.claim, 1)


def test_a_round_is_useful_with_time_for_feedback_of_each_lane_and_a_claim(tmp_path):
    workshop = Workshop(tmp_path)
    assert workshop.services.useful_s(workshop.state()) == 0
    benched(workshop, 4.0)
    services, state = workshop.services, workshop.state()
    feedback_s = services.bench_s(state, services.bench.feedback, 1)
    claim_s = services.bench_s(state, services.bench.claim, 1)
    assert services.useful_s(state) == feedback_s * 2 + claim_s


def test_later_phases_may_use_what_earlier_ones_had_to_leave(tmp_path):
    workshop = limited(tmp_path, wall_s=600)
    benched(workshop, 2.0)
    workshop.clock.now_s = 300.0
    state = workshop.state(promoted=2)
    loop, mapping, final = (
        workshop.services.time_left(state, 10_000, phase) for phase in ("loop", "map", "final")
    )
    assert loop is not None
    assert mapping is not None
    assert final is not None
    assert loop < mapping < final
    assert final == 300 - budget.closing(workshop.services.target.budget)
    assert mapping == final - workshop.services.final_s(state)


def test_a_wish_that_fits_is_granted_whole(tmp_path):
    workshop = limited(tmp_path, wall_s=6000)
    assert workshop.services.time_left(workshop.state(), 30.0) == 30.0


@pytest.mark.parametrize("now_s", [599.0, 600.0, 10_000.0])
def test_at_the_end_of_the_wall_clock_nothing_is_left(tmp_path, now_s):
    workshop = limited(tmp_path, wall_s=600)
    workshop.clock.now_s = now_s
    assert workshop.services.time_left(workshop.state(), 30.0, "final") is None


def test_without_limits_every_wish_is_granted(tmp_path):
    workshop = Workshop(tmp_path)
    workshop.clock.now_s = 1e6
    assert workshop.services.time_left(workshop.state(), 1234.0) == 1234.0


def test_timing_is_on_the_threads_of_the_target(tmp_path):
    hardware = make_target().hardware.model_copy(update={"threads": 2})
    workshop = Workshop(tmp_path, target=make_target(hardware=hardware))
    plan = workshop.services.bench.claim
    fitted = workshop.services.timing(plan, workshop.state(), 10_000.0, 1)
    assert fitted == plan.model_copy(update={"threads": 2})


def test_jobs_that_share_the_time_are_cut_each(tmp_path):
    workshop = Workshop(tmp_path)
    plan, state = workshop.services.bench.claim, workshop.state()
    whole = workshop.services.timing(plan, state, 4.5, 1)
    half = workshop.services.timing(plan, state, 4.5, 1, share=2)
    assert whole.most_s < plan.most_s
    assert half.most_s == pytest.approx(whole.most_s / 2)
    assert half.sittings == whole.sittings == plan.sittings
    nothing = workshop.services.timing(plan, state, None, 1)
    assert nothing.most_s <= half.most_s


# -- what the run says ---------------------------------------------------------------------------


def test_job_ids_say_run_and_purpose(tmp_path):
    services = Workshop(tmp_path).services
    assert services.job_id("map", "a0001") == "softmax-test-map-a0001"
    assert services.job_id("final", 0) == "softmax-test-final-0"


def test_a_decision_made_again_is_the_same_decision(tmp_path):
    workshop = Workshop(tmp_path)
    keys = {
        workshop.services.decide("plateau", choice, "why", at="r003", evidence=("x",))
        for choice in ("pivot", "pivot")
    }
    assert keys == {"decision:plateau:r003"}
    (decision,) = workshop.decisions("plateau")
    assert decision.evidence == ("x",)


@pytest.mark.parametrize(("exit_reason", "began_in"), [("", 3), ("plateau", 2)])
async def test_a_stage_after_the_end_belongs_to_the_round_before(tmp_path, exit_reason, began_in):
    workshop = Workshop(tmp_path)
    state = workshop.state(round=3, exit_reason=exit_reason)
    async with workshop.services.stage("autotune", state):
        assert workshop.kinds() == ["stage_started"]
    began, ended = workshop.files.events.read()
    assert isinstance(began, StageStarted)
    assert isinstance(ended, StageEnded)
    assert (began.stage, began.round, ended.round) == ("autotune", began_in, 3)


async def test_a_stage_that_fails_did_not_end(tmp_path):
    workshop = Workshop(tmp_path)
    with pytest.raises(OSError, match="disk"):
        async with workshop.services.stage("bench", workshop.state()):
            raise OSError("disk")
    assert workshop.kinds() == ["stage_started"]


# -- the run directory beside it -----------------------------------------------------------------


def test_replies_of_one_key_are_told_apart_by_their_kind(tmp_path):
    files = Workshop(tmp_path).files
    files.save_reply("r002", make_digest())
    files.save_reply("r002", make_review(advice="on"))
    assert files.reply(type(make_digest()), "r002") == make_digest()
    assert files.reply(type(make_review()), "r002") == make_review(advice="on")
    assert list(files.replies(type(make_plan()))) == ["r001"]


def test_a_row_is_written_once(tmp_path):
    workshop = Workshop(tmp_path)
    first = workshop.promoted(1, "us=60")
    again = workshop.promoted(1, "us=60", outcome=AttemptOutcome.REJECTED)
    assert again == first
    assert workshop.files.attempts() == (first,)
