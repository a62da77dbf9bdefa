"""Report files from any shell, as facts; damaged ones as typed errors."""

import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpu_runner.device import ncu_module
from gpu_runner.device.ncu_file import is_binary_report
from gpu_runner.errors import RunnerError, ToolchainMissing
from gpu_runner.report import CaptureUnreadable, read_kernels
from tests.gpu_runner.device.tools import DATA, write_tool

KNOWN = DATA / "ncu" / "known"
RAW = (KNOWN / "raw.csv").read_text()
ROWS = "ID,Kernel Name,Grid Size,gpu__time_duration.sum\n,,,us\n"
MODULE = """
class Metric:
    def __init__(self, value, unit):
        self._value, self._unit = value, unit
    def as_double(self):
        return float(self._value)
    def as_string(self):
        return str(self._value)
    def unit(self):
        return self._unit
VALUES = {
    "gpu__time_duration.sum": Metric(850.0, "us"),
    "device__attribute_display_name": Metric("NVIDIA H200", ""),
    "device__attribute_compute_capability_major": Metric(9, ""),
    "device__attribute_compute_capability_minor": Metric(0, ""),
    "launch__function_cache": Metric("words", ""),
    "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed": Metric(91.0, "%"),
}
class Action:
    def name(self):
        return "k(float *)"
    def metric_names(self):
        return [*VALUES, "gone"]
    def metric_by_name(self, name):
        return VALUES.get(name)
class Range:
    def num_actions(self):
        return COUNT
    def action_by_idx(self, index):
        return Action()
class Report:
    def num_ranges(self):
        return 1
    def range_by_idx(self, index):
        return Range()
COUNT = 1
def load_report(path):
    if "bad" in path:
        raise RuntimeError("unsupported report version")
    return Report()
"""


def test_kernels_come_with_those_that_take_most_time_first():
    kernels = read_kernels(KNOWN / "raw.csv")
    times = [one.time_us or 0.0 for one in kernels]
    assert times == sorted(times, reverse=True)
    assert sum(one.share or 0.0 for one in kernels) == pytest.approx(1)
    assert {one.arch for one in kernels} == {"sm_90"}
    assert {one.device for one in kernels} == {"NVIDIA H200"}


def test_source_and_details_are_joined_by_kernel():
    kernels = read_kernels(
        KNOWN / "raw.csv", source=KNOWN / "source.csv", details=KNOWN / "details.csv"
    )
    stream = next(one for one in kernels if one.kernel == "dram_stream")
    assert stream.sass is not None
    assert stream.hotspots[0].line == 8
    assert stream.advice
    tiny = next(one for one in kernels if one.kernel == "tiny")
    assert (tiny.sass, tiny.hotspots) == (None, ())


def test_raw_values_win_over_rounded_ones():
    alone = {one.kernel: one for one in read_kernels(KNOWN / "raw.csv")}
    for one in read_kernels(KNOWN / "raw.csv", details=KNOWN / "details.csv"):
        assert one.dram_fraction == alone[one.kernel].dram_fraction


def test_several_launches_of_one_kernel_are_one_row_with_the_median_time(tmp_path):
    path = tmp_path / "r.csv"
    times = (10, 30, 20)
    rows = [f'{n},k,"(8, 1, 1)",{time}' for n, time in enumerate(times)]
    path.write_text(ROWS + "\n".join([*rows, '3,k,"(9, 1, 1)",40', '4,j,"(8, 1, 1)",100']))
    j, other, k = sorted(read_kernels(path), key=lambda one: (one.kernel, -(one.time_us or 0)))
    assert (k.kernel, k.launches, k.launch) == ("k", 3, 2)
    assert k.time_us == pytest.approx(20)
    assert k.share == pytest.approx(60 / 200)
    assert other.grid == (9, 1, 1)
    assert j.share == pytest.approx(0.5)


