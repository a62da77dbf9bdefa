"""Whole runs of the state machine, with a team and a pool that answer from tables."""

import asyncio
import re

import pytest

from agents.contexts import PlanContext, WriteContext
from agents.replies import CheckRule, Finding
from graph.errors import RunTooNew
from graph.ledger import AttemptOutcome, ExitReason
from graph.settings import load_settings
from graph.target import Budget, Goal, Scope
from tests.graph.builders import make_check, make_plan, make_review, make_target
from tests.graph.pool import ScenarioPool
from tests.graph.teams import MALFORMED, NOTHING, TableTeam

NEVER = make_plan(
    (make_check(CheckRule.ATTEMPTS_MADE, "9999"), make_check(CheckRule.WRONG_IS_REJECTED))
)
"""A plan that no short run completes."""


def budget(**changes) -> Budget:
    return Budget(**{"rounds": 3, "plateau_attempts": 50, **changes})


# -- the way of a round --------------------------------------------------------------------------


async def test_a_run_that_meets_its_goal_ships_what_it_proved(run_loop):
    ran = await run_loop(TableTeam({"1.0": "us=80", "1.1": "us=60"}))
    assert ran.result.exit_reason is ExitReason.GOAL_MET
    assert ran.outcomes() == {"a0001": "measured", "a0002": "promoted"}
    assert ran.result.best_attempt == "a0002"
    assert [claim.against for claim in ran.result.best] == ["torch eager", "torch compile"]
    assert ran.result.best[0].overall.speedup == pytest.approx(100 / 60, rel=0.01)
    assert ran.stages() == [
        "admit", "plan", "research", "write", "write", "build", "check", "bench", "claim",
        "profile", "review", "inspect", "autotune", "finish",
    ]  # fmt: skip
    assert ran.files.result() == ran.result


async def test_every_number_of_the_result_resolves_to_a_record(run_loop):
    ran = await run_loop(TableTeam({"1.0": "us=80"}))
    records = ran.files.records()
    cited = {claim.record_id for claim in ran.result.best}
    for attempt in ran.files.attempts():
        cited |= {claim.record_id for claim in attempt.claims}
        cited |= {attempt.feedback.record_id} if attempt.feedback else set()
    tuning = ran.files.tuning()
    assert tuning is not None
    cited |= {point.record_id for point in tuning.points}
    assert cited
    assert cited <= set(records)


async def test_the_final_claims_are_benches_of_their_own_one_for_each_baseline(run_loop):
    ran = await run_loop(TableTeam({"1.0": "us=80"}))
    final = [job for job in ran.pool.ran if "-final-" in job.job_id]
    assert [[side.name for side in job.against] for job in final] == [
        ["torch eager"],
        ["torch compile"],
    ]
    assert [bool(job.hidden) for job in final] == [True, False]
    assert all(job.plan.sittings >= 5 for job in final)


async def test_feedback_is_against_the_baseline_first_and_the_incumbent_later(run_loop):
    team = TableTeam({"1.0": "us=80", "2.0": "us=60"}, plan=NEVER)
    ran = await run_loop(team, target=make_target(budget=budget(rounds=2)))
    sides = {
        job.job_id.split("test-")[1]: [side.name for side in job.against]
        for job in ran.pool.ran
        if job.kind == "bench"
    }
    assert sides["r001-l0-a0001-bench-t0"] == ["torch eager"]
    assert sides["r001-l0-a0001-claim-t0"] == ["torch eager"]
    assert sides["r002-l0-a0003-bench-t0"] == ["incumbent"]
    assert sides["r002-l0-a0003-claim-t0"] == ["incumbent", "torch eager"]
    assert ran.outcomes()["a0003"] == "promoted"
    assert [a.parent for a in ran.files.attempts()] == [None, None, "a0001", "a0001"]


async def test_the_goals_baseline_is_claimed_against_too(run_loop):
    goal = Goal(speedup=1.1, against="torch compile")
    ran = await run_loop(TableTeam({"1.0": "us=60"}), target=make_target(goal=goal))
    claim = next(job for job in ran.pool.ran if "-claim-" in job.job_id)
    assert [side.name for side in claim.against] == ["torch eager", "torch compile"]
    assert ran.result.exit_reason is ExitReason.GOAL_MET


