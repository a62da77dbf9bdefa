import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from graph.report.svg import (
    LogScale,
    element,
    figure,
    line,
    log_scale,
    micros,
    ratio,
    shortened,
    text,
    tick_label,
)
from tests.graph.report.page import drawn

PRINTABLE = st.text(
    st.characters(min_codepoint=32, max_codepoint=0xD7FF, exclude_categories=["Cc", "Cs"])
)
POSITIVE = st.floats(min_value=1e-6, max_value=1e12)


@given(PRINTABLE)
def test_any_text_survives_as_text_and_as_an_attribute(content):
    parsed = drawn(element("text", content, class_=content))
    assert (parsed.text or "") == content
    assert parsed.get("class") == content
    assert list(parsed) == []


def test_markup_children_are_kept_and_plain_ones_are_not():
    inner = element("title", "<b>")
    assert element("g", inner, "<i>") == "<g><title>&lt;b&gt;</title>&lt;i&gt;</g>"


def test_attribute_names_are_written_as_python_words():
    drawn_line = element("line", stroke_width=1.5, class_="a", x1=2.0, href=None)
    assert drawn_line == '<line stroke-width="1.5" class="a" x1="2"></line>'


def test_numbers_have_at_most_two_decimals_and_no_tail_of_zeros():
    assert element("c", r=1 / 3, x=10.0, y=100.0) == '<c r="0.33" x="10" y="100"></c>'


def test_a_figure_is_named_for_those_who_do_not_see_it():
    parsed = drawn(figure(100, 50, "Speed & such", text(1, 2, "hello")))
    assert parsed.get("role") == "img"
    assert parsed.get("aria-label") == "Speed & such"
    assert parsed.findtext("title") == "Speed & such"
    assert parsed.get("viewBox") == "0 0 100 50"


def test_a_line_and_a_text_carry_their_class_and_anchor():
    assert line(0, 1, 2, 3, "grid") == '<line x1="0" y1="1" x2="2" y2="3" class="grid"></line>'
    assert drawn(text(0, 0, "t", anchor="end")).get("text-anchor") == "end"
    assert drawn(text(0, 0, "t")).get("class") is None


@given(PRINTABLE, st.integers(min_value=2, max_value=40))
def test_shortened_text_is_one_line_within_its_limit(content, most):
    found = shortened(content, most)
    assert len(found) <= most
    assert "\n" not in found
    if len(" ".join(content.split())) <= most:
        assert found == " ".join(content.split())
    else:
        assert found.endswith("…")


@given(st.lists(POSITIVE, min_size=1, max_size=20))
def test_a_scale_keeps_every_value_inside_and_in_order(values):
    scale = log_scale(values, 300, 10)
    pixels = [scale(value) for value in sorted(values)]
    assert all(10 <= pixel <= 300 for pixel in pixels)
    assert pixels == sorted(pixels, reverse=True)


@given(POSITIVE, st.floats(min_value=1.01, max_value=1e6))
def test_ticks_are_inside_rising_and_few(low, span):
    scale = LogScale(low=low, high=low * span, start=0, end=100)
    ticks = scale.ticks()
    assert ticks == sorted(set(ticks))
    assert 2 <= len(ticks) <= 12
    assert all(low * (1 - 1e-9) <= tick <= low * span * (1 + 1e-9) for tick in ticks)


def test_equal_ratios_have_equal_lengths():
    scale = LogScale(low=1, high=16, start=0, end=400)
    assert [scale(v) for v in (1, 2, 4, 8, 16)] == pytest.approx([0, 100, 200, 300, 400])


def test_values_outside_a_scale_are_drawn_at_its_edge():
    scale = LogScale(low=1, high=10, start=0, end=100)
    assert scale(0.001) == 0
    assert scale(1e9) == 100


def test_a_scale_over_nothing_measurable_still_works():
    scale = log_scale([0.0, -3.0, math.inf, math.nan], 0, 10)
    assert scale.low < 1 < scale.high
    assert scale.ticks()


def test_ticks_over_speedups_are_the_ones_a_reader_expects():
    assert LogScale(low=0.9, high=3.2, start=0, end=1).ticks() == [1.0, 1.5, 2.0, 3.0]
    assert LogScale(low=1, high=1000, start=0, end=1).ticks() == [1, 10, 100, 1000]


@pytest.mark.parametrize(
    ("value", "shown"), [(2.314, "2.31×"), (0.5, "0.50×"), (99.994, "99.99×"), (1234.5, "1,234×")]
)
def test_a_ratio_is_written_with_its_sign(value, shown):
    assert ratio(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.123, "0.12 µs"), (9.999, "10.00 µs"), (33.84, "33.8 µs"), (128000.4, "128,000 µs")],
)
def test_a_time_has_its_unit(value, shown):
    assert micros(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1.25, "1.25"), (40, "40"), (2000, "2k"), (3.1e10, "31G"), (5e12, "5T"), (7e6, "7M")],
)
def test_axis_labels_have_no_needless_digits(value, shown):
    assert tick_label(value) == shown


def test_markup_from_pieces_is_not_escaped_twice():
    assert Markup("").join([element("a", "x"), element("b", "&")]) == "<a>x</a><b>&amp;</b>"
