"""Whether the plan holds, by arithmetic."""

import pytest

from agents.replies import CheckRule
from gpu_runner.facts import Facts, Roofline
from gpu_runner.records import Decision, Verdict
from graph import criteria
from graph.criteria import Ledger
from graph.ledger import AttemptOutcome
from graph.target import Goal
from tests.graph.builders import (
    make_admitted,
    make_attempt,
    make_check,
    make_comparison,
    make_decision,
    make_plan,
    make_target,
)


def roofline(workload: str, fraction: float) -> Roofline:
    return Roofline(
        workload=workload,
        time_us=1,
        required_bytes=1,
        required_flops=1,
        bandwidth_bytes_per_s=1,
        peak_flops_per_s=1,
        floor_us=1,
        fraction_reached=fraction,
        bound="memory",
    )


def make_ledger(*claims, **changes) -> Ledger:
    promoted = make_attempt(
        1, outcome=AttemptOutcome.PROMOTED, claims=claims or (make_decision(1.5),)
    )
    values = {
        "target": make_target(),
        "attempts": (promoted, make_attempt(2)),
        "incumbent": "a0001",
        "admission": make_admitted(),
        "facts": Facts(tier="cpu", roofline=(roofline("small", 0.5), roofline("wide", 0.7))),
        "plateau_events": ("decision:plateau:r009",),
    }
    return Ledger(**{**values, **changes})


EMPTY = Ledger(target=make_target())


@pytest.mark.parametrize(
    ("rule", "parameter", "evidence"),
    [
        (CheckRule.CORRECT_OVER_W, "", ("a0001",)),
        (CheckRule.FASTER_THAN_BASELINE, "", ("f" * 16,)),
        (CheckRule.FASTER_THAN_BASELINE, "torch eager", ("f" * 16,)),
        (CheckRule.FASTER_THAN_BASELINE, "torch compile", ()),
        (CheckRule.REACHES_GOAL, "", ("f" * 16,)),
        (CheckRule.ROOFLINE_REACHED, "0.5", ("a0001",)),
        (CheckRule.ROOFLINE_REACHED, "0.6", ()),
        (CheckRule.ROOFLINE_REACHED, "much", ()),
        (CheckRule.ATTEMPTS_MADE, "2", ("a0001", "a0002")),
        (CheckRule.ATTEMPTS_MADE, "3", ()),
        (CheckRule.ATTEMPTS_MADE, "", ()),
        (CheckRule.WRONG_IS_REJECTED, "", ("softmax-test-admit-t0",)),
        (CheckRule.NO_REGRESSION, "", ("f" * 16,)),
        (CheckRule.PLATEAU_RECORDED, "", ("decision:plateau:r009",)),
    ],
)
def test_rules_over_a_full_ledger(rule, parameter, evidence):
    assert criteria.evidence_for(make_check(rule, parameter), make_ledger()) == evidence


@pytest.mark.parametrize("rule", list(CheckRule))
def test_no_rule_holds_over_an_empty_ledger(rule):
    assert criteria.evidence_for(make_check(rule, "0"), EMPTY) == ()


def test_a_regression_on_one_workload_is_one():
    slower = make_decision(
        1.5,
        workloads={
            "small": make_comparison(2.0),
            "wide": make_comparison(0.8, verdict=Verdict.SLOWER),
        },
    )
    check = make_check(CheckRule.NO_REGRESSION)
    assert criteria.evidence_for(check, make_ledger(slower)) == ()


def test_a_claim_that_is_not_faster_is_no_evidence():
    same = make_decision(1.5, overall=make_comparison(1.5, verdict=Verdict.SAME))
    check = make_check(CheckRule.FASTER_THAN_BASELINE)
    assert criteria.evidence_for(check, make_ledger(same)) == ()


def test_claims_of_other_attempts_are_not_the_incumbents():
    ledger = make_ledger(incumbent="a0002")
    assert criteria.evidence_for(make_check(CheckRule.REACHES_GOAL), ledger) == ()


def test_an_admission_that_caught_nothing_is_no_evidence():
    ledger = make_ledger(admission=make_admitted().model_copy(update={"caught": ()}))
    assert criteria.evidence_for(make_check(CheckRule.WRONG_IS_REJECTED), ledger) == ()


def test_the_roofline_must_be_reached_on_every_public_workload():
    facts = Facts(tier="cpu", roofline=(roofline("small", 0.9),))
    check = make_check(CheckRule.ROOFLINE_REACHED, "0.5")
    assert criteria.evidence_for(check, make_ledger(facts=facts)) == ()


@pytest.mark.parametrize(
    ("speedup", "changes", "is_reached"),
    [
        (1.5, {}, True),
        (1.11, {}, False),  # its low end is below the goal of 1.1
        (1.5, {"against": "torch compile"}, False),
        (1.5, {"basis": "feedback"}, False),
        (1.5, {"overall": make_comparison(1.5, verdict=Verdict.AMBIGUOUS)}, False),
    ],
)
def test_the_goal_needs_a_claims_low_end(speedup, changes, is_reached):
    claims = (make_decision(speedup, **changes),)
    assert bool(criteria.goal_evidence(make_target(), claims)) is is_reached


