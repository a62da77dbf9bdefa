"""Long tables: by metric name, by the details page's labels, in other locales and encodings."""

import csv
import re

import pytest

from gpu_runner.device.ncu_csv import CaptureUnreadable, parse_raw, symbol_of
from gpu_runner.device.ncu_facts import kernel_facts
from gpu_runner.device.ncu_labels import metric_of
from tests.gpu_runner.device.tools import DATA

DETAILS = (DATA / "ncu" / "known" / "details.csv").read_text()
WIDE = (DATA / "ncu" / "known" / "raw.csv").read_text()
NAMES = "ID,Process ID,Kernel Name,Section Name,Metric Name,Metric Unit,Metric Value"
DRAM = "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed"
SOL = "GPU Speed Of Light Throughput"


def rows(*lines, names=NAMES):
    return [names, *lines]


def test_metrics_by_their_names_are_launches():
    launches = parse_raw(
        rows(
            "0,9,k,Command line,gpu__time_duration.sum,us,850",
            f"0,9,k,Command line,{DRAM},%,91",
            "1,9,j,Command line,gpu__time_duration.sum,ms,1.2",
        )
    )
    assert [(one.index, one.symbol) for one in launches] == [(0, "k"), (1, "j")]
    assert launches[0].readings["gpu__time_duration.sum"] == pytest.approx(850e-6)
    assert launches[0].readings[DRAM] == 91
    assert launches[1].readings["gpu__time_duration.sum"] == pytest.approx(1.2e-3)


def test_launches_of_two_processes_with_one_id_are_two():
    said = "gpu__time_duration.sum,us"
    launches = parse_raw(rows(f"0,1,k,S,{said},5", f"0,2,k,S,{said},7"))
    assert [one.readings["gpu__time_duration.sum"] for one in launches] == pytest.approx(
        [5e-6, 7e-6]
    )


def test_rows_of_one_launch_need_not_lie_together():
    launches = parse_raw(rows("0,1,k,S,a__x,,1", "1,1,j,S,a__x,,2", "0,1,k,S,b__y,,3"))
    assert launches[0].readings == {"a__x": 1, "b__y": 3}


def test_the_details_page_gives_every_launch_with_its_facts():
    facts = {one.symbol: kernel_facts(one, workload="") for one in parse_raw(DETAILS.splitlines())}
    wide = {one.symbol: kernel_facts(one, workload="") for one in parse_raw(WIDE.splitlines())}
    assert len(facts) == 9
    for name, of_details in facts.items():
        for field in ("time_us", "dram_fraction", "occupancy_fraction", "registers", "grid"):
            expected = getattr(wide[name], field)
            if isinstance(expected, float):
                assert getattr(of_details, field) == pytest.approx(expected, rel=0.02, abs=1e-3)
            else:
                assert getattr(of_details, field) == expected, (name, field)


def test_rules_are_no_metrics():
    launch = parse_raw(DETAILS.splitlines())[0]
    assert not [name for name in launch.readings if "CPIStall" in name]


@pytest.mark.parametrize(
    ("section", "label", "unit", "metric"),
    [
        (SOL, "DRAM Throughput", "%", DRAM),
        (SOL, "Memory Throughput", "%", "gpu__compute_memory_throughput.avg.pct_of_peak_sustained"),
        ("Memory Workload Analysis", "Memory Throughput", "Tbyte/s", "dram__bytes.sum.per_second"),
        ("Memory Workload Analysis", "Memory Throughput", "%", "Memory Workload Analysis/Memory"),
        ("", "lts__throughput.x", "%", "lts__throughput.x"),
        ("My section", "My label", "", "My section/My label"),
        ("", "My label", "", "My label"),
    ],
)
def test_a_label_means_a_metric_in_its_section_and_unit_only(section, label, unit, metric):
    assert metric_of(section, label, unit).startswith(metric)


