import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.device.ncu_csv import CaptureUnreadable, number, parse_raw, scale_of
from tests.gpu_runner.device.tools import DATA

ONE = (DATA / "ncu" / "one.csv").read_text()
TWO = (DATA / "ncu" / "two.csv").read_text()
NAMES = "ID,Kernel Name,gpu__time_duration.sum,dram__bytes.sum"


def table(*rows, units=",,us,Kbyte", names=NAMES):
    return [names, units, *rows]


def test_capture_of_one_launch_is_read():
    (launch,) = parse_raw(ONE.splitlines())
    assert launch.symbol == "row_softmax"
    assert launch.index == 0
    assert launch.readings["launch__registers_per_thread"] == 32
    assert launch.readings["launch__grid_size"] == 4096
    assert launch.readings["gpu__time_duration.sum"] == pytest.approx(39e-6, rel=0.2)
    assert launch.readings["dram__bytes_read.sum"] == pytest.approx(4 * 4096 * 4096, rel=0.1)


def test_capture_of_two_launches_keeps_their_order():
    first, second = parse_raw(TWO.splitlines())
    assert (first.symbol, second.symbol) == ("row_top", "row_softmax")
    assert first.index < second.index
    assert first.readings["dram__bytes_write.sum"] < second.readings["dram__bytes_write.sum"]


def test_what_was_not_measured_has_no_entry():
    (launch,) = parse_raw(ONE.splitlines())
    assert "no data" in ONE
    assert "derived__local_spilling_requests_pct" not in launch.readings
    assert launch.first("derived__local_spilling_requests_pct") is None
    assert launch.first("sass__inst_executed_register_spilling") == 0


@pytest.mark.parametrize("cell", ["n/a", "no data", "nan", "", "inf", "-nan", "N/A", "--"])
def test_a_cell_without_a_number_is_missing_and_not_zero(cell):
    (launch,) = parse_raw(table(f"0,k,{cell},5"))
    assert launch.readings == {"ID": 0, "dram__bytes.sum": 5000}


def test_lines_around_the_table_are_passed_over():
    before = ["==PROF== Connected to process 1 (python3)", '{"times_us": [1, 2]}', ""]
    after = ["==PROF== Disconnected from process 1", "==WARNING== clocks"]
    rows = [*before, *table("0,k,850,1"), "printed, between", "1,k,100,1", *after]
    assert [launch.index for launch in parse_raw(rows)] == [0, 1]


def test_a_row_cut_short_is_no_launch():
    rows = table("0,k,850,1", "1,k,8")
    assert [launch.index for launch in parse_raw(rows)] == [0]


def test_a_second_table_has_names_of_its_own():
    rows = [*table("0,k,850,1"), "ID,Kernel Name,launch__waves_per_multiprocessor", ",,", "1,j,3"]
    first, second = parse_raw(rows)
    assert "launch__waves_per_multiprocessor" not in first.readings
    assert second.readings == {"ID": 1, "launch__waves_per_multiprocessor": 3}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "nothing"),
        ("==ERROR== ERR_NVGPUCTRPERM - no permission\n", "ERR_NVGPUCTRPERM"),
        ("==PROF== Connected\n==WARNING== No kernels were profiled.\n", "No kernels were profiled"),
        (f"{NAMES}\n,,us,byte\n", "nothing"),
        ("ID,Process ID\n,\n0,5\n", "nothing"),
    ],
)
def test_no_launch_is_an_error_with_the_tools_words(text, said):
    with pytest.raises(CaptureUnreadable, match=re.escape(said)):
        parse_raw(text.splitlines())


@pytest.mark.parametrize("cut", [0.05, 0.3, 0.6, 0.9, 0.97])
def test_a_capture_cut_short_gives_its_whole_rows_or_an_error(cut):
    part = TWO[: int(len(TWO) * cut)].splitlines()
    try:
        found = parse_raw(part)
    except CaptureUnreadable:
        return
    whole = parse_raw(TWO.splitlines())
    assert found == whole[: len(found)]


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text):
    try:
        found = parse_raw(text.splitlines())
    except CaptureUnreadable:
        return
    assert found


