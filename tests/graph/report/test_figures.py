"""The four drawings: what is marked, where, and what each mark says."""

from itertools import pairwise

import pytest

from gpu_runner.facts import Roofline
from graph.ledger import AttemptOutcome
from graph.report import story
from graph.report.lineage import lineage_figure
from graph.report.progress import latency_figure, speedup_figure
from graph.report.roofline import Profiled, fraction_figure, roofline_figure
from graph.report.workloads import workloads_figure
from tests.graph.report.page import classed, drawn, titles
from tests.graph.synthetic_run import SyntheticRun, whole_run
from tests.graph.synthetic_target import COMPILED, EAGER


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return whole_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def attempts(run):
    return run.files.attempts()


@pytest.fixture(scope="module")
def points(attempts):
    return story.points(attempts, EAGER)


def roofline(**changes) -> Roofline:
    return Roofline(
        **{
            "workload": "wide",
            "time_us": 100.0,
            "required_bytes": 1_000_000,
            "required_flops": 1_000_000.0,
            "bandwidth_bytes_per_s": 20e9,
            "peak_flops_per_s": 60e9,
            "floor_us": 50.0,
            "fraction_reached": 0.5,
            "bound": "memory",
            **changes,
        }
    )


def profiled(*rooflines: Roofline, **changes) -> Profiled:
    values = {"attempt_id": "a0001", "version": "v001", "is_best": True, "roofline": rooflines}
    return Profiled(**{**values, **changes})


class TestProgress:
    def test_every_attempt_has_one_mark(self, attempts, points):
        figure = speedup_figure(points, attempts, EAGER)
        hrefs = [element.get("href", "") for element in drawn(figure).iter("a")]
        assert sorted(hrefs) == [f"#{attempt.attempt_id}" for attempt in attempts]

    def test_promoted_attempts_are_marked_and_named(self, attempts, points):
        figure = speedup_figure(points, attempts, EAGER)
        assert len(classed(figure, "dot", "promoted")) == 4
        names = {element.text for element in classed(figure, "name")}
        assert names == {"v001", "v002", "v003", "v004"}

    def test_attempts_without_a_number_are_crosses(self, attempts, points):
        figure = speedup_figure(points, attempts, EAGER)
        assert len(classed(figure, "cross", "rejected")) == 3
        assert len(classed(figure, "cross", "unserved")) == 1

    def test_faster_is_higher_in_one_and_lower_in_the_other(self, attempts, points):
        up = classed(speedup_figure(points, attempts, EAGER), "dot", "promoted")
        down = classed(latency_figure(points, attempts, EAGER, 84.0), "dot", "promoted")
        heights = [float(dot.get("cy", "")) for dot in up]
        assert heights == sorted(heights, reverse=True)
        depths = [float(dot.get("cy", "")) for dot in down]
        assert depths == sorted(depths)

    def test_whiskers_span_the_interval_around_the_dot(self, attempts, points):
        figure = speedup_figure(points, attempts, EAGER)
        dots = classed(figure, "dot", "placed")
        whiskers = classed(figure, "whisker", "placed")
        assert len(dots) == len(whiskers) > 0
        for dot, whisker in zip(dots, whiskers, strict=True):
            low, high = float(whisker.get("y1", "")), float(whisker.get("y2", ""))
            assert high < float(dot.get("cy", "")) < low

    def test_a_mark_says_its_numbers_and_its_record(self, attempts, points):
        said = "\n".join(titles(speedup_figure(points, attempts, EAGER)))
        for point in points:
            assert point.decision.record_id in said
            assert f"{point.speedup:.2f}×" in said

    def test_a_chained_estimate_says_so(self, attempts, points):
        said = titles(speedup_figure(points, attempts, EAGER))
        chained = [text for text in said if "placed through the incumbent" in text]
        assert len(chained) == sum(not point.is_direct for point in points)

    def test_the_baseline_is_a_rule_in_both(self, attempts, points):
        assert len(classed(speedup_figure(points, attempts, EAGER), "rule")) == 1
        assert len(classed(latency_figure(points, attempts, EAGER, 84.0), "rule")) == 1
        assert classed(latency_figure(points, attempts, EAGER, None), "rule") == []

    def test_the_best_line_starts_at_the_first_promotion(self, attempts, points):
        figure = speedup_figure(points, attempts, EAGER)
        (best,) = classed(figure, "best")
        first = classed(figure, "dot", "promoted")[0]
        start = (best.get("d") or "").split()[1:3]
        assert [float(v) for v in start] == pytest.approx(
            [float(first.get("cx", "")), float(first.get("cy", ""))], abs=0.06
        )

    def test_without_a_promotion_there_is_no_best_line(self, tmp_path):
        run = SyntheticRun(tmp_path)
        run.measured(0.9)
        rows = run.files.attempts()
        figure = speedup_figure(story.points(rows, EAGER), rows, EAGER)
        assert classed(figure, "best") == []

    def test_names_of_a_long_run_do_not_run_into_each_other(self, tmp_path):
        run = SyntheticRun(tmp_path)
        for _ in range(40):
            run.promoted(1.02)
        rows = run.files.attempts()
        figure = speedup_figure(story.points(rows, EAGER), rows, EAGER)
        xs = sorted(float(name.get("x", "")) for name in classed(figure, "name"))
        assert xs
        assert all(b - a >= 34 for a, b in pairwise(xs))
        assert "v040" in {name.text for name in classed(figure, "name")}

    def test_everything_is_inside_the_view_box(self, attempts, points):
        figure = drawn(speedup_figure(points, attempts, EAGER))
        _, _, width, height = (float(v) for v in (figure.get("viewBox") or "").split())
        for circle in figure.iter("circle"):
            assert 0 <= float(circle.get("cx", "")) <= width
            assert 0 <= float(circle.get("cy", "")) <= height


