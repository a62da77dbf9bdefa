"""Which variants are mapped."""

from graph.budget import MOST_VARIANTS
from graph.ledger import AttemptOutcome
from graph.nodes.autotune import choose, points_of
from tests.graph.builders import make_attempt, make_comparison, make_decision


def promoted(number: int, small: float, wide: float):
    claim = make_decision(
        1.5, workloads={"small": make_comparison(small), "wide": make_comparison(wide)}
    )
    return make_attempt(number, outcome=AttemptOutcome.PROMOTED, claims=(claim,))


def chosen(*attempts, incumbent: str) -> list[str]:
    return [a.attempt_id for a in choose(list(attempts), incumbent, "torch eager")]


def test_the_incumbent_is_always_mapped_first():
    assert chosen(promoted(1, 2.0, 2.0), promoted(2, 1.0, 1.0), incumbent="a0002")[0] == "a0002"


def test_a_variant_that_wins_a_workload_is_worth_a_map():
    names = chosen(promoted(1, 3.0, 1.1), promoted(2, 2.0, 2.0), incumbent="a0002")
    assert names == ["a0002", "a0001"]


def test_a_variant_that_wins_nothing_is_not():
    assert chosen(promoted(1, 1.5, 1.5), promoted(2, 2.0, 2.0), incumbent="a0002") == ["a0002"]


def test_no_more_are_mapped_than_there_is_time_for():
    attempts = [
        make_attempt(
            number,
            outcome=AttemptOutcome.PROMOTED,
            claims=(make_decision(1.5, workloads={f"w{number}": make_comparison(2.0)}),),
        )
        for number in range(1, 7)
    ]
    names = chosen(*attempts, incumbent="a0006")
    assert len(names) == MOST_VARIANTS
    assert names[0] == "a0006"


def test_a_point_of_the_map_cites_its_record():
    points = points_of("a0001", make_decision(1.5, record_id="abc"))
    assert {(p.workload, p.attempt_id, p.record_id) for p in points} == {
        ("small", "a0001", "abc"),
        ("wide", "a0001", "abc"),
    }
