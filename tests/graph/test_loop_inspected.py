"""The end of a run: the final kernel is read as code, and mended where that costs no speed."""

import pytest

from agents.contexts import InspectContext, WriteContext
from agents.errors import MalformedReply, ModelUnavailable
from gpu_runner.jobs import Bench, Check
from graph.events import Promoted
from graph.ledger import AttemptOutcome, ExitReason
from graph.run_files import RunFiles
from graph.settings import load_settings
from tests.graph.builders import make_inspection, make_remark, make_target
from tests.graph.conftest import Ran
from tests.graph.pool import ScenarioPool
from tests.graph.teams import MALFORMED, NOTHING, TableTeam
from tests.graph.test_loop import NEVER, budget

WON = {"1.0": "us=60", "1.1": "us=80"}
BLOCKS = make_inspection(make_remark())
MANY = budget(rounds=9)


def closing(ran: Ran) -> list[str]:
    """The stages from the first reading on."""
    stages = ran.stages()
    return stages[stages.index("inspect") :]


def inspected(team: TableTeam) -> list[str]:
    return [c.attempt_id for c in team.asked if isinstance(c, InspectContext)]


@pytest.mark.long
async def test_nothing_found_means_nothing_done(run_loop):
    team = TableTeam(WON, inspections={})
    ran = await run_loop(team)
    assert closing(ran) == ["inspect", "autotune", "finish"]
    assert inspected(team) == ["a0001"], "read once"
    assert ran.result.open_remarks == ()
    assert ran.decisions("inspect") == ["nothing to mend"]
    assert ran.result.rounds == 1


async def test_a_mend_that_is_no_slower_takes_the_final_kernels_place(run_loop):
    team = TableTeam({**WON, "2.0": "us=60 mended"}, inspections={"a0001": BLOCKS})
    ran = await run_loop(team, target=make_target(budget=MANY))
    assert ran.result.exit_reason is ExitReason.GOAL_MET
    assert ran.result.best_attempt == "a0003"
    assert ran.result.open_remarks == ()
    mended = ran.files.attempts()[-1]
    assert (mended.mends, mended.outcome) == ("a0001", AttemptOutcome.PROMOTED)
    assert [claim.sittings >= 5 for claim in mended.claims] == [True, True]
    assert closing(ran) == [
        *["inspect", "write", "build", "check", "finalize", "inspect"],
        *["autotune", "finish"],
    ]
    assert ran.decisions("finalize") == ["mended"]
    assert ran.result.rounds == 2, "a mend is a round of the budget"
    assert inspected(team) == ["a0001", "a0003"], "what replaces it is read too"
    assert ran.files.tuning().regimes[0].attempt_id == "a0003"
    assert "a0001" not in {point.attempt_id for point in ran.files.tuning().points}
    assert ran.result.to_best.rounds == 1, "found in round 1; the mend found nothing"
    promoted = [e.attempt_id for e in ran.files.events.read() if isinstance(e, Promoted)]
    assert promoted == ["a0001", "a0003"]


@pytest.mark.long
async def test_the_writer_of_a_mend_is_told_what_to_mend_and_nothing_to_seek(run_loop):
    found = make_inspection(
        make_remark(), make_remark(lane="simplify", line=1), make_remark(lane="note", text="hm")
    )
    team = TableTeam({**WON, "2.0": "us=60 mended"}, inspections={"a0001": found})
    ran = await run_loop(team, target=make_target(budget=MANY))
    told = [c for c in team.asked if isinstance(c, WriteContext)][-1]
    assert told.remarks == found.remarks[:2]
    assert told.parent == ran.files.candidate(ran.files.attempts()[0].candidate_digest)
    assert (told.contract, told.digest, told.review, told.research) == (None,) * 4
    (again,) = [c for c in team.asked if isinstance(c, InspectContext)][1:]
    assert again.earlier == found.remarks
    assert "+#pragma us=60 mended" in again.diff


@pytest.mark.parametrize(
    ("text", "outcome", "why"),
    [
        ("us=70", "measured", "it may be slower"),
        ("check=fail", "rejected", "check failed"),
    ],
)
async def test_a_mend_that_is_slower_or_wrong_is_thrown_away_and_the_remark_is_shown(
    run_loop, text, outcome, why
):
    team = TableTeam({**WON, "2.0": text, "3.0": text + " too"}, inspections={"a0001": BLOCKS})
    ran = await run_loop(team, target=make_target(budget=MANY))
    assert ran.result.exit_reason is ExitReason.GOAL_MET, "a remark takes no proof away"
    assert ran.result.best_attempt == "a0001"
    assert [a.outcome.value for a in ran.files.attempts()[2:]] == [outcome] * 2
    assert all(a.mends == "a0001" and why in a.message for a in ran.files.attempts()[2:])
    assert ran.decisions("finalize") == ["kept", "kept", "left"]
    assert ran.result.open_remarks == ("kernel.cpp:1: reads one row too far",)
    assert "unresolved in the final kernel: kernel.cpp:1" in ran.result.message
    report = (RunFiles(ran.files.root).root / "report.html").read_text()
    assert "reads one row too far" in report
    assert inspected(team) == ["a0001"], "one reading of one text"
    assert ran.result.rounds == 3


