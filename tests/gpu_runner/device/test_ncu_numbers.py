import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.device.ncu_numbers import mark_of, number, scale_of, whole


@pytest.mark.parametrize(
    ("text", "mark", "value"),
    [
        ("1,234", ".", 1234.0),
        ("1,234", ",", 1.234),
        ("1.234", ".", 1.234),
        ("1.234", ",", 1234.0),
        ("1.234,5", ",", 1234.5),
        ("1,234.5", ".", 1234.5),
        ("0,0", ",", 0.0),
        ("12", ",", 12.0),
        ("-3,5", ",", -3.5),
        ("1\u202f234,5", ",", 1234.5),
        ("1.5e3", ".", 1500.0),
    ],
)
def test_a_tables_mark_settles_what_one_cell_leaves_open(text, mark, value):
    assert number(text, mark) == value


@pytest.mark.parametrize(
    ("cells", "mark"),
    [
        (["85.69", "1,234", "5"], "."),
        (["85,69", "1.234", "5"], ","),
        (["0,124"], ","),
        (["1,234,567"], "."),
        (["1.234.567"], ","),
        (["1.234.567,8"], ","),
        (["1,234"], ""),
        (["12", "nan", "", "(256, 1, 1)", "k<1,2>"], ""),
        (["0.5", "0,5"], ""),
        (["7,5"] * 3 + ["7.5"], ","),
        ([], ""),
        (["9" * 100 + ".5"], ""),
    ],
)
def test_the_mark_is_what_leaves_no_doubt_in_most_cells(cells, mark):
    assert mark_of(cells) == mark


def test_judging_stops_when_enough_is_seen():
    def cells():
        yield from ["0.5"] * 1000
        raise AssertionError("one cell too many")

    assert mark_of(cells()) == "."


@pytest.mark.parametrize(
    ("text", "value"),
    [("15.528", 15528), ("15,528", 15528), ("1 024", 1024), ("7", 7), ("1.5", 1.5), ("-", None)],
)
def test_counts_are_read_in_any_locale(text, value):
    assert whole(text) == value


@pytest.mark.parametrize(
    "text", ["1e31", "-1e300", "1" * 65, "inf", "\u0661\u0662", "1_000", "0x1"]
)
def test_what_no_counter_says_is_missing(text):
    assert number(text, ".") is None


def test_what_cannot_be_divided_by_is_zero():
    assert number("1e-300", ".") == 0.0


@pytest.mark.parametrize("unit", ["\u00b5s", "\u03bcs", "us", "usecond"])
def test_micro_is_written_in_many_ways(unit):
    assert scale_of(unit) == pytest.approx(1e-6)


@given(st.decimals(min_value=0, max_value=10**12, places=3, allow_nan=False))
def test_a_known_mark_reads_what_the_locale_wrote(value):
    english = f"{value:,.3f}"
    german = english.translate(str.maketrans(",.", ".,"))
    assert number(english, ".") == number(german, ",") == float(value)


@given(st.text(max_size=80), st.sampled_from(["", ".", ","]))
def test_any_cell_is_a_finite_number_or_none(text, mark):
    value = number(text, mark)
    assert value is None or math.isfinite(value)