class TestWorkloads:
    @pytest.fixture
    def figure(self, run):
        return workloads_figure(run.incumbent.claims, run.workloads)

    def test_a_bar_for_every_workload_and_baseline(self, run, figure):
        assert len(classed(figure, "bar", "series0")) == len(run.workloads)
        assert len(classed(figure, "bar", "series1")) == len(run.workloads)

    def test_each_bar_says_contender_interval_and_record(self, run, figure):
        said = "\n".join(titles(figure))
        for claim in run.incumbent.claims:
            for name, compared in claim.workloads.items():
                assert f"{name} against {claim.against}: {compared.verdict}" in said
                assert f"({compared.low:.2f}× to {compared.high:.2f}×)" in said
            assert claim.record_id in said

    def test_weights_are_shown_as_shares(self, run, figure):
        shown = [element.text or "" for element in drawn(figure).iter("text")]
        total = sum(w.weight for w in run.workloads)
        for workload in run.workloads:
            assert any(f"{workload.weight / total:.0%} of W" in text for text in shown)

    def test_a_slower_workload_grows_to_the_left_of_one(self, tmp_path):
        run = SyntheticRun(tmp_path)
        slow = run.decision(run.candidate(), EAGER, 0.5, 5)
        figure = workloads_figure((slow,), run.workloads)
        (rule,) = classed(figure, "rule")
        for bar in classed(figure, "bar"):
            end = float(bar.get("x", "")) + float(bar.get("width", ""))
            assert end == pytest.approx(float(rule.get("x1", "")), abs=0.02)

    def test_workloads_that_were_not_compared_are_left_out(self, run):
        claim = run.incumbent.claims[0]
        kept = dict(list(claim.workloads.items())[:2])
        figure = workloads_figure((claim.model_copy(update={"workloads": kept}),), run.workloads)
        assert len(classed(figure, "bar")) == 2

    def test_more_baselines_than_colours_repeat_them(self, run):
        claim = run.incumbent.claims[0]
        named = tuple(claim.model_copy(update={"against": f"b{n}"}) for n in range(5))
        figure = workloads_figure(named, run.workloads)
        assert len(classed(figure, "bar", "series0")) == 2 * len(run.workloads)