def swapped(text: str) -> str:
    """The table as a machine with decimal commas writes it: every cell quoted."""
    out = []
    for line in text.splitlines():
        cells = re.findall(r'"((?:[^"]|"")*)"', line)
        trade = str.maketrans(",.", ".,")
        changed = [c.translate(trade) if re.fullmatch(r"[\d.,]+", c) else c for c in cells]
        out.append(",".join(f'"{cell}"' for cell in changed))
    return "\n".join(out)


def test_decimal_commas_mean_the_same():
    english = parse_raw(DETAILS.splitlines())
    german = parse_raw(swapped(DETAILS).splitlines())
    assert [one.readings for one in german] == [one.readings for one in english]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_separators_are_read(delimiter):
    text = DETAILS.replace('","', f'"{delimiter}"')
    assert parse_raw(text.splitlines()) == parse_raw(DETAILS.splitlines())


def test_a_wide_table_with_decimal_commas_is_read():
    lines = ["ID;Kernel Name;a__x;b__y;c__z", ";;us;%;byte", "0;k;850,5;91,25;1.234"]
    (launch,) = parse_raw(lines)
    assert launch.readings["a__x"] == pytest.approx(850.5e-6)
    assert launch.readings["b__y"] == pytest.approx(91.25)
    assert launch.readings["c__z"] == 1234


def test_a_byte_order_mark_before_the_header_is_passed_over():
    assert parse_raw(
        ["\ufeff" + line if n == 0 else line for n, line in enumerate(WIDE.splitlines())]
    )


def test_instances_behind_a_value_are_passed_over():
    (launch,) = parse_raw(["ID,Kernel Name,a__x,b__y", ",,,", '0,k,"1,024 (1; 2; 3)",5 (5)'])
    assert launch.readings == {"ID": 0, "a__x": 1024, "b__y": 5}


def test_a_row_cut_within_a_quoted_cell_is_no_launch():
    lines = WIDE.splitlines()
    with pytest.raises(CaptureUnreadable):
        parse_raw(
            [
                *lines[:2],
                lines[2][: lines[2].index('"dram') + 10] if '"dram' in lines[2] else lines[2][:40],
            ]
        )


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("void (anonymous namespace)::kernel<int>(float *)", "(anonymous namespace)::kernel<int>"),
        ("k(void (*)(int), float)", "k"),
        ("void reduce<(int)3, (bool)1>(T1 *, T2)", "reduce<(int)3, (bool)1>"),
        ("triton_poi_fused_0", "triton_poi_fused_0"),
        ("(strange)", "(strange)"),
        ("odd)", "odd)"),
        ("", ""),
    ],
)
def test_a_symbol_keeps_the_brackets_of_its_own_name(name, symbol):
    assert symbol_of(name) == symbol


def test_a_time_without_its_unit_is_in_nanoseconds():
    (wide,) = parse_raw(["ID,Kernel Name,gpu__time_duration.sum", "0,k,850000"])
    (long,) = parse_raw(rows("0,1,k,S,gpu__time_duration.sum,,850000"))
    assert wide.readings["gpu__time_duration.sum"] == pytest.approx(850e-6)
    assert long.readings["gpu__time_duration.sum"] == pytest.approx(850e-6)


def test_a_whole_capture_with_decimal_commas_has_the_same_facts():
    german = []
    for line in WIDE.splitlines():
        cells = next(iter(csv.reader([line])))
        trade = str.maketrans(",.", ".,")
        changed = [c.translate(trade) if re.fullmatch(r"-?[\d.,]+", c) else c for c in cells]
        german.append(",".join(f'"{cell}"' for cell in changed))
    there = [kernel_facts(one, workload="") for one in parse_raw(german)]
    assert there == [kernel_facts(one, workload="") for one in parse_raw(WIDE.splitlines())]


def test_a_table_without_a_whole_row_may_have_been_cut_short():
    with pytest.raises(CaptureUnreadable, match="cut short: it has no whole row"):
        parse_raw(WIDE.splitlines()[:2])
    with pytest.raises(CaptureUnreadable, match=r"profiled; the tool said: a b$"):
        parse_raw(["a\x00b"])
