"""Lanes of one round that write the same kernel: one is measured, the others write another."""

import pytest

from agents.contexts import WriteContext
from agents.novelty import fingerprint
from graph.ledger import ExitReason
from graph.target import Scope
from tests.graph.builders import make_target
from tests.graph.teams import TableTeam
from tests.graph.test_loop import NEVER, budget

ONE_ROUND = budget(rounds=1)


@pytest.mark.parametrize("other", ["us=60\n// and a word more"])
async def test_the_second_lane_writes_another_kernel(run_loop, other):
    team = TableTeam({"1.0": "us=60", "1.1": other, "1.1.repair": "us=70\nint other;"})
    team.drafts["1.0"] += "\nint one;"
    team.drafts["1.1"] += "\nint one;"
    ran = await run_loop(team)
    assert ran.outcomes() == {"a0001": "promoted", "a0002": "measured"}
    kernels = [ran.files.candidate(a.candidate_digest) for a in ran.files.attempts()]
    assert len({fingerprint(kernel) for kernel in kernels}) == 2
    assert len([job for job in ran.jobs() if "-build" in job]) == 2, "a twin is never paid for"
    again = [c for c in team.asked if isinstance(c, WriteContext)][2]
    assert again.fault.startswith("this is what lane 1 of this round wrote (a0001)")
    assert again.tried == {fingerprint(kernels[0]): "a0001"}
    assert ran.decisions("repair") == ["write again"]
    assert ran.result.rounds == 1, "it costs no round"


@pytest.mark.long
async def test_a_lane_that_insists_is_left_out_and_the_others_go_on(run_loop):
    team = TableTeam({"1.0": "us=80", "1.1": "us=80", "1.1.repair": "us=80"}, plan=NEVER)
    ran = await run_loop(team, target=make_target(budget=ONE_ROUND))
    assert ran.result.exit_reason is ExitReason.GOAL_MET
    assert ran.result.rounds == 1
    assert ran.outcomes() == {"a0001": "promoted"}
    asked = [c for c in team.asked if isinstance(c, WriteContext)]
    assert len(asked) == 2 + 2, "two repairs a lane, as for any other fault"


@pytest.mark.long
async def test_of_many_twins_the_first_is_kept(run_loop):
    drafts = {f"1.{lane}": "us=80" for lane in range(4)}
    drafts |= {f"1.{lane}.repair": f"us=9{lane}\nint lane_{lane};" for lane in range(1, 4)}
    target = make_target(budget=ONE_ROUND, scope=Scope(lanes=4))
    ran = await run_loop(TableTeam(drafts, plan=NEVER), target=target)
    assert [(a.attempt_id, a.lane) for a in ran.files.attempts()] == [
        ("a0001", 0),
        ("a0002", 1),
        ("a0003", 2),
        ("a0004", 3),
    ]
    assert ran.decisions("repair") == ["write again"] * 3


async def test_a_twin_of_what_did_not_compile_is_no_other_idea(run_loop):
    broken = "build=fail"
    drafts = {"1.0": broken, "1.1": broken, "1.0.repair": "us=80", "1.1.repair": "us=80"}
    team = TableTeam(drafts, plan=NEVER)
    ran = await run_loop(team, target=make_target(budget=ONE_ROUND))
    builds = [job for job in ran.jobs() if "-build" in job]
    assert len(builds) == 2, "the broken one once, and one of its repairs"
    assert sorted(ran.outcomes().values()) == ["promoted", "rejected"]
