import pytest

from gpu_runner.device import ncu
from gpu_runner.device.ncu import capability, capture, command, is_admin_only, read
from gpu_runner.device.ncu_csv import CaptureUnreadable
from gpu_runner.device.replay import RANGE, has_ranges
from gpu_runner.device.watched import Ended, find_tool
from gpu_runner.errors import ToolchainMissing
from tests.gpu_runner.device.tools import DATA, write_tool

VERSION = "if '--version' in sys.argv:\n    print('Version 2025.3.1.0 (build 1)')\n    sys.exit()\n"
is_installed = pytest.mark.skipif(find_tool("ncu") is not None, reason="ncu is installed")


@pytest.fixture
def on_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    capability.cache_clear()
    yield tmp_path
    capability.cache_clear()


def value_of(line, option):
    return line[line.index(option) + 1]


def test_clocks_are_never_touched():
    for launches in (1, 2, 16):
        assert value_of(command("ncu", ["p"], launches=launches), "--clock-control") == "none"


@pytest.mark.parametrize(("launches", "control"), [(1, "all"), (2, "none"), (16, "none")])
def test_caches_are_emptied_where_nothing_is_handed_on_in_them(launches, control):
    assert value_of(command("ncu", ["p"], launches=launches), "--cache-control") == control


def test_only_the_marked_part_is_profiled():
    with_ranges = command("ncu", ["p"], launches=1, uses_ranges=True)
    assert value_of(with_ranges, "--nvtx-include") == f"{RANGE}/"
    assert "--profile-from-start" not in with_ranges
    without = command("ncu", ["p"], launches=1, uses_ranges=False)
    assert value_of(without, "--profile-from-start") == "off"
    assert "--nvtx" not in without


def test_marks_are_those_that_the_program_can_make():
    line = command("ncu", ["p"], launches=1)
    assert ("--nvtx" in line) == has_ranges()


def test_command_asks_for_each_section_and_ends_with_the_program():
    line = command("/opt/ncu", ["python", "-m", "x"], launches=1)
    assert line[0] == "/opt/ncu"
    assert line[-3:] == ["python", "-m", "x"]
    asked = [line[i + 1] for i, word in enumerate(line) if word == "--section"]
    assert asked == list(ncu.SECTIONS)
    assert value_of(line, "--page") == "raw"
    assert "--csv" in line


@pytest.mark.parametrize(
    ("text", "is_restricted"),
    [
        ("RmProfilingAdminOnly: 1\n", True),
        ("ResmanDebugLevel: 4294967295\nRmProfilingAdminOnly: 1\nX: 0\n", True),
        ("RmProfilingAdminOnly: 0\n", False),
        ("", False),
        ("NotRmProfilingAdminOnly: 1x\n", False),
    ],
)
def test_drivers_parameters_say_who_may_count(text, is_restricted):
    assert is_admin_only(text) == is_restricted


def test_capability_has_path_and_version(on_path):
    path = write_tool(on_path, "ncu", VERSION)
    found = capability()
    assert (found.path, found.version) == (str(path), "2025.3.1.0")


def test_broken_tool_is_refused_with_a_remedy(on_path):
    write_tool(on_path, "ncu", "sys.exit(1)\n")
    assert "reinstall Nsight Compute" in capability().refusal


@is_installed
def test_missing_tool_is_refused_with_a_remedy(on_path, tmp_path):
    assert capability().refusal == "ncu is not installed; install Nsight Compute"
    with pytest.raises(ToolchainMissing, match="install Nsight Compute"):
        capture(["p"], launches=1, timeout_s=1, folder=tmp_path)


def test_capture_reads_what_the_tool_prints(on_path, tmp_path, monkeypatch):
    table = DATA / "ncu" / "two.csv"
    monkeypatch.setattr(ncu, "_DRIVER_PARAMETERS", tmp_path / "none")
    write_tool(on_path, "ncu", f"{VERSION}sys.stdout.write(open({str(table)!r}).read())\n")
    found = capture(["p"], launches=2, timeout_s=30, folder=tmp_path)
    assert [launch.symbol for launch in found] == ["row_top", "row_softmax"]


def test_tool_that_hangs_is_ended(on_path, tmp_path, monkeypatch):
    monkeypatch.setattr(ncu, "_DRIVER_PARAMETERS", tmp_path / "none")
    write_tool(on_path, "ncu", f"{VERSION}import time\ntime.sleep(60)\n")
    with pytest.raises(ToolchainMissing, match="did not end within"):
        capture(["p"], launches=1, timeout_s=0.3, folder=tmp_path)


@pytest.mark.parametrize("stream", ["output", "errors"])
def test_refused_permission_has_a_remedy(stream):
    said = "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission\n"
    texts = {"output": "", "errors": "", stream: said}
    with pytest.raises(ToolchainMissing, match="NVreg_RestrictProfilingToAdminUsers=0"):
        read(Ended(returncode=1, **texts), timeout_s=1)


def test_silence_is_unreadable():
    with pytest.raises(CaptureUnreadable):
        read(Ended(returncode=0, output="", errors=""), timeout_s=1)
