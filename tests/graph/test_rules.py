"""What a reviewed round leads to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.replies import Finding
from gpu_runner.records import Decision, Verdict
from graph import rules
from graph.ledger import ExitReason
from graph.rules import RoundFacts
from graph.target import Budget, Goal
from tests.graph.builders import make_comparison, make_decision, make_review, make_state

LIMITS = Budget(plateau_attempts=6, stalled_reviews=3)
TREND = Goal(kind="trend")
HARD = Goal(kind="hard")


def make_facts(**changes) -> RoundFacts:
    values = {
        "promoted": False,
        "attempts": 2,
        "has_drafts": True,
        "is_complete": False,
        "is_complete_at_plateau": False,
        "goal_met": False,
        "verdict": "ADVANCED",
        "wish": "refine",
    }
    return RoundFacts(**{**values, **changes})


def ruled(facts=None, goal=TREND, limits=LIMITS, **state):
    return rules.rule(make_state(**state), facts or make_facts(), limits, goal)


# -- promotion -----------------------------------------------------------------------------------


def test_only_a_claim_that_says_faster_than_the_rival_is_promotable():
    claims = (make_decision(against="incumbent"), make_decision(1.0, against="torch eager"))
    assert rules.is_promotable(claims, "incumbent")
    assert not rules.is_promotable(claims, "torch eager")
    assert not rules.is_promotable((), "incumbent")


def pair(low: float, **changes) -> tuple[Decision, ...]:
    """Claims of a mended kernel: against the one it mends, and against the first baseline."""
    same = make_comparison(1.0, low=low)
    rival = make_decision(against="incumbent", overall=same, workloads={"wide": same})
    return rival.model_copy(update=changes), make_decision(against="torch eager")


def test_a_mended_kernel_need_not_be_faster():
    assert rules.unfit_to_replace(pair(0.98), "torch eager") == ""


SLOWER = make_comparison(0.9, verdict=Verdict.SLOWER)


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ((), "was not claimed"),
        (pair(0.98)[:1], "was not claimed"),
        (pair(0.98)[1:], "was not claimed"),
        (pair(0.98, basis="feedback"), "was not claimed"),
        (pair(0.949), "may be slower: 1.000x, at least 0.949x"),
        (pair(0.98, workloads={"wide": SLOWER}), "slower on wide"),
        (
            (pair(0.98)[0], make_decision(1.0, against="torch eager")),
            "does not say FASTER than torch eager",
        ),
    ],
)
def test_a_mended_kernel_must_be_shown_to_be_no_slower(claims, told):
    assert told in rules.unfit_to_replace(claims, "torch eager")


@given(low=st.floats(0.5, 1.0), margin=st.floats(0.0, 0.2))
def test_no_mended_kernel_may_lose_more_than_the_margin(low, margin):
    fault = rules.unfit_to_replace(pair(low, margin=margin), "torch eager")
    assert bool(fault) is (low < 1 - margin)


def test_feedback_is_never_promotable():
    assert not rules.is_promotable((make_decision(basis="feedback"),), "torch eager")


@pytest.mark.parametrize("verdict", [Verdict.SAME, Verdict.AMBIGUOUS, Verdict.SLOWER])
def test_a_fast_estimate_without_the_verdict_is_not_promotable(verdict):
    claim = make_decision(overall=make_comparison(1.5, verdict=verdict))
    assert not rules.is_promotable((claim,), "torch eager")


def test_only_blocking_findings_block():
    findings = tuple(
        Finding(lane=lane, severity=0, text=lane) for lane in ("mainline", "blocking", "queued")
    )
    assert rules.blocking(make_review(findings=findings)) == ("blocking",)
    assert rules.blocking(make_review()) == ()
    assert rules.blocking(None) == ()


# -- counters ------------------------------------------------------------------------------------


def test_a_promotion_resets_every_counter():
    ruling = ruled(
        make_facts(promoted=True),
        idle_attempts=5,
        idle_rounds=3,
        pivots=1,
        stalled=1,
        claim_tries=4,
    )
    assert (ruling.idle_attempts, ruling.idle_rounds, ruling.pivots) == (0, 0, 0)
    assert (ruling.stalled, ruling.claim_tries) == (0, 0)
    assert ruling.route == "write"


def test_a_round_without_promotion_counts_its_attempts():
    ruling = ruled(idle_attempts=1, idle_rounds=1, claim_tries=2)
    assert (ruling.idle_attempts, ruling.idle_rounds, ruling.claim_tries) == (3, 2, 2)


def test_a_review_that_contradicts_a_promotion_is_overruled_and_logged():
    ruling = ruled(make_facts(promoted=True, verdict="STALLED"), stalled=1)
    assert ruling.stalled == 0
    assert [(d.subject, d.choice) for d in ruling.decisions] == [("review", "overruled")]


# -- stalls --------------------------------------------------------------------------------------


def test_two_stalls_replan_and_three_stop():
    second = ruled(make_facts(verdict="STALLED"), stalled=1)
    assert (second.route, second.stalled) == ("plan", 2)
    assert second.why_again
    third = ruled(make_facts(verdict="STALLED"), stalled=2)
    assert third.exit_reason is ExitReason.STALLED


def test_honest_rejected_candidates_are_no_process_stall():
    stalled = 0
    for _ in range(5):
        stalled = ruled(make_facts(verdict="ADVANCED", attempts=1), stalled=stalled).stalled
    assert stalled == 0


def test_a_regressed_verdict_is_no_process_stall():
    assert ruled(make_facts(verdict="REGRESSED"), stalled=1).stalled == 0


def test_a_round_without_a_draft_is_a_stall_whatever_the_review_says():
    assert ruled(make_facts(has_drafts=False, attempts=0)).stalled == 1


def test_headway_ends_a_row_of_stalls():
    assert ruled(stalled=2).stalled == 0


# -- plateau -------------------------------------------------------------------------------------


def test_the_first_plateau_forces_a_pivot():
    ruling = ruled(idle_attempts=4)
    assert (ruling.route, ruling.pivots, ruling.idle_attempts) == ("research", 1, 0)
    assert [(d.subject, d.choice) for d in ruling.decisions] == [("plateau", "pivot")]
    assert ruling.exit_reason is None


def test_the_second_plateau_stops():
    ruling = ruled(idle_attempts=4, pivots=1)
    assert ruling.exit_reason is ExitReason.PLATEAU
    assert [(d.subject, d.choice) for d in ruling.decisions] == [
        ("plateau", "stop"),
        ("stop", "plateau"),
    ]


def test_a_plan_that_waits_for_the_plateau_is_complete_at_it():
    facts = make_facts(is_complete_at_plateau=True)
    ruling = ruled(facts, idle_attempts=4, pivots=1)
    assert ruling.exit_reason is ExitReason.PLAN_COMPLETE
    met = ruled(facts.model_copy(update={"goal_met": True}), idle_attempts=4, pivots=1)
    assert met.exit_reason is ExitReason.GOAL_MET


def test_a_hard_goal_missed_at_the_plateau_ends_as_plateau():
    facts = make_facts(is_complete_at_plateau=True)
    assert ruled(facts, HARD, idle_attempts=4, pivots=1).exit_reason is ExitReason.PLATEAU


def test_attempts_that_promise_nothing_are_a_plateau_before_there_are_enough():
    facts = make_facts(hopeless="the last 6 attempts promise 0.00%")
    first = ruled(facts, idle_attempts=1)
    assert (first.route, first.pivots, first.idle_attempts) == ("research", 1, 0)
    assert "promise" in first.why_again
    second = ruled(facts, idle_attempts=1, pivots=1)
    assert second.exit_reason is ExitReason.PLATEAU
    assert "promise" in second.exit_message


def test_a_round_that_is_not_worth_its_price_is_not_begun():
    ruling = ruled(make_facts(overpriced="it costs $2 and promises $1"))
    assert ruling.exit_reason is ExitReason.PLATEAU
    assert ruling.exit_message == "it costs $2 and promises $1"
    assert [d.subject for d in ruling.decisions] == ["plateau", "stop"]


def test_a_budget_comes_before_a_price():
    facts = make_facts(overpriced="too dear", budget=ExitReason.BUDGET_USD)
    assert ruled(facts).exit_reason is ExitReason.BUDGET_USD


def test_before_the_plateau_the_loop_goes_on():
    assert ruled(idle_attempts=3).route == "write"


# -- completion ----------------------------------------------------------------------------------


def test_every_criterion_met_with_the_goal_is_goal_met():
    ruling = ruled(make_facts(is_complete=True, goal_met=True))
    assert (ruling.route, ruling.exit_reason) == ("stop", ExitReason.GOAL_MET)


def test_every_criterion_met_without_a_trend_goal_is_plan_complete():
    assert ruled(make_facts(is_complete=True)).exit_reason is ExitReason.PLAN_COMPLETE


def test_a_hard_goal_keeps_a_complete_plan_going():
    assert ruled(make_facts(is_complete=True), HARD).exit_reason is None


def test_a_goal_met_before_the_plan_is_complete_goes_on():
    assert ruled(make_facts(goal_met=True)).exit_reason is None


def test_a_review_that_says_finish_does_not_finish():
    ruling = ruled(make_facts(wish="autotune"))
    assert (ruling.route, ruling.exit_reason) == ("write", None)
    assert [(d.subject, d.choice) for d in ruling.decisions] == [("route", "write")]


# -- routes and budgets --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "route"), [("replan", "plan"), ("research", "research"), ("refine", "write")]
)
def test_the_review_chooses_among_routes(wish, route):
    assert ruled(make_facts(wish=wish)).route == route


@pytest.mark.parametrize(
    "reason",
    [
        ExitReason.BUDGET_ROUNDS,
        ExitReason.BUDGET_WALL,
        ExitReason.BUDGET_TOKENS,
        ExitReason.BUDGET_USD,
        ExitReason.BUDGET_GPU,
    ],
)
def test_a_budget_stops_before_stalls_and_plateaus(reason):
    facts = make_facts(budget=reason, verdict="STALLED")
    ruling = ruled(facts, idle_attempts=9, pivots=1, stalled=2)
    assert ruling.exit_reason is reason
    assert ruling.exit_message


def test_a_complete_plan_comes_before_a_spent_budget():
    facts = make_facts(is_complete=True, goal_met=True, budget=ExitReason.BUDGET_ROUNDS)
    assert ruled(facts).exit_reason is ExitReason.GOAL_MET


def test_nothing_left_to_try_without_an_attempt_is_infeasible():
    facts = make_facts(
        exhausted="no recipe covers it; configure a model", has_drafts=False, has_ledger=False
    )
    ruling = ruled(facts)
    assert ruling.exit_reason is ExitReason.INFEASIBLE
    assert "configure a model" in ruling.exit_message


def test_nothing_left_to_try_after_attempts_is_a_plateau():
    facts = make_facts(exhausted="every recipe was tried", has_drafts=False)
    assert ruled(facts).exit_reason is ExitReason.PLATEAU


@given(
    promoted=st.booleans(),
    attempts=st.integers(0, 8),
    verdict=st.sampled_from(["ADVANCED", "STALLED", "REGRESSED", ""]),
    wish=st.sampled_from(["refine", "research", "replan", "autotune", ""]),
    complete=st.booleans(),
    idle=st.integers(0, 40),
    stalled=st.integers(0, 2),
    pivots=st.integers(0, 1),
)
def test_a_round_either_goes_on_or_names_its_reason(  # noqa: PLR0913, PLR0917 - one law, all inputs
    promoted, attempts, verdict, wish, complete, idle, stalled, pivots
):
    facts = make_facts(
        promoted=promoted, attempts=attempts, verdict=verdict, wish=wish, is_complete=complete
    )
    ruling = ruled(facts, idle_attempts=idle, stalled=stalled, pivots=pivots)
    assert (ruling.route == "stop") == (ruling.exit_reason is not None)
    assert bool(ruling.exit_message) == (ruling.exit_reason is not None)
    assert ruling.route in {"write", "research", "plan", "stop"}


@given(st.lists(st.integers(1, 4), max_size=60))
def test_without_promotions_a_run_ends_after_two_plateaus(rounds):
    state = make_state()
    attempts = 0
    for count in rounds:
        ruling = rules.rule(state, make_facts(attempts=count), LIMITS, TREND)
        attempts += count
        state = {**state, "idle_attempts": ruling.idle_attempts, "pivots": ruling.pivots}
        if ruling.exit_reason:
            break
        assert attempts < 2 * (LIMITS.plateau_attempts + 4)


def test_an_update_sets_exactly_what_the_ruling_decides():
    update = rules.as_update(ruled(make_facts(is_complete=True, goal_met=True)))
    assert update["exit_reason"] == "goal_met"
    assert update["route"] == "stop"
    assert rules.as_update(ruled())["exit_reason"] == ""


# -- the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stopped", "kind", "confirmed", "expected"),
    [
        (ExitReason.GOAL_MET, "trend", True, ExitReason.GOAL_MET),
        (ExitReason.GOAL_MET, "trend", False, ExitReason.PLAN_COMPLETE),
        (ExitReason.GOAL_MET, "hard", False, ExitReason.PLATEAU),
        (ExitReason.BUDGET_WALL, "trend", True, ExitReason.GOAL_MET),
        (ExitReason.BUDGET_WALL, "trend", False, ExitReason.BUDGET_WALL),
        (ExitReason.PLATEAU, "hard", True, ExitReason.GOAL_MET),
        (ExitReason.PLAN_COMPLETE, "trend", False, ExitReason.PLAN_COMPLETE),
        (ExitReason.UNFIT_TARGET, "trend", False, ExitReason.UNFIT_TARGET),
        (ExitReason.ERROR, "trend", True, ExitReason.ERROR),
    ],
)
def test_the_final_claim_decides_whether_the_goal_is_met(stopped, kind, confirmed, expected):
    reason, message = rules.final_reason(
        stopped, "the rounds are used", Goal(kind=kind), goal_confirmed=confirmed
    )
    assert reason is expected
    assert "the rounds are used" in message