@pytest.mark.long
@pytest.mark.parametrize(("text", "mends"), [(NOTHING, 1), (MALFORMED, 2)])
async def test_a_writer_that_cannot_mend_is_not_asked_for_ever(run_loop, text, mends):
    drafts = {f"{number}.0{way}": text for number in (2, 3) for way in ("", ".repair")}
    team = TableTeam({**WON, **drafts}, inspections={"a0001": BLOCKS})
    ran = await run_loop(team, target=make_target(budget=MANY))
    assert ran.decisions("finalize") == [*["kept"] * mends, "left"]
    assert ran.result.rounds == 1 + mends
    assert ran.outcomes() == {"a0001": "promoted", "a0002": "measured"}


@pytest.mark.long
async def test_what_does_not_compile_is_repaired_in_a_mend_too(run_loop):
    drafts = {**WON, "2.0": "build=fail", "2.0.repair": "us=60 mended"}
    ran = await run_loop(
        TableTeam(drafts, inspections={"a0001": BLOCKS}), target=make_target(budget=MANY)
    )
    assert ran.result.best_attempt == "a0004"
    assert [a.mends for a in ran.files.attempts()] == [None, None, "a0001", "a0001"]
    assert ran.result.rounds == 2


@pytest.mark.long
@pytest.mark.parametrize("mends", [0, 1, 3])
async def test_mends_are_as_many_as_the_settings_say(run_loop, mends):
    drafts = {**WON, **{f"{n}.0": f"us=60 mend {n}" for n in range(2, 9)}}
    again = {f"a{n:04}": BLOCKS for n in range(1, 12)}
    ran = await run_loop(
        TableTeam(drafts, inspections=again),
        target=make_target(budget=MANY),
        chosen=load_settings((), [f"loop.mends={mends}"]),
    )
    assert ran.decisions("finalize") == [*["mended"] * mends, "left"]
    assert ran.result.open_remarks, "the last one is still blocked"
    assert ran.result.best_attempt == ("a0001" if not mends else f"a{2 + mends:04}")


@pytest.mark.long
async def test_without_a_round_left_nothing_is_mended_and_the_remark_is_shown(run_loop):
    team = TableTeam(WON, inspections={"a0001": BLOCKS}, plan=NEVER)
    ran = await run_loop(team, target=make_target(budget=budget(rounds=1)))
    assert ran.result.rounds == 1
    assert ran.decisions("finalize") == ["left"]
    assert ran.result.open_remarks
    assert closing(ran) == ["inspect", "autotune", "finish"]


@pytest.mark.long
@pytest.mark.parametrize("error", [MalformedReply("no"), ModelUnavailable("away")])
async def test_a_reader_that_cannot_answer_holds_up_no_run(run_loop, error):
    team = TableTeam(WON, inspections={"a0001": error})
    ran = await run_loop(team)
    assert ran.result.exit_reason is ExitReason.GOAL_MET
    assert ran.decisions("inspection") == ["rules"]


@pytest.mark.long
async def test_rules_name_leftovers_without_any_model(run_loop):
    ran = await run_loop(TableTeam({"1.0": 'us=60\nvoid f() { printf("x"); }'}))
    (remark,) = ran.result.open_remarks
    assert remark.startswith("kernel.cpp:2: prints where it computes")


@pytest.mark.long
async def test_a_mend_may_not_lose_the_goal(run_loop):
    # 90.9 us meets the goal of 1.1; 93 us would be within the margin of it, and miss the goal.
    team = TableTeam({"1.0": "us=90", "2.0": "us=92"}, inspections={"a0001": BLOCKS})
    ran = await run_loop(
        team, target=make_target(budget=MANY), chosen=load_settings((), ["loop.mends=1"])
    )
    assert ran.result.exit_reason is ExitReason.GOAL_MET
    assert ran.result.best_attempt == "a0001"
    assert "does not reach the goal" in ran.files.attempts()[-1].message


@pytest.mark.long
async def test_hidden_shapes_are_checked_in_a_mend_too(run_loop):
    pool = ScenarioPool()
    team = TableTeam({**WON, "2.0": "us=60 mended"}, inspections={"a0001": BLOCKS})
    await run_loop(team, pool, make_target(budget=MANY))
    mends = [job for job in pool.ran if "a0003" in job.job_id]
    (check,) = [job for job in mends if isinstance(job, Check)]
    (claim,) = [job for job in mends if isinstance(job, Bench)]
    assert "odd" in [workload.name for workload in check.workloads]
    assert [workload.name for workload in claim.hidden] == ["odd"]