async def test_hidden_workloads_are_checked_and_never_timed(run_loop):
    ran = await run_loop(TableTeam({"1.0": "us=80"}))
    for job in ran.pool.ran:
        names = [w.name for w in getattr(job, "workloads", ())]
        assert ("odd" in names) is (job.kind in {"admit", "check"})


async def test_no_role_ever_sees_a_hidden_workload(run_loop):
    ran = await run_loop(TableTeam({"1.0": "us=80"}, plan=NEVER))
    assert ran.team.asked
    for context in ran.team.asked:
        assert '"odd"' not in context.model_dump_json()


async def test_a_slower_candidate_never_wins_whatever_the_review_says(run_loop):
    reviews = {n: make_review(verdict="ADVANCED", route="autotune") for n in range(1, 4)}
    ran = await run_loop(TableTeam({"1.0": "us=130"}, reviews=reviews))
    assert set(ran.outcomes().values()) == {"measured"}
    assert ran.result.best_attempt is None
    assert ran.result.exit_reason is ExitReason.BUDGET_ROUNDS


async def test_a_blocking_finding_stops_a_promotion_and_is_recorded(run_loop):
    finding = Finding(lane="blocking", severity=0, text="reads out of bounds")
    team = TableTeam({"1.0": "us=80"}, reviews={1: make_review(findings=(finding,))}, plan=NEVER)
    ran = await run_loop(team, target=make_target(budget=budget(rounds=1)))
    row = ran.files.attempts()[0]
    assert row.outcome is AttemptOutcome.MEASURED
    assert "reads out of bounds" in row.message
    assert row.claims


async def test_versions_are_given_to_attempts_that_passed_every_check(run_loop):
    team = TableTeam({"1.0": "check=fail", "1.1": "us=95", "2.0": "us=93"}, plan=NEVER)
    ran = await run_loop(team, target=make_target(budget=budget(rounds=2)))
    assert [a.version for a in ran.files.attempts()] == ["", "v001", "v002", "v003"]


async def test_later_claims_are_corrected_for_those_before(run_loop):
    team = TableTeam({"1.0": "us=80", "2.0": "us=60"}, plan=NEVER)
    blocked = make_review(findings=(Finding(lane="blocking", severity=1, text="no"),))
    team.reviews = {1: blocked}
    ran = await run_loop(team, target=make_target(budget=budget(rounds=2)))
    first, second = (a.claims[0].confidence for a in ran.files.attempts() if a.claims)
    assert second > first


async def test_the_rejection_is_shown_to_the_writer_and_the_log_of_a_check_is_not(run_loop):
    team = TableTeam({"1.0": "check=fail", "1.1": "build=fail"}, plan=NEVER)
    ran = await run_loop(team, target=make_target(budget=budget(rounds=2)))
    last = [c for c in ran.team.asked if isinstance(c, WriteContext)][-1]
    messages = [a.message for a in last.view.attempts if a.outcome == "rejected"]
    assert any("expected ';'" in message for message in messages)
    assert not any("printed by the candidate" in message for message in messages)


# -- repairs -------------------------------------------------------------------------------------


async def test_a_compile_failure_is_repaired_without_using_a_round(run_loop):
    team = TableTeam({"1.0": "build=fail", "1.0.repair": "us=60", "1.1": "us=95"})
    ran = await run_loop(team)
    assert ran.result.rounds == 1
    assert ran.outcomes() == {"a0001": "rejected", "a0002": "measured", "a0003": "promoted"}
    repaired = [c for c in team.asked if isinstance(c, WriteContext) and c.repair]
    assert [c.repair.attempt_id for c in repaired if c.repair] == ["a0001"]
    assert repaired[0].parent is not None
    assert "build=fail" in repaired[0].parent.sources[0].text