@given(st.lists(st.sampled_from([*TWO.splitlines(), '"', "ID,", ",,,", "\x00"]), max_size=12))
def test_any_order_of_lines_is_read_or_refused(lines):
    try:
        found = parse_raw(lines)
    except CaptureUnreadable:
        return
    assert all(launch.kernel for launch in found)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("39,232", 39232.0),
        ("2,940,678,629,690.05", 2940678629690.05),
        ("2.940.678,05", 2940678.05),
        ("1.234.567", 1234567.0),
        ("1\u202f234,5", 1234.5),
        ("1'234.5", 1234.5),
        ("1\u00a0234", 1234.0),
        ("0,124", 0.124),
        ("0.124", 0.124),
        ("12,5", 12.5),
        ("1.504", 1.504),
        ("-0.35", -0.35),
        ("1e-3", 0.001),
        ("0", 0.0),
        ("1,980,000", 1980000.0),
    ],
)
def test_numbers_of_any_locale_are_read(text, value):
    assert number(text) == value


@pytest.mark.parametrize("text", ["PolicySpread", "(256, 1, 1)", "9.0.1a", "0x10", "1e999", "x,1"])
def test_words_are_no_numbers(text):
    assert number(text) is None


@given(st.integers(min_value=-(10**15), max_value=10**15))
def test_thousands_separators_change_no_whole_number(value):
    assert number(f"{value:,}") == value
    assert number(f"{value:,}".replace(",", "'")) == value


@given(st.decimals(min_value=0, max_value=10**9, places=2, allow_nan=False))
def test_swapped_separators_mean_the_same(value):
    text = f"{value:,.2f}"
    swapped = text.translate(str.maketrans(",.", ".,"))
    assert number(text) == number(swapped) == float(value)


@pytest.mark.parametrize(
    ("unit", "scale"),
    [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("nsecond", 1e-9),
        ("usecond", 1e-6),
        ("msecond", 1e-3),
        ("second", 1.0),
        ("byte", 1.0),
        ("Kbyte", 1e3),
        ("Mbyte", 1e6),
        ("Gbyte", 1e9),
        ("Tbyte/s", 1e12),
        ("Gbyte/s", 1e9),
        ("byte/second", 1.0),
        ("Kbyte/block", 1e3),
        ("Kbyte/cycle", 1e3),
        ("Ghz", 1e9),
        ("Mhz", 1e6),
        ("hz", 1.0),
        ("cycle/nsecond", 1e9),
        ("%", 1.0),
        ("inst", 1.0),
        ("sector", 1.0),
        ("register/thread", 1.0),
        ("", 1.0),
    ],
)
def test_units_are_brought_to_base(unit, scale):
    assert scale_of(unit) == pytest.approx(scale)


def test_milliseconds_and_microseconds_compare():
    (before,) = parse_raw(table("0,k,1.2,1", units=",,ms,byte"))
    (after,) = parse_raw(table("0,k,850,1", units=",,us,byte"))
    metric = "gpu__time_duration.sum"
    assert after.readings[metric] / before.readings[metric] - 1 == pytest.approx(-0.29, abs=0.005)


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("softmax", "softmax"),
        ("softmax(const float *, float *, long long)", "softmax"),
        ("void cast<__half>(const float *, __half *)", "cast<__half>"),
        ("_softmax_kernel_0d1d2", "_softmax_kernel_0d1d2"),
    ],
)
def test_symbol_is_the_name_alone(name, symbol):
    line = io.StringIO()
    csv.writer(line).writerow(["0", name, "1", "1"])
    (launch,) = parse_raw(table(line.getvalue()))
    assert launch.symbol == symbol


def test_first_takes_the_first_name_there_is():
    (launch,) = parse_raw(table("0,k,2,3"))
    assert launch.first("dram__throughput", "dram__bytes.sum") == 3000
    assert launch.first("a", "b") is None
