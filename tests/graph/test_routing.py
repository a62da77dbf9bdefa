"""Where the state machine goes next."""

import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.records import Verdict
from graph import routing
from graph.state import Order
from tests.graph.builders import make_lane, make_state


@pytest.mark.parametrize("number", [1, 42, 9999])
def test_attempt_names_carry_their_number(number):
    assert routing.attempt_number(routing.attempt_name(number)) == number


def test_attempt_names_sort_as_their_numbers_do():
    names = [routing.attempt_name(number) for number in (9, 10, 99, 100)]
    assert names == sorted(names)


def test_every_lane_gets_an_order_with_the_next_free_attempt_ids():
    state = make_state(round=4, issued=7)
    assert routing.orders(state, 3) == (
        Order(round=4, lane=0, attempt_id="a0008"),
        Order(round=4, lane=1, attempt_id="a0009"),
        Order(round=4, lane=2, attempt_id="a0010"),
    )


def test_what_did_not_compile_is_repaired_under_a_new_attempt_id():
    state = make_state(make_lane(0, status="built"), make_lane(1, status="rejected"), issued=2)
    assert routing.repairs(state, 2) == (
        Order(round=1, lane=1, attempt_id="a0003", repair=1, repair_of="a0002"),
    )


def test_a_malformed_reply_is_asked_again_under_its_own_attempt_id():
    state = make_state(make_lane(0, status="undrafted"), issued=1)
    assert routing.repairs(state, 2) == (Order(round=1, lane=0, attempt_id="a0001", repair=1),)


def test_several_repairs_of_a_round_have_different_attempt_ids():
    state = make_state(
        make_lane(0, status="rejected"),
        make_lane(1, status="undrafted"),
        make_lane(2, status="rejected"),
        issued=3,
    )
    assert [order.attempt_id for order in routing.repairs(state, 2)] == ["a0004", "a0002", "a0005"]


def test_repairs_are_bounded():
    state = make_state(make_lane(0, status="rejected", repair=2), issued=1)
    assert routing.repairs(state, 2) == ()
    assert routing.repairs(state, 3) != ()


@pytest.mark.parametrize(
    "status", ["drafted", "built", "checked", "measured", "unserved", "exhausted"]
)
def test_only_malformed_and_refused_lanes_are_repaired(status):
    assert routing.repairs(make_state(make_lane(0, status=status), issued=1), 2) == ()


def test_lanes_of_an_earlier_round_are_not_this_rounds():
    state = make_state(make_lane(0, status="rejected", round=1), round=2, issued=1)
    assert routing.current(state) == ()
    assert routing.repairs(state, 2) == ()


def test_the_fastest_of_the_faster_is_worth_the_claim():
    state = make_state(
        make_lane(0, verdict=Verdict.FASTER, speedup=1.2),
        make_lane(1, verdict=Verdict.FASTER, speedup=1.4),
        make_lane(2, verdict=Verdict.SAME, speedup=1.9),
    )
    best = routing.best_lane(state)
    assert best is not None
    assert best.lane == 1


def test_of_equally_fast_lanes_the_first_is_claimed():
    lanes = [make_lane(n, verdict=Verdict.FASTER, speedup=1.2) for n in range(3)]
    best = routing.best_lane(make_state(*lanes))
    assert best is not None
    assert best.lane == 0


@pytest.mark.parametrize("verdict", [None, Verdict.SAME, Verdict.AMBIGUOUS, Verdict.SLOWER])
def test_nothing_is_claimed_without_a_faster_feedback(verdict):
    state = make_state(make_lane(0, status="measured", verdict=verdict, speedup=1.5))
    assert routing.best_lane(state) is None
    assert routing.after_bench(state) == "profile"


def test_faster_feedback_leads_to_a_claim():
    state = make_state(make_lane(0, status="measured", verdict=Verdict.FASTER, speedup=1.5))
    assert routing.after_bench(state) == "claim"