class TestRoofline:
    def test_without_operations_there_is_no_roofline_but_a_fraction(self):
        only_bytes = (profiled(roofline(required_flops=0.0)),)
        assert roofline_figure(only_bytes) == ""
        assert len(classed(fraction_figure(only_bytes), "dot")) == 1

    def test_two_ceilings_meet_at_the_ridge(self):
        figure = roofline_figure((profiled(roofline()),))
        slope, flat = classed(figure, "ceiling")
        assert slope.get("x2") == flat.get("x1")
        assert slope.get("y2") == flat.get("y1") == flat.get("y2")

    def test_bandwidths_that_differ_are_separate_ceilings(self):
        cached = roofline(workload="small", bandwidth_bytes_per_s=60e9)
        alike = roofline(workload="other", bandwidth_bytes_per_s=19.5e9)
        figure = roofline_figure((profiled(roofline(), cached, alike),))
        assert len(classed(figure, "ceiling")) == 3
        shown = [element.text for element in drawn(figure).iter("text")]
        assert "60 GB/s" in shown
        assert "20 GB/s" in shown

    def test_a_kernel_under_the_roof_is_drawn_under_it(self):
        figure = roofline_figure((profiled(roofline(fraction_reached=0.5)),))
        (dot,) = classed(figure, "dot")
        slope = classed(figure, "ceiling")[0]
        (x1, y1), (x2, y2) = (
            (float(slope.get(f"x{n}", "")), float(slope.get(f"y{n}", ""))) for n in (1, 2)
        )
        x, y = float(dot.get("cx", "")), float(dot.get("cy", ""))
        roof = y1 + (x - x1) / (x2 - x1) * (y2 - y1)
        assert y > roof

    def test_the_best_kernel_is_larger_than_earlier_ones(self):
        earlier = profiled(roofline(time_us=200), attempt_id="a0002", is_best=False)
        figure = roofline_figure((earlier, profiled(roofline())))
        radii = {dot.get("class", ""): float(dot.get("r", "")) for dot in classed(figure, "dot")}
        assert radii["dot work0"] > radii["dot work0 earlier"]

    def test_a_dot_says_what_it_reached_and_links_to_its_row(self):
        figure = fraction_figure((profiled(roofline(fraction_reached=0.41)),))
        assert any("41% of the roof, memory bound" in text for text in titles(figure))
        assert [element.get("href") for element in drawn(figure).iter("a")] == ["#a0001"]

    def test_fractions_lie_between_nothing_and_the_roof(self):
        shares = (0.0, 0.5, 1.0, 1.7)
        rows = tuple(
            profiled(roofline(workload=f"w{n}", fraction_reached=s)) for n, s in enumerate(shares)
        )
        figure = fraction_figure(rows)
        xs = [float(dot.get("cx", "")) for dot in classed(figure, "dot")]
        (roof,) = classed(figure, "rule")
        assert xs == sorted(xs)
        assert xs[2] == pytest.approx(float(roof.get("x1", "")))
        assert xs[3] <= 560

    def test_a_workload_without_the_best_kernel_shows_the_last_profile(self):
        old = profiled(roofline(fraction_reached=0.2), is_best=False)
        new = profiled(roofline(fraction_reached=0.3), attempt_id="a0002", is_best=False)
        (value,) = classed(fraction_figure((old, new)), "value")
        assert value.text == "30%"


class TestLineage:
    @pytest.fixture
    def figure(self, attempts, points):
        return lineage_figure(story.lineage(attempts), points)

    def test_every_attempt_is_a_link_to_its_row(self, attempts, figure):
        hrefs = [element.get("href", "") for element in drawn(figure).iter("a")]
        assert sorted(hrefs) == [f"#{attempt.attempt_id}" for attempt in attempts]

    def test_promoted_nodes_are_joined_from_the_start_on(self, figure):
        assert len(classed(figure, "dot", "promoted")) == 4
        assert len(classed(figure, "edge")) == 4
        assert len(classed(figure, "dot", "start")) == 1

    def test_leaves_show_how_they_ended(self, attempts, figure):
        ended = [attempt.outcome for attempt in attempts]
        assert len(classed(figure, "dot", "leaf")) == ended.count(AttemptOutcome.MEASURED)
        assert len(classed(figure, "cross", "rejected")) == ended.count(AttemptOutcome.REJECTED)
        assert len(classed(figure, "cross", "unserved")) == ended.count(AttemptOutcome.UNSERVED)

    def test_a_node_says_its_speedup_over_the_baseline(self, run, figure):
        final = run.incumbent.claims[0].overall.speedup
        labels = [element.text or "" for element in classed(figure, "row")]
        assert f"v004 · a0013 · {final:.2f}×" in labels

    def test_many_leaves_wrap_and_make_their_row_taller(self, tmp_path):
        run = SyntheticRun(tmp_path)
        run.promoted(1.2)
        for _ in range(70):
            run.rejected()
        run.promoted(1.2)
        rows = story.lineage(run.files.attempts())
        figure = lineage_figure(rows, ())
        crosses = [float((c.get("d") or "").split()[2]) for c in classed(figure, "cross")]
        _, second = (float(d.get("cy", "")) for d in classed(figure, "dot", "promoted"))
        assert len(set(crosses)) == 5
        assert max(crosses) < second

    def test_an_empty_ledger_is_the_start_alone(self):
        figure = lineage_figure(story.lineage(()), ())
        assert len(classed(figure, "dot")) == 1
        assert list(drawn(figure).iter("a")) == []


def test_against_the_second_baseline_points_are_its_claims(attempts):
    found = [point for point in story.points(attempts, COMPILED) if point.is_direct]
    assert [point.decision.against for point in found] == [COMPILED] * 4