YES = make_check(CheckRule.CORRECT_OVER_W)
NO = make_check(CheckRule.FASTER_THAN_BASELINE, "torch compile")


@pytest.mark.parametrize(
    ("positive", "negative", "status"),
    [(YES, YES, "MET"), (YES, NO, "PARTIAL"), (NO, YES, "PARTIAL"), (NO, NO, "NOT_MET")],
)
def test_a_criterion_is_met_when_all_its_checks_hold(positive, negative, status):
    plan = make_plan((positive, negative))
    (found,) = criteria.evaluate(plan, make_ledger())
    assert found.status == status
    assert bool(found.evidence) is (status != "NOT_MET")


@pytest.mark.parametrize(
    ("wanted", "made", "status"), [(16, 2, "PARTIAL"), (3, 2, "PARTIAL"), (2, 2, "MET")]
)
def test_fewer_attempts_than_asked_for_leave_the_criterion_open(wanted, made, status):
    asked = make_check(CheckRule.ATTEMPTS_MADE, str(wanted))
    plan = make_plan((asked, make_check(CheckRule.WRONG_IS_REJECTED)))
    attempts = tuple(make_attempt(number) for number in range(1, made + 1))
    (found,) = criteria.evaluate(plan, make_ledger(attempts=attempts, incumbent=""))
    assert found.status == status
    assert "softmax-test-admit-t0" in found.evidence


@pytest.mark.parametrize("side", ["positive", "negative"])
def test_one_check_of_several_that_fails_keeps_a_criterion_from_being_met(side):
    (task,) = make_plan((YES, YES)).tasks
    criterion = task.criterion.model_copy(update={side: (YES, NO, YES)})
    plan = make_plan().model_copy(
        update={"tasks": (task.model_copy(update={"criterion": criterion}),)}
    )
    (found,) = criteria.evaluate(plan, make_ledger())
    assert (found.status, found.evidence) == ("PARTIAL", ("a0001",))


def test_evidence_is_named_once():
    (found,) = criteria.evaluate(make_plan((YES, YES)), make_ledger())
    assert found.evidence == ("a0001",)


def test_a_plan_is_complete_when_every_criterion_is_met():
    ledger = make_ledger()
    assert criteria.is_complete(criteria.evaluate(make_plan((YES, YES), (YES, YES)), ledger))
    assert not criteria.is_complete(criteria.evaluate(make_plan((YES, YES), (YES, NO)), ledger))
    assert not criteria.is_complete(())


# -- a goal against the best baseline ------------------------------------------------------------

AGAINST_BEST = make_target(goal=Goal(speedup=1.2, against="best"))


def claims_of(eager: float, compiled: float) -> tuple[Decision, ...]:
    return (
        make_decision(eager, record_id="e" * 16),
        make_decision(compiled, against="torch compile", record_id="c" * 16),
    )


@pytest.mark.parametrize(
    ("eager", "compiled", "is_met", "bar"),
    [
        (2.0, 1.5, True, "torch compile"),
        (1.5, 2.0, True, "torch eager"),
        (3.0, 1.1, False, "torch compile"),
        (1.0, 3.0, False, "torch eager"),
    ],
)
def test_the_best_baseline_is_the_one_with_the_smallest_gain(eager, compiled, is_met, bar):
    claims = claims_of(eager, compiled)
    decides = criteria.bar(AGAINST_BEST, claims)
    assert decides is not None
    assert decides.against == bar
    evidence = criteria.goal_evidence(AGAINST_BEST, claims)
    assert evidence == (("e" * 16, "c" * 16) if is_met else ())


def test_the_best_baseline_is_not_known_before_every_one_was_measured():
    claims = claims_of(2.0, 2.0)[:1]
    assert criteria.bar(AGAINST_BEST, claims) is None
    assert criteria.goal_evidence(AGAINST_BEST, claims) == ()


def test_other_contenders_say_nothing_of_the_best_baseline():
    claims = (*claims_of(2.0, 1.5), make_decision(1.01, against="incumbent"))
    decides = criteria.bar(AGAINST_BEST, claims)
    assert decides is not None
    assert decides.against == "torch compile"


def test_a_named_goal_has_its_own_bar():
    decides = criteria.bar(make_target(), claims_of(2.0, 1.1))
    assert decides is not None
    assert decides.against == "torch eager"


def test_faster_than_the_best_means_faster_than_every_baseline():
    check = make_check(CheckRule.FASTER_THAN_BASELINE, "best")
    both = make_ledger(*claims_of(2.0, 1.5), target=AGAINST_BEST)
    assert criteria.evidence_for(check, both) == ("e" * 16, "c" * 16)
    one = make_ledger(*claims_of(2.0, 1.0), target=AGAINST_BEST)
    assert criteria.evidence_for(check, one) == ()


def test_final_claims_stand_before_those_of_the_promotion():
    check = make_check(CheckRule.FASTER_THAN_BASELINE, "best")
    ledger = make_ledger(make_decision(2.0), target=AGAINST_BEST, final=claims_of(1.6, 1.4))
    assert criteria.evidence_for(check, ledger) == ("e" * 16, "c" * 16)