@pytest.mark.parametrize(
    ("route", "lanes", "changes", "expected"),
    [
        (routing.after_admit, (), {}, "plan"),
        (routing.after_admit, (), {"exit_reason": "unfit_target"}, "finish"),
        (routing.after_plan, (), {}, "research"),
        (routing.after_plan, (), {"exit_reason": "infeasible"}, "finish"),
        (
            routing.after_plan,
            (),
            {"exit_reason": "infeasible", "incumbent": "a0001"},
            "inspect",
        ),
        (routing.after_research, (), {}, "write"),
        (routing.after_research, (), {"exit_reason": "budget_wall"}, "finish"),
        (routing.after_check, (make_lane(status="checked"),), {}, "bench"),
        (routing.after_check, (make_lane(status="rejected"),), {}, "review"),
        (routing.after_check, (), {}, "review"),
        (
            routing.after_check,
            (make_lane(status="checked"),),
            {"exit_reason": "stalled"},
            "finalize",
        ),
        (
            routing.after_check,
            (make_lane(status="rejected"),),
            {"exit_reason": "stalled"},
            "finalize",
        ),
        (routing.after_inspect, (), {"route": "write"}, "write"),
        (routing.after_inspect, (), {"route": "stop"}, "autotune"),
        (routing.after_inspect, (), {"route": "plan"}, "autotune"),
        (routing.after_review, (), {"route": "write"}, "write"),
        (routing.after_review, (), {"route": "research"}, "research"),
        (routing.after_review, (), {"route": "plan"}, "plan"),
        (routing.after_review, (), {"route": "stop", "exit_reason": "plateau"}, "finish"),
        (
            routing.after_review,
            (),
            {"route": "stop", "exit_reason": "goal_met", "incumbent": "a0001"},
            "inspect",
        ),
    ],
)
def test_transitions(route, lanes, changes, expected):
    assert route(make_state(*lanes, **changes)) == expected


@pytest.mark.parametrize(
    ("lanes", "expected"),
    [
        ((make_lane(0, status="built"), make_lane(1, status="rejected")), "write"),
        ((make_lane(0, status="built"), make_lane(1, status="rejected", repair=2)), "check"),
        ((make_lane(0, status="rejected", repair=2),), "review"),
        ((make_lane(0, status="undrafted", repair=2),), "review"),
        ((make_lane(0, status="exhausted"),), "review"),
        ((make_lane(0, status="unserved"),), "review"),
    ],
)
def test_after_build(lanes, expected):
    assert routing.after_build(make_state(*lanes, issued=2), 2) == expected


@pytest.mark.parametrize(
    ("lane", "expected"),
    [
        (make_lane(status="built"), "check"),
        (make_lane(status="rejected", repair=1), "write"),
        (make_lane(status="rejected", repair=2), "finalize"),
        (make_lane(status="exhausted"), "finalize"),
    ],
)
def test_after_the_build_of_a_mend(lane, expected):
    assert routing.after_build(make_state(lane, issued=2, exit_reason="plateau"), 2) == expected


@pytest.mark.parametrize(
    "route",
    [
        routing.after_inspect,
        routing.after_admit,
        routing.after_plan,
        routing.after_research,
        routing.after_check,
        routing.after_bench,
        routing.after_review,
    ],
)
def test_every_route_says_where_it_can_lead(route):
    answers = typing.get_args(typing.get_type_hints(route)["return"])
    assert answers
    assert all(isinstance(answer, str) for answer in answers)


@given(reason=st.sampled_from(["plateau", "budget_wall", "stalled"]), best=st.booleans())
def test_whatever_ends_a_run_what_was_promoted_is_read_and_tuned_first(reason, best):
    state = make_state(exit_reason=reason, incumbent="a0001" if best else "", route="research")
    expected = "inspect" if best else "finish"
    assert routing.after_review(state) == expected
    assert routing.after_plan(state) == expected
    assert routing.after_research(state) == expected
