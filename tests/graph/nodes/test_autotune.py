"""Which variants are mapped, and what the map decides."""

import pytest

from graph.budget import MOST_VARIANTS
from graph.ledger import AttemptOutcome, Tuning
from graph.nodes.autotune import autotune, choose, points_of
from graph.target import Budget
from tests.graph.builders import make_attempt, make_comparison, make_decision, make_target
from tests.graph.nodes.workshop import Workshop


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


# -- the node ------------------------------------------------------------------------------------


def claim_of(small: float, wide: float):
    return make_decision(
        1.5, workloads={"small": make_comparison(small), "wide": make_comparison(wide)}
    )


async def tuned(workshop: Workshop, **changes) -> Tuning:
    assert await autotune(workshop.state(**changes), workshop.runtime) == {}
    tuning = workshop.files.tuning()
    assert tuning is not None
    return tuning


async def test_one_variant_is_mapped_by_its_own_claim(workshop):
    workshop.promoted(1, "us=50", claims=(claim_of(1.4, 1.6),))
    tuning = await tuned(workshop, incumbent="a0001", promoted=1)
    assert workshop.ran() == []
    assert tuning.is_trivial
    assert {point.workload: point.speedup for point in tuning.points} == {"small": 1.4, "wide": 1.6}
    assert {point.record_id for point in tuning.points} == {"f" * 16}


async def test_several_variants_are_measured_again_over_the_workloads(workshop):
    workshop.promoted(1, "us=60", claims=(claim_of(3.0, 1.2),))
    workshop.promoted(2, "us=50", claims=(claim_of(2.0, 2.0),))
    tuning = await tuned(workshop, incumbent="a0002", promoted=2)
    assert [job.job_id for job in workshop.benches()] == [
        "softmax-test-map-a0002-t0",
        "softmax-test-map-a0001-t0",
    ]
    assert {point.attempt_id for point in tuning.points} == {"a0001", "a0002"}
    assert {r.attempt_id for r in tuning.regimes} == {"a0002"}, "it is faster on every shape now"
    (decision,) = workshop.decisions("autotune")
    assert decision.choice == "regimes: 1"
    assert set(decision.evidence) == {point.record_id for point in tuning.points}
    assert all(workshop.files.record(name) for name in decision.evidence)


@pytest.mark.parametrize("text", ["us=60 lost=99", "us=60 bench=fail"])
async def test_a_variant_that_cannot_be_measured_keeps_its_claim(workshop, text):
    workshop.promoted(1, text, claims=(claim_of(3.0, 1.2),))
    workshop.promoted(2, "us=50", claims=(claim_of(2.0, 2.0),))
    tuning = await tuned(workshop, incumbent="a0002", promoted=2)
    kept = {p.workload: p.speedup for p in tuning.points if p.attempt_id == "a0001"}
    assert kept == {"small": 3.0, "wide": 1.2}
    used, _ = workshop.decisions("autotune")
    assert (used.choice, used.key) == ("claim used", "decision:autotune:a0001")


async def test_without_time_the_claims_are_the_map(make_workshop):
    workshop = make_workshop(target=make_target(budget=Budget(rounds=3, wall_s=100)))
    workshop.promoted(1, "us=60", claims=(claim_of(3.0, 1.2),))
    workshop.promoted(2, "us=50", claims=(claim_of(2.0, 2.0),))
    workshop.clock.now_s = 99.0
    tuning = await tuned(workshop, incumbent="a0002", promoted=2)
    assert workshop.ran() == []
    assert {(r.attempt_id, r.workloads) for r in tuning.regimes} == {
        ("a0001", ("small",)),
        ("a0002", ("wide",)),
    }


async def test_a_map_made_before_a_kill_is_not_made_again(workshop):
    workshop.promoted(1, "us=60", claims=(claim_of(3.0, 1.2),))
    workshop.promoted(2, "us=50", claims=(claim_of(2.0, 2.0),))
    first = await tuned(workshop, incumbent="a0002", promoted=2)
    again = await tuned(workshop, incumbent="a0002", promoted=2)
    assert first == again
    assert len(workshop.ran()) == 2
