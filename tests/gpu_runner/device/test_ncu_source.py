"""The source page: lines, instructions, ledgers; every view and locale; bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.device.ncu_csv import CaptureUnreadable
from gpu_runner.device.ncu_source import MOST_HOTSPOTS, read_source
from tests.gpu_runner.device.tools import DATA

CAPTURED = (DATA / "ncu" / "known" / "source.csv").read_text()
BOTH = (
    '"Line No","Source","Address","Source","# Samples","Instructions Executed",'
    '"stall_barrier","stall_long_sb","stall_selected"'
)


def block(*rows, header=BOTH, function="k(float *)", path="a.cu"):
    return [f'"File Path","{path}"', f'"Function Name","{function}"', header, *rows]


LINE = '"3","y[i] = x[i];","-","-","60","1,000","10","50","9"'
FIRST = '"","","0x10","      LDG.E.128 R4, [R2.64]","50","500","0","50","0"'
SECOND = '"","","0x20","@P0   BAR.SYNC 0x0","10","500","10","0","0"'


def test_captured_page_names_functions_lines_and_instructions():
    found = {one.symbol: one for one in read_source(CAPTURED.splitlines())}
    assert set(found) == {"dram_stream", "low_occupancy", "tensor_wmma"}
    stream = found["dram_stream"]
    assert stream.sass.kinds["load_global_128"] == 1
    assert stream.sass.kinds["store_global_128"] == 1
    assert stream.sass.total == 40
    line = stream.hotspots[0]
    assert (line.path, line.line, line.stall) == ("zoo.cu", 8, "long_scoreboard")
    assert "float4" in line.text
    assert stream.sass.executed["load_global_128"] == 524288


def test_a_block_of_lines_and_instructions():
    (found,) = read_source(block(LINE, FIRST, SECOND))
    assert found.sass.kinds == {"barrier": 1, "load_global_128": 1}
    assert found.sass.executed == {"barrier": 500, "load_global_128": 500}
    line, hottest, second = found.hotspots
    assert (line.share, line.detail, line.stall) == (1.0, "a.cu:3", "long_scoreboard")
    assert (hottest.text, hottest.stall) == ("LDG.E.128 R4, [R2.64]", "long_scoreboard")
    assert hottest.share == pytest.approx(50 / 60)
    assert second.stall == "barrier"


def test_an_instruction_listed_under_two_lines_counts_once():
    again = LINE.replace('"3"', '"4"')
    (found,) = read_source(block(LINE, FIRST, SECOND, again, FIRST, SECOND))
    assert found.sass.total == 2
    assert [one.line for one in found.hotspots if one.symbol == "line"] == [3, 4]


def test_a_function_of_two_files_is_one_function():
    lines = [*block(LINE, FIRST), *block(LINE, SECOND, path="/usr/include/b.hpp")]
    (found,) = read_source(lines)
    assert found.sass.total == 2
    assert {one.path for one in found.hotspots} == {"a.cu", "/usr/include/b.hpp"}


def test_two_functions_are_told_apart():
    lines = [*block(LINE, FIRST), *block(LINE, SECOND, function="void j<int>(T)")]
    assert [one.symbol for one in read_source(lines)] == ["k", "j<int>"]


def test_the_sass_view_has_instructions_only():
    header = '"#","Address","Source","Samples","Instructions Executed","stall_wait"'
    row = '"1","7f10","FFMA R1, R2, R3, R4","7","32","7"'
    (found,) = read_source(block('"0","0x10","MUFU.EX2 R1, R2","5","32","5"', header=header))
    assert found.sass.kinds == {"special": 1}
    (found,) = read_source(block(row, header=header))
    assert found.sass.kinds == {}  # an address without 0x is decimal, and this is none


def test_the_cuda_view_has_lines_only():
    header = '"#","Source","# Samples","Instructions Executed","stall_short_sb"'
    (found,) = read_source(block('"12","s[t] = v;","5","32","5"', header=header))
    (line,) = found.hotspots
    assert (line.line, line.stall, line.share) == (12, "short_scoreboard", 1.0)
    assert found.sass.total == 0


def test_older_columns_are_known():
    header = '"Line No","Source","Address","Source","Sampling Data (All)"'
    (found,) = read_source(block('"1","a","0x1","LDS.64 R1, [R2]","3"', header=header))
    assert found.sass.kinds == {"load_shared_64": 1}
    assert found.sass.executed == {}


def test_counts_of_other_locales_are_read():
    (found,) = read_source(block(LINE.replace("1,000", "1.000"), FIRST.replace("500", "1.500")))
    assert found.sass.executed == {"load_global_128": 1500}


def test_other_separators_are_read():
    lines = [line.replace('","', '";"') for line in block(LINE, FIRST, SECOND)]
    assert read_source(lines) == read_source(block(LINE, FIRST, SECOND))


def test_rows_cut_short_and_words_between_are_passed_over():
    lines = block("==PROF== x", LINE, FIRST[:20], '"","","...","...","-","-","-","-","-"', SECOND)
    (found,) = read_source(lines)
    assert found.sass.kinds == {"barrier": 1}


def test_only_the_hottest_are_kept():
    rows = [f'"","","{n:#x}","FADD R1, R2, R3","{n}","1","0","0","0"' for n in range(1, 200)]
    (found,) = read_source(block(LINE, *rows))
    spots = [one for one in found.hotspots if one.symbol == "instruction"]
    assert len(spots) == MOST_HOTSPOTS
    assert spots[0].share == pytest.approx(199 / sum(range(1, 200)))
    assert found.sass.total == 199


def test_what_has_no_samples_is_no_hotspot():
    (found,) = read_source(block(LINE.replace('"60"', '"0"'), FIRST.replace('"50"', '"0"')))
    assert found.hotspots == ()
    assert found.sass.total == 1


@pytest.mark.parametrize("text", ["", "ID,Kernel Name\n,\n0,k\n", "no table at all", BOTH])
def test_what_is_no_source_page_is_refused_with_a_remedy(text):
    with pytest.raises(CaptureUnreadable, match="--page source --csv"):
        read_source(text.splitlines())


def test_more_functions_than_any_report_has_are_refused():
    lines = (line for n in range(5000) for line in block(LINE, function=f"k{n}"))
    with pytest.raises(CaptureUnreadable, match="export fewer kernels"):
        read_source(lines)


@given(
    st.lists(st.sampled_from([*CAPTURED.splitlines()[:60], '"', ",,,", BOTH, LINE]), max_size=30)
)
def test_any_order_of_lines_is_read_or_refused(lines):
    try:
        found = read_source(lines)
    except CaptureUnreadable:
        return
    assert all(0 <= spot.share <= 1 for one in found for spot in one.hotspots)
