"""What holds for any table: wide and long say the same, locales too, and order does not matter."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.device.ncu_csv import parse_raw, symbol_of
from gpu_runner.device.ncu_source import read_source

METRICS = ("gpu__time_duration.sum", "dram__bytes.sum", "lts__throughput.x", "launch__grid_size")
UNITS = ("us", "Mbyte", "%", "")
VALUES = st.decimals(min_value=0, max_value=10**6, places=3, allow_nan=False)
ROWS = st.lists(st.lists(VALUES, min_size=4, max_size=4), min_size=1, max_size=6)
NAMES = st.text(st.characters(codec="ascii", exclude_characters='\n\r"\x00'), max_size=20)


def table(rows, delimiter=","):
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, delimiter=delimiter).writerows(rows)
    return out.getvalue().splitlines()


def wide(rows, write, delimiter=","):
    head = ["ID", "Kernel Name", *METRICS]
    body = [[str(n), "k", *map(write, row)] for n, row in enumerate(rows)]
    return table([head, ["", "", *UNITS], *body], delimiter)


def long(rows, write):
    head = ["ID", "Kernel Name", "Metric Name", "Metric Unit", "Metric Value"]
    body = [
        [str(n), "k", metric, unit, write(value)]
        for n, row in enumerate(rows)
        for metric, unit, value in zip(METRICS, UNITS, row, strict=True)
    ]
    return table([head, *body])


def english(value):
    return f"{value:,.3f}"


def german(value):
    return english(value).translate(str.maketrans(",.", ".,"))


def readings(lines):
    return [
        {name: one.readings[name] for name in METRICS if name in one.readings}
        for one in parse_raw(lines)
    ]


def marked(rows):
    """A table with one cell that leaves no doubt how it writes fractions, as any real one has."""
    return [*rows, ["0.125", "0.5", "12.5", "1.5"]]


def number_rows(rows):
    return [[float(value) for value in row] for row in marked(rows)]


@given(ROWS)
def test_wide_and_long_tables_say_the_same(rows):
    values = number_rows(rows)
    assert readings(wide(values, english)) == readings(long(values, english))


@given(ROWS)
def test_a_decimal_comma_says_the_same(rows):
    values = number_rows(rows)
    expected = readings(wide(values, english))
    assert readings(wide(values, german)) == expected
    assert readings(wide(values, german, ";")) == expected
    assert readings(long(values, german)) == expected


@given(ROWS)
def test_values_come_out_in_base_units(rows):
    values = number_rows(rows)
    for found, row in zip(readings(wide(values, english)), values, strict=True):
        scales = (1e-6, 1e6, 1.0, 1.0)
        expected = [value * scale for value, scale in zip(row, scales, strict=True)]
        assert list(found.values()) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(ROWS, st.randoms())
def test_the_order_of_columns_does_not_matter(rows, random):
    values = number_rows(rows)
    lines = [next(csv.reader([line])) for line in wide(values, english)]
    order = list(range(1, len(lines[0])))
    random.shuffle(order)
    mixed = table([[row[0], *(row[i] for i in order)] for row in lines])
    assert readings(mixed) == readings(wide(values, english))


@given(ROWS, st.lists(st.sampled_from(["==PROF== x", "", "a,b", "1,2,3"]), max_size=4))
def test_words_before_and_behind_do_not_matter(rows, words):
    lines = wide(number_rows(rows), english)
    assert readings([*words, *lines, *words]) == readings(lines)


@given(NAMES)
def test_a_symbol_is_part_of_its_name(name):
    assert symbol_of(name) in name


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 1000)), min_size=1, max_size=60))
def test_samples_of_instructions_are_shares_of_all(pairs):
    head = '"Line No","Source","Address","Source","# Samples"'
    rows = [f'"","","{16 * place:#x}","FADD R1, R2, R3","{count}"' for place, count in pairs]
    (found,) = read_source(['"Function Name","k()"', head, *rows])
    assert found.sass.total == len({place for place, _ in pairs})
    assert sum(spot.share for spot in found.hotspots) <= 1 + 1e-9
