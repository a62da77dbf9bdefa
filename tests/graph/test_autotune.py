"""Regimes from performance maps: fewest, cited, complete, the same every time."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.expression import evaluate
from gpu_runner.problem import Workload
from graph.autotune import BASELINE, MARGIN, MOST_REGRET, regime_for, tune
from graph.ledger import MapPoint, Tuning
from tests.builders import make_workload

FAST, WIDE, ODD = "a0001", "a0002", "a0003"


def make_point(workload: str, attempt: str, speedup: float, spread: float = 0.02) -> MapPoint:
    return MapPoint(
        workload=workload,
        attempt_id=attempt,
        speedup=speedup,
        low=speedup / (1 + spread),
        high=speedup * (1 + spread),
        candidate_us=100 / speedup,
        record_id=f"{attempt}-{workload}",
    )


def rows(**columns: int) -> tuple[Workload, ...]:
    """One workload for each name, its column count given."""
    return tuple(make_workload(name=name, axes={"B": 8, "N": n}) for name, n in columns.items())


W3 = rows(short=128, middle=1024, long=65536)


def tuned(table: dict[str, dict[str, float]], workloads=W3, **changes) -> Tuning:
    """Tune from {attempt: {workload: speedup}}."""
    points = tuple(make_point(w, a, s) for a, row in table.items() for w, s in row.items())
    return tune(points, workloads, tuple(table), **changes)


def serving(tuning: Tuning, workloads=W3) -> dict[str, str]:
    found = {}
    for workload in workloads:
        regime = regime_for(tuning.regimes, workload.axes)
        assert regime is not None
        found[workload.name] = regime.attempt_id
    return found


def test_one_variant_that_wins_everywhere_needs_no_guard():
    tuning = tuned(
        {
            FAST: {"short": 2.0, "middle": 2.0, "long": 2.0},
            WIDE: dict.fromkeys(("short", "middle", "long"), 1.5),
        }
    )
    assert tuning.is_trivial
    assert [(r.guard, r.attempt_id) for r in tuning.regimes] == [("1", FAST)]
    assert "trivial dispatcher" in tuning.reason
    assert tuning.regret == 0


def test_two_variants_are_told_apart_at_the_geometric_mean_of_their_shapes():
    tuning = tuned(
        {
            FAST: {"short": 3.0, "middle": 2.0, "long": 1.1},
            WIDE: {"short": 1.2, "middle": 1.9, "long": 2.5},
        }
    )
    edge = math.isqrt(1024 * 65536)
    assert [(r.guard, r.attempt_id) for r in tuning.regimes] == [
        (f"N <= {edge}", FAST),
        ("1", WIDE),
    ]
    assert tuning.regimes[0].workloads == ("short", "middle")
    assert not tuning.is_trivial
    assert tuning.regret == pytest.approx(0)


def test_a_difference_within_the_noise_makes_no_regime():
    tuning = tuned(
        {
            FAST: {"short": 2.00, "middle": 2.0, "long": 2.00},
            WIDE: {"short": 1.96, "middle": 2.0, "long": 2.05},
        }
    )
    assert tuning.is_trivial
    assert 0 < (tuning.regret or 0) < MOST_REGRET


def test_wide_intervals_that_overlap_cost_regret_and_the_tuning_says_so():
    points = tuple(
        make_point(w, a, s, spread=0.2)
        for a, w, s in (
            (FAST, "short", 2.0),
            (FAST, "long", 2.0),
            (WIDE, "short", 1.9),
            (WIDE, "long", 2.4),
        )
    )
    tuning = tune(points, rows(short=128, long=4096), (FAST, WIDE))
    assert tuning.is_trivial
    assert tuning.regimes[0].attempt_id == WIDE
    assert (tuning.regret or 0) > MOST_REGRET
    assert "within the noise" in tuning.reason


def test_the_baseline_serves_where_every_kernel_is_slower():
    tuning = tuned({FAST: {"short": 2.0, "middle": 1.5, "long": 0.6}})
    assert serving(tuning) == {"short": FAST, "middle": FAST, "long": BASELINE}
    assert "no kernel is faster than the baseline on long" in tuning.regimes[-1].reason
    assert tuning.regimes[-1].record_ids == (f"{FAST}-long",)


def test_a_kernel_that_is_no_slower_than_the_baseline_may_serve_with_the_rest():
    tuning = tuned({FAST: {"short": 2.0, "middle": 1.5, "long": 0.99}})
    assert tuning.is_trivial
    assert tuning.regimes[0].attempt_id == FAST


def test_nothing_promoted_leaves_everything_to_the_baseline():
    tuning = tune((), W3, ())
    assert tuning.regimes == ()
    assert tuning.is_trivial
    assert "baseline serves every shape" in tuning.reason
    assert regime_for(tuning.regimes, {"B": 1, "N": 1}) is None


def test_attempts_that_are_not_promoted_never_serve():
    points = (make_point("short", FAST, 1.2), make_point("short", WIDE, 9.0))
    tuning = tune(points, rows(short=128), (FAST,))
    assert tuning.regimes[0].attempt_id == FAST
    assert tuning.points == points


def test_hidden_and_unmeasured_workloads_take_no_part():
    hidden = make_workload(name="secret", axes={"B": 1, "N": 7}, visibility="hidden")
    workloads = (*W3, hidden)
    points = tuple(make_point(n, FAST, 2.0) for n in ("short", "long", "secret"))
    tuning = tune(points, workloads, (FAST,))
    assert tuning.regimes[0].workloads == ("short", "long")


def test_a_variant_without_a_cell_may_not_serve_by_choice():
    tuning = tuned({FAST: {"short": 9.0}, WIDE: {"short": 2.0, "middle": 2.0, "long": 2.0}})
    assert serving(tuning) == {"short": FAST, "middle": WIDE, "long": WIDE}


def test_of_two_measurements_of_a_cell_the_last_counts():
    points = (make_point("short", FAST, 0.5), make_point("short", FAST, 2.0))
    assert tune(points, rows(short=128), (FAST,)).regimes[0].attempt_id == FAST


def test_weights_decide_between_variants_that_are_equally_admissible():
    table = {FAST: {"short": 2.04, "long": 2.0}, WIDE: {"short": 2.0, "long": 2.04}}
    for heavy, winner in (("short", FAST), ("long", WIDE)):
        workloads = tuple(
            w.model_copy(update={"weight": 9.0 if w.name == heavy else 1.0})
            for w in rows(short=128, long=4096)
        )
        assert tuned(table, workloads).regimes[0].attempt_id == winner


def test_a_tie_goes_to_the_first_of_the_promoted():
    table = {WIDE: {"short": 2.0}, FAST: {"short": 2.0}}
    assert tuned(table, rows(short=128)).regimes[0].attempt_id == WIDE


def test_interleaved_optima_on_two_axes_are_cut_out_cell_by_cell():
    grid = {"aa": (1, 1), "ab": (1, 64), "ba": (64, 1), "bb": (64, 64)}
    workloads = tuple(
        make_workload(name=name, axes={"B": b, "N": n}) for name, (b, n) in grid.items()
    )
    table = {
        FAST: {"aa": 3.0, "ab": 1.1, "ba": 1.1, "bb": 3.0},
        WIDE: {"aa": 1.1, "ab": 3.0, "ba": 3.0, "bb": 1.1},
    }
    tuning = tuned(table, workloads)
    assert serving(tuning, workloads) == {"aa": FAST, "ab": WIDE, "ba": WIDE, "bb": FAST}
    assert len(tuning.regimes) == 3


def test_many_interleaved_optima_still_find_a_dispatcher():
    workloads = rows(**{f"w{i}": 4**i for i in range(1, 13)})
    attempts = tuple(f"a{i:04d}" for i in range(1, 4))
    table = {
        a: {w.name: 3.0 if i % 3 == j else 1.1 for i, w in enumerate(workloads)}
        for j, a in enumerate(attempts)
    }
    tuning = tuned(table, workloads)
    assert serving(tuning, workloads) == {w.name: attempts[i % 3] for i, w in enumerate(workloads)}
    assert tuning.regret == pytest.approx(0)


def test_contents_of_one_shape_that_disagree_are_named():
    workloads = (
        make_workload(name="dense", axes={"B": 8, "N": 128}),
        make_workload(name="sparse", axes={"B": 8, "N": 128}, profile="sparse"),
    )
    tuning = tuned(
        {FAST: {"dense": 3.0, "sparse": 1.0}, WIDE: {"dense": 1.0, "sparse": 2.0}}, workloads
    )
    assert tuning.regimes[0].attempt_id == FAST
    assert "contents of one shape disagree: dense, sparse" in tuning.reason
    assert tuning.regret == pytest.approx(math.sqrt(2) - 1)


def test_a_regime_says_what_it_reaches_and_what_keeps_the_others_out():
    tuning = tuned(
        {
            FAST: {"short": 3.0, "middle": 2.0, "long": 1.1},
            WIDE: {"short": 1.2, "middle": 1.9, "long": 2.5},
        }
    )
    first, last = tuning.regimes
    assert f"{FAST} reaches 3.00x [2.94, 3.06] on short" in first.reason
    assert f"{WIDE} is slower beyond doubt on short" in first.reason
    assert f"{FAST} is slower beyond doubt on long" in last.reason


def test_a_smaller_margin_tells_more_apart():
    table = {FAST: {"short": 2.0, "long": 2.0}, WIDE: {"short": 1.7, "long": 2.12}}
    workloads = rows(short=128, long=4096)
    assert tuned(table, workloads, margin=0.05).is_trivial
    assert not tuned(table, workloads, margin=0.01).is_trivial


SIZES = st.sampled_from([1, 2, 3, 8, 31, 128, 1000, 4096, 65536])
SPEEDUPS = st.floats(min_value=0.3, max_value=4.0)


@st.composite
def maps(draw) -> tuple[tuple[MapPoint, ...], tuple[Workload, ...], tuple[str, ...]]:
    count = draw(st.integers(1, 7))
    workloads = tuple(
        make_workload(
            name=f"w{i}",
            axes={"B": draw(SIZES), "N": draw(SIZES)},
            weight=draw(st.floats(min_value=0.1, max_value=5.0)),
        )
        for i in range(count)
    )
    promoted = tuple(f"a{i:04d}" for i in range(1, draw(st.integers(1, 4)) + 1))
    points = tuple(
        make_point(w.name, a, draw(SPEEDUPS), draw(st.floats(min_value=0.0, max_value=0.2)))
        for w in workloads
        for a in promoted
        if draw(st.integers(0, 9))
    )
    return points, workloads, promoted


@settings(max_examples=120, deadline=None)
@given(maps())
def test_every_measured_workload_is_served_by_exactly_one_regime(made):
    points, workloads, promoted = made
    tuning = tune(points, workloads, promoted)
    measured = {p.workload for p in points}
    listed = [name for regime in tuning.regimes for name in regime.workloads]
    assert sorted(listed) == sorted(measured)
    for workload in workloads:
        if workload.name in measured:
            regime = regime_for(tuning.regimes, workload.axes)
            assert regime is not None
            assert workload.name in regime.workloads
    assert all(r.attempt_id in (*promoted, BASELINE) for r in tuning.regimes)


@settings(max_examples=120, deadline=None)
@given(maps())
def test_the_regret_is_small_or_explained_and_never_negative(made):
    tuning = tune(*made)
    if tuning.regret is not None:
        assert tuning.regret >= -1e-12
        explained = "within the noise" in tuning.reason or "disagree" in tuning.reason
        assert tuning.regret <= MOST_REGRET or explained


@settings(max_examples=60, deadline=None)
@given(maps(), st.randoms(use_true_random=False))
def test_the_same_map_gives_the_same_regimes_in_any_order_of_its_points(made, random):
    points, workloads, promoted = made
    shuffled = list(points)
    random.shuffle(shuffled)
    again = tune(tuple(shuffled), workloads, promoted)
    first = tune(points, workloads, promoted)
    assert [(r.guard, r.attempt_id, r.workloads) for r in again.regimes] == [
        (r.guard, r.attempt_id, r.workloads) for r in first.regimes
    ]


@settings(max_examples=120, deadline=None)
@given(maps())
def test_no_regime_is_served_by_a_variant_that_is_beaten_beyond_doubt(made):
    points, workloads, promoted = made
    tuning = tune(points, workloads, promoted)
    cells = {(p.workload, p.attempt_id): (p.low, p.high, p.speedup) for p in points}
    shapes: dict[tuple[int, ...], int] = {}
    measured = [w for w in workloads if any(p.workload == w.name for p in points)]
    for w in measured:
        shapes[tuple(w.axes.values())] = shapes.get(tuple(w.axes.values()), 0) + 1
    for workload in measured:
        if shapes.get(tuple(workload.axes.values())) != 1:
            continue
        regime = regime_for(tuning.regimes, workload.axes)
        assert regime is not None
        row = {a: cells[workload.name, a] for a in promoted if (workload.name, a) in cells}
        row[BASELINE] = (1.0, 1.0, 1.0)
        best_low = max(row.values(), key=lambda cell: cell[2])[0]
        assert row[regime.attempt_id][1] * (1 + MARGIN) >= best_low * (1 - 1e-12)


@settings(max_examples=60, deadline=None)
@given(maps())
def test_every_regime_cites_measurements_of_its_own_workloads(made):
    tuning = tune(*made)
    by_id = {p.record_id: p for p in tuning.points}
    for regime in tuning.regimes:
        assert regime.record_ids
        assert {by_id[i].workload for i in regime.record_ids} <= set(regime.workloads)


@settings(max_examples=60, deadline=None)
@given(maps(), st.integers(1, 10**6), st.integers(1, 10**6))
def test_shapes_that_nobody_measured_are_served_too(made, b, n):
    tuning = tune(*made)
    if tuning.regimes:
        assert regime_for(tuning.regimes, {"B": b, "N": n}) is not None
        assert evaluate(tuning.regimes[-1].guard, {"B": b, "N": n}) == 1