def test_launches_without_a_time_have_no_share(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("ID,Kernel Name,launch__registers_per_thread\n,,\n0,k,32\n")
    (one,) = read_kernels(path)
    assert (one.share, one.time_us, one.registers) == (None, None, 32)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_exports_of_any_shell_are_read(tmp_path, encoding):
    path = tmp_path / "r.csv"
    text = "\ufeff" + RAW if encoding == "utf-16-be" else RAW
    path.write_bytes(text.replace("\n", "\r\n").encode(encoding))
    assert len(read_kernels(path)) == 9


def test_an_empty_file_says_how_to_export_it_again(tmp_path):
    path = tmp_path / "r.csv"
    path.touch()
    with pytest.raises(CaptureUnreadable, match="is empty; export it again with ncu --import"):
        read_kernels(path)


@pytest.mark.parametrize("make", [lambda p: p, lambda p: p.mkdir() or p])
def test_what_is_no_file_is_refused(tmp_path, make):
    with pytest.raises(CaptureUnreadable, match="cannot be read"):
        read_kernels(make(tmp_path / "x"))


def test_a_file_without_line_ends_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("gpu_runner.device.ncu_file._LONGEST_LINE", 1000)
    path = tmp_path / "r.csv"
    path.write_text("x" * 5000)
    with pytest.raises(CaptureUnreadable, match="line 1"):
        read_kernels(path)


def test_a_source_page_that_is_none_is_refused_when_it_was_given(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("nothing\n")
    with pytest.raises(CaptureUnreadable, match="source page"):
        read_kernels(KNOWN / "raw.csv", source=path)


@pytest.fixture
def binary(tmp_path):
    path = tmp_path / "a.ncu-rep"
    path.write_bytes(b"NVR\x00 and more")
    return path


def test_the_tools_own_format_goes_through_the_tool(tmp_path, monkeypatch, binary):
    for page in ("raw", "details", "source"):
        shutil.copy(KNOWN / f"{page}.csv", tmp_path / f"{page}.txt")
    write_tool(
        tmp_path / "bin",
        "ncu",
        "page = sys.argv[sys.argv.index('--page') + 1]\n"
        f"sys.stdout.write(open({str(tmp_path)!r} + '/' + page + '.txt').read())\n",
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    kernels = read_kernels(binary)
    stream = next(one for one in kernels if one.kernel == "dram_stream")
    assert stream.hotspots
    assert stream.advice
    (tmp_path / "source.txt").write_text("==ERROR== no source\n")
    assert len(read_kernels(binary)) == 9


def test_a_report_that_the_tool_refuses_is_unreadable(tmp_path, monkeypatch, binary):
    write_tool(tmp_path / "bin", "ncu", "sys.exit('newer than this ncu')\n")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(CaptureUnreadable, match="newer than this ncu"):
        read_kernels(binary)


def test_without_the_tool_the_message_says_what_to_run_elsewhere(tmp_path, monkeypatch, binary):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("gpu_runner.device.watched._TOOL_FOLDERS", ())
    with pytest.raises(ToolchainMissing, match=r"--page raw --csv > raw\.csv"):
        read_kernels(binary)


@pytest.fixture
def with_module(tmp_path, monkeypatch):
    (tmp_path / "ncu_report.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    monkeypatch.setattr("gpu_runner.device.watched._TOOL_FOLDERS", ())
    monkeypatch.delitem(__import__("sys").modules, "ncu_report", raising=False)
    yield tmp_path
    monkeypatch.delitem(__import__("sys").modules, "ncu_report", raising=False)


def test_without_the_tool_its_python_module_reads_the_report(with_module, binary):
    (one,) = read_kernels(binary)
    assert (one.kernel, one.dram_fraction) == ("k", 0.91)
    assert one.time_us == pytest.approx(850)
    assert (one.arch, one.device) == ("sm_90", "NVIDIA H200")


def test_a_report_that_the_module_refuses_is_unreadable(with_module, binary):
    bad = binary.rename(with_module / "bad.ncu-rep")
    with pytest.raises(CaptureUnreadable, match="unsupported report version"):
        read_kernels(bad)
    module = ncu_module.find_module()
    assert module is not None
    module.__dict__["COUNT"] = 0
    with pytest.raises(CaptureUnreadable, match="no launch"):
        ncu_module.read_module(module, binary)


def test_the_format_is_known_by_its_first_bytes_or_its_name(tmp_path, binary):
    assert is_binary_report(binary)
    renamed = binary.rename(tmp_path / "renamed")
    assert is_binary_report(renamed)
    assert not is_binary_report(KNOWN / "raw.csv")
    assert not is_binary_report(tmp_path / "none")


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(cut=st.integers(0, len(RAW)), at=st.integers(0, len(RAW)), bit=st.binary(max_size=6))
def test_a_damaged_export_is_read_or_refused_and_nothing_else(tmp_path, cut, at, bit):
    content = RAW.encode()[:cut]
    path = tmp_path / "r.csv"
    path.write_bytes(content[:at] + bit + content[at:])
    try:
        kernels = read_kernels(path)
    except RunnerError:
        return
    assert kernels