async def test_a_malformed_reply_is_asked_again_under_the_same_attempt(run_loop):
    ran = await run_loop(TableTeam({"1.0": MALFORMED, "1.0.repair": "us=60"}))
    assert ran.outcomes() == {"a0001": "promoted", "a0002": "measured"}


async def test_repairs_are_bounded_and_then_the_round_is_over(run_loop):
    drafts = {
        f"{r}.{lane}{x}": MALFORMED for r in (1, 2, 3) for lane in (0, 1) for x in ("", ".repair")
    }
    team = TableTeam(drafts)
    ran = await run_loop(team, target=make_target(budget=budget(rounds=3, stalled_reviews=9)))
    writes = [c for c in team.asked if isinstance(c, WriteContext)]
    assert len(writes) == 3 * 2 * (1 + load_settings().loop.repairs)
    assert ran.result.exit_reason is ExitReason.BUDGET_ROUNDS
    assert ran.outcomes() == {}


async def test_rounds_without_a_draft_replan_and_then_stop(run_loop):
    drafts = {
        f"{r}.{lane}{x}": MALFORMED for r in (1, 2, 3) for lane in (0, 1) for x in ("", ".repair")
    }
    team = TableTeam(drafts)
    ran = await run_loop(team, target=make_target(budget=budget(rounds=9)))
    assert ran.result.exit_reason is ExitReason.STALLED
    assert ran.result.rounds == 3
    plans = [c for c in team.asked if isinstance(c, PlanContext)]
    assert [bool(c.previous) for c in plans] == [False, True]
    assert "no headway" in plans[1].why_again


async def test_a_draft_that_was_tried_before_is_asked_again(run_loop):
    team = TableTeam({"1.0": "us=95", "2.0": "us=95", "2.0.repair": "us=94"}, plan=NEVER)
    ran = await run_loop(team, target=make_target(budget=budget(rounds=2)))
    digests = [a.candidate_digest for a in ran.files.attempts()]
    assert len(digests) == len(set(digests)) == 4
    assert "write again" in ran.decisions("repair")


# -- our side ------------------------------------------------------------------------------------


async def test_what_our_side_loses_is_tried_again_and_not_held_against_the_candidate(run_loop):
    ran = await run_loop(TableTeam({"1.0": "us=60 lost=2"}))
    assert ran.outcomes()["a0001"] == "promoted"
    assert [j for j in ran.jobs() if "a0001-build" in j][-1].endswith("t2")


async def test_what_our_side_cannot_serve_is_unserved_not_rejected(run_loop):
    team = TableTeam({"1.0": "us=60 lost=99"}, plan=NEVER)
    ran = await run_loop(team, target=make_target(budget=budget(rounds=1)))
    assert ran.outcomes() == {"a0001": "unserved", "a0002": "measured"}


async def test_a_candidate_rejected_in_its_claim_is_rejected(run_loop):
    class Fickle(ScenarioPool):
        async def run(self, job):
            if "-claim-" in job.job_id:
                failing = job.candidate.sources[0].model_copy(update={"text": "// bench=fail"})
                broken = job.candidate.model_copy(update={"sources": (failing,)})
                job = job.model_copy(update={"candidate": broken})
            return await super().run(job)

    team = TableTeam({"1.0": "us=60"}, plan=NEVER)
    ran = await run_loop(team, Fickle(), make_target(budget=budget(rounds=1)))
    row = ran.files.attempts()[0]
    assert (row.outcome, row.reason) == (AttemptOutcome.REJECTED, "stale_result")
    assert row.feedback is not None


async def test_an_unfit_target_ends_at_once_with_the_reason(run_loop):
    ran = await run_loop(pool=ScenarioPool(unfit="input x does not matter"))
    assert ran.result.exit_reason is ExitReason.UNFIT_TARGET
    assert ran.result.message == "input x does not matter"
    assert ran.stages() == ["admit", "finish"]
    assert ran.decisions("admission") == ["refused"]


async def test_the_admission_is_recorded_as_a_decision_with_evidence(run_loop):
    ran = await run_loop(TableTeam({"1.0": "us=60"}))
    event = next(e for e in ran.files.events.read() if e.kind == "decision")
    assert event.subject == "admission"
    assert ran.files.outcome(event.evidence[0]) is not None


