"""The fewest guards that tell shapes apart: cut by cut, and its laws."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.expression import evaluate
from graph.regimes import ALWAYS, Shape, Split, crossover, shortest_split

FAST, SLOW = math.log(2.0), math.log(1.1)
A, B, C = "a0001", "a0002", "a0003"


def shape(good: str | None, weight: float = 1.0, **sizes: int) -> Shape:
    """A shape on which one variant of three is good enough; None: its contents disagree."""
    gains = {name: FAST if name == good else SLOW for name in (A, B, C)}
    return Shape(
        sizes=sizes,
        names=("-".join(f"{axis}{size}" for axis, size in sizes.items()),),
        weight=weight,
        gains=gains,
        good=frozenset({good} if good else ()),
    )


def split(*shapes: Shape, variants: tuple[str, ...] = (A, B, C)) -> Split:
    return shortest_split(shapes, variants)


def rules(found: Split) -> list[tuple[str, str]]:
    return [(piece.guard, piece.variant) for piece in found.pieces]


def served_by(found: Split, sizes) -> str:
    return next(piece.variant for piece in found.pieces if evaluate(piece.guard, sizes))


def test_shapes_with_one_favourite_need_no_guard():
    found = split(shape(A, N=16), shape(A, N=4096))
    assert rules(found) == [(ALWAYS, A)]
    assert found.loss == 0


def test_two_favourites_are_told_apart_between_their_sizes():
    found = split(shape(A, N=256), shape(B, N=4096))
    assert rules(found) == [("N <= 1024", A), (ALWAYS, B)]
    assert found.gap == pytest.approx(math.log(16))


def test_the_widest_gap_is_where_shapes_are_cut():
    found = split(shape(A, N=64, M=1), shape(B, N=65, M=4096))
    assert rules(found)[0][0].startswith("M "), "M differs by a factor, N by one"


def test_a_favourite_in_the_middle_takes_two_guards():
    found = split(shape(A, N=16), shape(B, N=256), shape(A, N=4096))
    assert len(found.pieces) in {2, 3}
    for size, variant in ((16, A), (256, B), (4096, A)):
        assert served_by(found, {"N": size}) == variant


def test_a_variant_that_is_good_enough_everywhere_wins_over_guards():
    both = Shape(
        sizes={"N": 16},
        names=("n16",),
        weight=1.0,
        gains={A: FAST, B: FAST - 0.01},
        good=frozenset({A, B}),
    )
    found = split(both, shape(B, N=4096), variants=(A, B))
    assert rules(found) == [(ALWAYS, B)]
    assert found.loss == pytest.approx(0.01)


def test_of_two_that_may_serve_the_one_that_loses_less_does():
    shapes = [
        Shape(
            sizes={"N": size},
            names=(f"n{size}",),
            weight=weight,
            gains={A: a, B: b},
            good=frozenset({A, B}),
        )
        for size, weight, a, b in ((16, 0.7, 0.50, 0.52), (4096, 0.3, 0.60, 0.50))
    ]
    assert split(*shapes, variants=(A, B)).pieces[0].variant == A
    heavier = [
        Shape(
            sizes=s.sizes,
            names=s.names,
            weight=w,
            gains=s.gains,
            good=s.good,
        )
        for s, w in zip(shapes, (0.99, 0.01), strict=True)
    ]
    assert split(*heavier, variants=(A, B)).pieces[0].variant == B


def test_a_shape_whose_contents_disagree_takes_the_best_on_average():
    undecided = Shape(
        sizes={"N": 8}, names=("x", "y"), weight=1.0, gains={A: 0.1, B: 0.3}, good=frozenset()
    )
    assert undecided.choice == {B}
    assert undecided.loss(A) == pytest.approx(0.2)
    assert split(undecided, variants=(A, B)).pieces[0].variant == B


def test_the_order_of_the_variants_settles_a_tie():
    equal = Shape(
        sizes={"N": 8}, names=("x",), weight=1.0, gains={A: 0.3, B: 0.3}, good=frozenset({A, B})
    )
    assert split(equal, variants=(A, B)).pieces[0].variant == A
    assert split(equal, variants=(B, A)).pieces[0].variant == B


def test_alternating_favourites_beyond_the_exact_search_are_still_served():
    shapes = [shape((A, B, C)[index % 3], N=4**index) for index in range(1, 11)]
    found = split(*shapes)
    assert found.pieces[-1].guard == ALWAYS
    for each in shapes:
        assert served_by(found, each.sizes) in each.good
    assert found.loss == pytest.approx(0)


@pytest.mark.parametrize(
    ("left", "right", "edge"), [(1, 2, 1), (16, 4096, 256), (100, 101, 100), (7, 7, 7), (1, 1, 1)]
)
def test_the_crossover_is_the_geometric_mean_rounded_down(left, right, edge):
    assert crossover(left, right) == edge


@given(st.integers(1, 2**20), st.integers(1, 2**20))
def test_a_crossover_separates_its_two_sizes(one, other):
    left, right = sorted((one, other))
    edge = crossover(left, right)
    assert left <= edge
    assert edge < right or left == right


SIZES = st.sampled_from([1, 8, 64, 100, 512, 4096])
PLANS = st.lists(
    st.tuples(SIZES, SIZES, st.sampled_from([A, B, C])),
    min_size=1,
    max_size=7,
    unique_by=lambda p: p[:2],
)


@given(PLANS)
def test_every_shape_is_served_by_its_favourite(plan):
    shapes = [shape(good, M=m, N=n) for m, n, good in plan]
    found = split(*shapes)
    for each in shapes:
        assert served_by(found, each.sizes) in each.choice


@given(PLANS)
def test_pieces_share_the_shapes_out_and_the_last_takes_the_rest(plan):
    shapes = [shape(good, M=m, N=n) for m, n, good in plan]
    found = split(*shapes)
    dealt = list(itertools.chain.from_iterable(piece.shapes for piece in found.pieces))
    assert sorted(dealt) == list(range(len(shapes)))
    assert found.pieces[-1].guard == ALWAYS


@given(PLANS, st.integers(1, 8192), st.integers(1, 8192))
def test_sizes_nobody_measured_are_served_as_well(plan, m, n):
    shapes = [shape(good, M=m_, N=n_) for m_, n_, good in plan]
    assert served_by(split(*shapes), {"M": m, "N": n}) in {A, B, C}


@given(PLANS)
def test_as_many_regimes_as_favourites_at_least_and_one_where_all_agree(plan):
    found = split(*(shape(good, M=m, N=n) for m, n, good in plan))
    favourites = {good for _, _, good in plan}
    assert len(found.pieces) >= len(favourites)
    assert (len(found.pieces) == 1) == (len(favourites) == 1)


@given(PLANS.filter(lambda plan: len(plan) <= 4))
def test_the_order_of_the_shapes_does_not_matter(plan):
    shapes = [shape(good, M=m, N=n) for m, n, good in plan]
    assert rules(split(*shapes)) == rules(split(*reversed(shapes)))


def test_a_wide_gap_beats_a_narrow_one_though_both_separate():
    """Between 4096 and 1 nothing is near the edge; between 64 and 65 everything is."""
    found = split(shape(A, K=65, M=1), shape(B, K=64, M=4096))
    assert rules(found) == [("M <= 64", A), (ALWAYS, B)]
    assert found.gap == pytest.approx(math.log(4096))
