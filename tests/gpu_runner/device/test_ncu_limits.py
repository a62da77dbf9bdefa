"""Units, counts and texts of reports at their borders, in any locale and any spelling."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.device.ncu_advice import said_of
from gpu_runner.device.ncu_csv import CaptureUnreadable, ProfiledLaunch
from gpu_runner.device.ncu_file import is_binary_report, lines_of
from gpu_runner.device.ncu_labels import metric_of
from gpu_runner.device.ncu_memory import memory_facts
from gpu_runner.device.ncu_numbers import mark_of, number, scale_of, whole
from gpu_runner.device.ncu_sass import differences, kind_of
from gpu_runner.facts import SassLedger


@pytest.mark.parametrize(
    ("unit", "scale"),
    [
        ("", 1.0),
        ("%", 1.0),
        ("inst", 1.0),
        ("byte", 1.0),
        ("byte/block", 1.0),
        ("Kbyte", 1e3),
        ("kbyte", 1e3),
        ("KBYTE", 1e3),
        ("Mbyte", 1e6),
        ("mbyte", 1e6),
        ("Gbyte", 1e9),
        ("Tbyte", 1e12),
        ("Gbyte/s", 1e9),
        ("Gbyte/second", 1e9),
        (" Gbyte/s ", 1e9),
        ("ns", 1e-9),
        ("nsecond", 1e-9),
        ("NS", 1e-9),
        ("US", 1e-6),
        ("ms", 1e-3),
        ("msecond", 1e-3),
        ("s", 1.0),
        ("second", 1.0),
        ("secs", 1.0),
        ("Hz", 1.0),
        ("hz", 1.0),
        ("MHz", 1e6),
        ("Mhz", 1e6),
        ("mhz", 1e6),
        ("GHz", 1e9),
        ("cycle/nsecond", 1e9),
        ("cycle/usecond", 1e6),
        ("inst/cycle", 1.0),
        ("byte/ns", 1e9),
        ("Kbyte/Kbyte", 1.0),
        ("nbyte", 1e-9),
        ("register/thread", 1.0),
        ("warp", 1.0),
        ("bits", 1.0),
        ("gs", 1e9),
        ("/", 1.0),
    ],
)
def test_units_are_brought_to_base_units(unit, scale):
    assert scale_of(unit) == pytest.approx(scale, rel=1e-12)


@given(
    st.sampled_from(["", *"nuµμmkKMGTNU", "\N{KELVIN SIGN}", "\N{GREEK CAPITAL LETTER MU}"]),
    st.sampled_from(["byte", "Bytes", "S", "second", "SEC", "Hz", "\N{LATIN SMALL LETTER LONG S}"]),
    st.sampled_from(["", "/s", "/NS", "/block"]),
)
def test_any_unit_has_a_scale(prefix, base, below):
    scale = scale_of(f"{prefix}{base}{below}")
    assert scale > 0
    assert math.log10(scale) == pytest.approx(round(math.log10(scale)))


@given(st.text(max_size=20))
def test_a_unit_of_any_text_never_loses_a_value(unit):
    assert scale_of(unit) > 0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234", 1234.0),
        ("1.234", 1.234),
        ("0,124", 0.124),
        ("1,234,567", 1234567.0),
        ("1.234.567", 1234567.0),
        ("1.234.567,8", 1234567.8),
        ("1,234,567.8", 1234567.8),
        ("12,34", 12.34),
        ("1'234.5", 1234.5),
        ("1\u00a0234,5", 1234.5),
        ("-1,234", -1234.0),
        ("+7", 7.0),
        ("2e3", 2000.0),
        ("2E-3", 0.002),
        ("1,2,3", None),
        ("1.2.3", None),
        ("12 %", None),
        ("n/a", None),
        ("no data", None),
        ("nan", None),
        ("NaN", None),
        ("inf", None),
        ("-", None),
        ("", None),
        (" ", None),
        (".5", None),
        ("5.", None),
        ("(256, 1, 1)", None),
        ("1e400", None),
        ("1e30", 1e30),
        ("1e-30", 1e-30),
        ("1e-31", 0.0),
    ],
)
def test_a_cell_by_itself_is_read_by_its_shape(text, value):
    assert number(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.234.567", 1234567),
        ("1,234,567", 1234567),
        ("1,234.567", 1234.567),
        ("12.34", 12.34),
        ("0.123", 0.123),
        ("-1.024", -1024),
        ("9" * 65, None),
        ("\u0661", None),
    ],
)
def test_a_count_has_groups_where_it_looks_like_it(text, value):
    assert whole(text) == value


@given(st.integers(0, 10**15))
def test_a_count_is_the_same_in_every_locale(value):
    english = f"{value:,}"
    spellings = [english.replace(",", mark) for mark in (",", ".", "'", "\u202f", " ", "\u2019")]
    assert {whole(text) for text in spellings} == {float(value)}


@given(st.lists(st.floats(0, 1e9).map(lambda v: f"{v:,.2f}"), min_size=1, max_size=20))
def test_a_table_of_either_locale_is_known_for_what_it_is(cells):
    swapped = [cell.translate(str.maketrans(",.", ".,")) for cell in cells]
    assert mark_of(cells) == "."
    assert mark_of(swapped) == ","
    assert [number(one, ".") for one in cells] == [number(one, ",") for one in swapped]


def test_a_cell_that_is_too_long_to_be_a_number_has_no_vote():
    assert mark_of(["1" * 62 + ".5"]) == "."
    assert mark_of(["1" * 63 + ".5"]) == ""


@pytest.mark.parametrize(
    ("section", "label", "unit", "name"),
    [
        ("Memory Workload Analysis", "Memory Throughput", "Gbyte/s", "dram__bytes.sum.per_second"),
        (
            "Memory Workload Analysis",
            "Memory Throughput",
            "Gbyte/second",
            "dram__bytes.sum.per_second",
        ),
        (
            "Memory Workload Analysis",
            "Memory Throughput",
            "%",
            "Memory Workload Analysis/Memory Throughput",
        ),
        ("Launch Statistics", "Grid Size", "", "launch__grid_size"),
        ("Launch Statistics", "Grid Size", "byte/s", "Launch Statistics/Grid Size"),
        ("Occupancy", "Grid Size", "", "Occupancy/Grid Size"),
        ("", "Grid Size", "", "Grid Size"),
        ("Any", "sm__cycles_active.avg", "byte/s", "sm__cycles_active.avg"),
        (
            "GPU Speed Of Light Throughput",
            "Memory Throughput",
            "%",
            "gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed",
        ),
        ("GPU Speed Of Light Throughput", "Duration", "us", "gpu__time_duration.sum"),
    ],
)
def test_a_label_is_a_metric_only_in_its_section_and_unit(section, label, unit, name):
    assert metric_of(section, label, unit) == name


@pytest.mark.parametrize(
    ("instruction", "kind"),
    [
        ("LDG.E.128 R4, [R2.64]", "load_global_128"),
        ("LDG.E.U8 R4, [R2]", "load_global_8"),
        ("LDG.E.S16 R4, [R2]", "load_global_16"),
        ("LDG.E R4, [R2.128]", "load_global_32"),
        ("@!P0 STG.E.64 [R2], R4", "store_global_64"),
        ("@UP1 LDS R0, [R1]", "load_shared_32"),
        ("  STS.128 [R1], R4", "store_shared_128"),
        ("LDSM.16.M88.4 R4, [R1]", "load_matrix"),
        ("LDL.64 R4, [R1]", "local_load"),
        ("IMAD.MOV.U32 R1, RZ, RZ, c[0x0][0x28]", "other"),
        ("IMAD.WIDE R2, R0, R1, R2", "integer"),
        ("UTCHMMA gdesc[UR4]", "mma_tcgen05"),
        ("HGMMA.64x128x16.F32", "mma_hgmma"),
        ("NOP", "other"),
        ("EXIT", "other"),
        ("", ""),
        (".L_x_1:", ""),
        ("// comment", ""),
        ("ldg.e.128", ""),
        ("@P0", ""),
    ],
)
def test_an_instruction_is_known_by_opcode_and_width(instruction, kind):
    assert kind_of(instruction) == kind


kinds = st.dictionaries(st.sampled_from(["float32", "branch", "call", "other"]), st.integers(0, 9))


@given(kinds, kinds)
def test_differences_name_each_kind_that_changed_and_no_other(old, new):
    def ledger(counts):
        return SassLedger(total=sum(counts.values()), kinds=counts)

    said = {text.partition(":")[0] for text in differences(ledger(old), ledger(new))}
    names = {*old, *new} - {"other"}
    changed = {name for name in names if old.get(name, 0) != new.get(name, 0)}
    if sum(old.values()) != sum(new.values()):
        changed.add("instructions")
    assert said == changed


def launch(**readings):
    names = {name.replace("___", "."): value for name, value in readings.items()}
    return ProfiledLaunch(index=0, kernel="k", readings=names, words={})


@pytest.mark.parametrize(
    ("readings", "field", "value"),
    [
        ({"dram__bytes_read___sum": 3.0, "dram__bytes_write___sum": 4.0}, "dram_bytes", 7.0),
        ({"dram__bytes_read___sum": 0.0, "dram__bytes_write___sum": 0.0}, "dram_bytes", 0.0),
        ({"dram__bytes_read___sum": 3.0}, "dram_bytes", None),
        ({"dram__bytes_read___sum": 3.0, "dram__bytes___sum": 9.0}, "dram_bytes", 9.0),
        ({"dram__cycles_elapsed___avg___per_second": 2.0}, "peak_bytes_per_s", None),
        (
            {
                "dram__cycles_elapsed___avg___per_second": 2.0,
                "dram__bytes___sum___peak_sustained": 8.0,
            },
            "peak_bytes_per_s",
            16.0,
        ),
        (
            {"memory_l1_wavefronts_shared": 8.0, "memory_l1_wavefronts_shared_ideal": 2.0},
            "shared_conflict_ways",
            4.0,
        ),
        (
            {"memory_l1_wavefronts_shared": 2.0, "memory_l1_wavefronts_shared_ideal": 8.0},
            "shared_conflict_share",
            0.0,
        ),
        (
            {
                "memory_l2_theoretical_sectors_global": 4.0,
                "memory_l2_theoretical_sectors_global_ideal": 8.0,
            },
            "sector_use",
            1.0,
        ),
        ({"memory_l2_theoretical_sectors_global": 0.0}, "sector_use", None),
    ],
)
def test_memory_is_told_by_what_was_counted_and_no_more(readings, field, value):
    assert dict(memory_facts(launch(**readings)))[field] == value


HEAD = '"ID","Kernel Name","Rule Name","Rule Type","Rule Description","Estimated Speedup"'


@pytest.mark.parametrize(
    ("row", "speedup"),
    [
        ('"0","k","R","OPT","text","12.5"', 12.5),
        ('"0","k","R","OPT","text","12,5"', 12.5),
        ('"0","k","R","WRN","text",""', None),
        ('"0","k","R","OPT","text"', None),
        ('"0","k","R","OPT"', None),
    ],
)
def test_a_row_of_a_rule_may_be_cut_short(row, speedup):
    (advice,) = said_of([HEAD, row])[0].advice
    assert (advice.rule, advice.speedup_percent) == ("R", speedup)


@pytest.mark.parametrize("row", ['"x","k","R","OPT","t"', '"0","k","R","INF","t"', '"0"', ""])
def test_a_row_of_no_launch_or_no_advice_is_left_out(row):
    assert said_of([HEAD, row]) == {}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"\xef\xbb\xbfa,b\n", "a,b\n"),
        ("a,\u00b5\n".encode("utf-16"), "a,\u00b5\n"),
        (b"\xfe\xff\x00a\x00\n", "a\n"),
        (b"a\xff\n", "a\ufffd\n"),
        (b"a", "a"),
        (b"a\r\nb", "a\n"),
    ],
)
def test_an_export_of_any_encoding_is_lines(tmp_path, content, line):
    path = tmp_path / "raw.csv"
    path.write_bytes(content)
    with lines_of(path, "raw") as found:
        assert next(found) == line
    assert not is_binary_report(path)


@pytest.mark.parametrize("name", ["absent.csv", "."])
def test_what_is_no_file_is_no_report(tmp_path, name):
    with (
        pytest.raises(CaptureUnreadable, match="give a report file"),
        lines_of(tmp_path / name, "raw"),
    ):
        pass
    assert not is_binary_report(tmp_path / name)


def test_an_empty_export_says_how_to_make_another(tmp_path):
    (tmp_path / "raw.csv").touch()
    with (
        pytest.raises(CaptureUnreadable, match="--page details --csv"),
        lines_of(tmp_path / "raw.csv", "details"),
    ):
        pass


@pytest.mark.parametrize(("name", "start"), [("a.csv", b"NVR\0"), ("a.ncu-rep", b"text")])
def test_a_report_of_the_tools_own_is_known_by_its_start_or_its_name(tmp_path, name, start):
    (tmp_path / name).write_bytes(start)
    assert is_binary_report(tmp_path / name)
