"""What a run's effort bought, and what the numbers say to change."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.diagnosis.prediction import Score
from gpu_runner.jobs import Reason
from graph.events import (
    DecisionTaken,
    JobFinished,
    PredictionScored,
    Replied,
    StageEnded,
)
from graph.ledger import AttemptOutcome, ExitReason, RunResult
from graph.retrospective import Retrospective, markdown, retrospective
from graph.target import Goal
from tests.graph.builders import make_attempt, make_decision, make_target
from tests.graph.teams import TableTeam
from tests.graph.test_loop import NEVER, budget


def promoted(number: int, round_: int, gain: float, against: str = "incumbent", **changes):
    values = {
        "round": round_,
        "family": "row",
        "recipe": "online",
        "outcome": AttemptOutcome.PROMOTED,
        "claims": (make_decision(9.0), make_decision(gain, against=against)),
        "seconds": {"check": 1.0, "bench": 2.0},
    }
    return make_attempt(number, **{**values, **changes})


def refused(number: int, round_: int, reason: Reason = Reason.WRONG_RESULT, **changes):
    values = {
        "round": round_,
        "family": "row",
        "recipe": "tiles",
        "outcome": AttemptOutcome.REJECTED,
        "reason": reason,
    }
    return make_attempt(number, **{**values, **changes})


def measured(number: int, round_: int, **changes):
    return make_attempt(number, round=round_, family="row", recipe="plain", **changes)


def made(attempts, events=(), best: str | None = None) -> Retrospective:
    result = RunResult(
        run_id="r",
        exit_reason=ExitReason.PLATEAU,
        message="m",
        rounds=1,
        attempts=1,
        wall_s=1,
        job_s=1,
        best_attempt=best,
    )
    return retrospective(make_target(), tuple(attempts), events, result)


def replied(key: str, usd: float, role: str = "draft", seconds: float = 1.0) -> Replied:
    return Replied(key=f"replied:{role}:{key}", role=role, reply=key, seconds=seconds, usd=usd)


# -- gains ---------------------------------------------------------------------------------------


def test_an_ideas_gain_is_the_product_of_its_promotions_over_the_incumbents_of_their_time():
    found = made([promoted(1, 1, 1.5), promoted(2, 3, 1.2), measured(3, 3), refused(4, 4)])
    assert [idea.name for idea in found.ideas] == ["row/online", "row/plain", "row/tiles"]
    best = found.ideas[0]
    assert best.gain == pytest.approx(1.8)
    assert best.gain_per_round == pytest.approx(math.sqrt(1.8))
    assert (best.attempts, best.promoted, best.refused, best.job_s) == (2, 2, 0, 6.0)
    assert (found.ideas[2].refused, found.ideas[2].gain) == (1, 1.0)


def test_the_first_promotion_gains_over_its_baseline():
    (idea,) = made([promoted(1, 1, 1.4, "torch eager", claims=(make_decision(1.4),))]).ideas
    assert idea.gain == pytest.approx(1.4)


def test_what_a_model_wrote_is_an_idea_by_its_language():
    (idea,) = made([make_attempt(1)]).ideas
    assert idea.name == "written in cpp"


def test_dollars_are_those_of_an_ideas_own_drafts_and_the_rest_is_shared():
    events = (
        replied("r001-l0-t0", 0.5),
        replied("r001-l0-t1:123", 0.25),
        replied("r002-l0-t0", 1.0),
        replied("r001", 2.0, "plan"),
    )
    found = made([promoted(1, 1, 1.5), measured(2, 2)], events)
    assert {idea.name: idea.usd for idea in found.ideas} == {"row/online": 0.75, "row/plain": 1.0}
    assert (found.usd, found.shared_usd) == (3.75, 2.0)
    assert found.ideas[0].gain_per_usd == pytest.approx(1.5 ** (1 / 0.75))
    assert found.ideas[1].gain_per_usd == pytest.approx(1.0)


@given(st.floats(1.0, 100.0), st.floats(1e-9, 1e-3))
def test_a_gain_for_next_to_nothing_is_a_number_all_the_same(gain, usd):
    (idea,) = made([promoted(1, 1, gain)], (replied("r001-l0-t0", usd),)).ideas
    assert idea.gain_per_usd is None or math.isfinite(idea.gain_per_usd)


# -- time ----------------------------------------------------------------------------------------


def test_time_is_told_by_stage_job_and_role():
    events = (
        StageEnded(key="a", stage="check", round=1, seconds=2.0),
        StageEnded(key="b", stage="bench", round=1, seconds=5.0),
        StageEnded(key="c", stage="check", round=2, seconds=1.0, elapsed_s=9.0),
        JobFinished(key="d", job_id="j", job="bench", outcome="benched", seconds=4.5),
        replied("r001", 0.0, "plan", 3.0),
    )
    found = made([measured(1, 1)], events)
    assert list(found.stage_s.items()) == [("bench", 5.0), ("check", 3.0)]
    assert (found.job_s, found.role_s, found.wall_s) == ({"bench": 4.5}, {"plan": 3.0}, 9.0)


# -- advice --------------------------------------------------------------------------------------


def advice(attempts, events=(), best: str | None = None) -> str:
    return "\n".join(made(attempts, events, best).advice)


def test_a_run_without_a_fault_gets_no_advice():
    assert advice([promoted(1, 1, 1.5), measured(2, 2)], best="a0001") == ""
    assert "Nothing that the numbers would show" in markdown(made([promoted(1, 1, 1.5)]))


def test_many_rounds_after_the_best_are_named():
    rows = [promoted(1, 2, 1.5), *(measured(n, n + 1) for n in range(2, 9))]
    assert "7 of 9 rounds came after the best kernel" in advice(rows, best="a0001")
    assert advice(rows[:2], best="a0001") == ""


def test_what_is_refused_again_and_again_is_named_with_its_reason():
    rows = [measured(n, 1) for n in range(1, 5)]
    rows += [refused(n, 2, Reason.COMPILE_FAILED) for n in range(5, 8)] + [refused(8, 2)]
    assert "4 of 8 attempts were refused, 3 of them for compile_failed" in advice(rows)


def test_time_spent_waiting_for_answers_asks_for_lanes():
    slow = (
        replied("r001", 0.0, "plan", 80.0),
        StageEnded(key="s", stage="plan", round=1, seconds=80.0, elapsed_s=100.0),
    )
    assert "80 s of 100 s were spent waiting for answers" in advice([measured(1, 1)], slow)


def test_jobs_that_are_not_served_point_at_the_runner():
    jobs = [
        JobFinished(
            key=f"j{n}",
            job_id=f"j{n}",
            job="bench",
            outcome="unserved" if n < 2 else "benched",
            seconds=1,
        )
        for n in range(8)
    ]
    assert "2 of 8 jobs were not served" in advice([measured(1, 1)], jobs)


def test_drafts_sent_back_ask_for_another_writer():
    sent = [
        DecisionTaken(key=f"d{n}", subject="repair", choice="write again", reason="the same")
        for n in range(5)
    ]
    assert "5 drafts were sent back" in advice([measured(1, 1)], sent)


def test_a_rule_whose_predictions_fail_is_named():
    scores = [
        PredictionScored(
            key=f"s{n}",
            digest=f"r{n:03}",
            attempt_id="a0001",
            score=Score(
                rule="latency", metric="speedup", outcome=outcome, expected_factor=1.1, factor=1.0
            ),
        )
        for n, outcome in enumerate(["miss", "opposite", "miss", "hit", "miss", "unmeasured"])
    ]
    assert "predictions of latency failed 4 times in 5" in advice([measured(1, 1)], scores)


# -- the document --------------------------------------------------------------------------------


def test_an_empty_run_has_a_document_too():
    text = markdown(made([]))
    assert text.startswith("# Retrospective")
    assert "no kernel won" in text


def test_names_that_models_gave_stay_in_their_cell():
    row = measured(1, 1).model_copy(update={"recipe": "a | b\nc"})
    assert "| row/a \\| b c | 1 |" in markdown(made([row]))


async def test_a_run_leaves_its_retrospective_and_shows_it(run_loop, tmp_path):
    team = TableTeam({"1.0": "us=80", "2.0": "us=60"}, plan=NEVER)
    goal = Goal(speedup=9.0, against="torch eager")
    await run_loop(team, target=make_target(budget=budget(rounds=3), goal=goal))
    text = (tmp_path / "softmax-test" / "retrospective.md").read_text()
    assert "3 rounds, the best kernel in round 2" in text
    assert "| row/online | 6 | 2 | 0 | 1.6" in text
    assert "| bench |" in text
    assert 'id="retrospective"' in (tmp_path / "softmax-test" / "report.html").read_text()