async def test_where_nothing_fits_the_run_is_infeasible_and_says_what_to_configure(run_loop):
    ran = await run_loop(TableTeam({"1.0": NOTHING, "1.1": NOTHING}))
    assert ran.result.exit_reason is ExitReason.INFEASIBLE
    assert "configure a model" in ran.result.message


async def test_one_lane_without_an_idea_does_not_end_the_run(run_loop):
    ran = await run_loop(TableTeam({"1.0": NOTHING, "1.1": "us=60"}))
    assert ran.result.exit_reason is ExitReason.GOAL_MET


async def test_without_a_toolchain_the_run_is_infeasible(run_loop):
    class Bare(ScenarioPool):
        async def environment(self):
            return (await super().environment()).model_copy(update={"compiler": ""})

    ran = await run_loop(pool=Bare())
    assert ran.result.exit_reason is ExitReason.INFEASIBLE
    assert "doctor" in ran.result.message


# -- tuning --------------------------------------------------------------------------------------


async def test_several_promoted_variants_are_mapped_over_the_workloads(run_loop):
    team = TableTeam({"1.0": "us=80", "2.0": "us=60"}, plan=NEVER)
    ran = await run_loop(team, target=make_target(budget=budget(rounds=2)))
    tuning = ran.files.tuning()
    assert tuning is not None
    assert {point.attempt_id for point in tuning.points} == {"a0003"}
    assert {point.workload for point in tuning.points} == {"small", "wide"}
    assert [e for e in ran.files.events.read() if e.key == "decision:autotune:map"]


async def test_the_map_of_one_variant_is_read_from_its_claim(run_loop):
    ran = await run_loop(TableTeam({"1.0": "us=60"}))
    assert not [job for job in ran.jobs() if "-map-" in job]
    tuning = ran.files.tuning()
    assert tuning is not None
    assert tuning.is_trivial


# -- state ---------------------------------------------------------------------------------------


async def test_lanes_are_as_many_as_the_scope_says(run_loop):
    target = make_target(scope=Scope(lanes=4), budget=budget(rounds=1))
    ran = await run_loop(TableTeam(plan=NEVER), target=target)
    assert sorted(ran.outcomes()) == ["a0001", "a0002", "a0003", "a0004"]


async def test_job_ids_say_what_they_are_for(run_loop):
    ran = await run_loop(TableTeam({"1.0": "us=60"}))
    pattern = re.compile(
        r"^softmax-test-(admit|final-\d|r\d{3}-l\d-a\d{4}-(build|check|bench|claim|profile))-t\d$"
    )
    assert all(pattern.match(job) for job in ran.jobs())
    assert len(ran.jobs()) == len(set(ran.jobs()))


async def test_a_finished_run_is_not_run_again(run_loop):
    first = await run_loop(TableTeam({"1.0": "us=60"}))
    again = await run_loop(TableTeam({"1.0": "us=10"}))
    assert again.result == first.result
    assert again.jobs() == []


async def test_a_run_of_a_newer_version_is_refused(run_loop):
    first = await run_loop(TableTeam({"1.0": "us=60"}))
    path = first.files.root / "run.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(RunTooNew):
        await run_loop()


async def test_five_runs_at_once_do_not_disturb_each_other(tmp_path, settings):
    from graph.run import begin, drive  # noqa: PLC0415 - only here without the fixture
    from graph.run_files import RunFiles  # noqa: PLC0415 - same

    async def one(number: int):
        files = RunFiles(tmp_path / f"run-{number}")
        team, pool = TableTeam({"1.0": f"us={50 + number}"}), ScenarioPool()
        await begin(files, make_target(), team.name, pool, seed=number)
        return await drive(files, settings, team, pool)

    results = await asyncio.gather(*(one(number) for number in range(5)))
    assert [result.exit_reason for result in results] == [ExitReason.GOAL_MET] * 5
    speedups = [result.best[0].overall.speedup for result in results]
    assert speedups == sorted(speedups, reverse=True)
