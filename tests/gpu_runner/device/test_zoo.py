"""The zoo without a GPU: its manifest is whole, its kernels compile, its captures are cut down."""

import importlib.util
import sys

import pytest

from agents.diagnosis.vocabulary import CLASSES
from gpu_runner.device import ncu
from gpu_runner.languages.nvrtc_compile import compile_unit
from gpu_runner.report import read_kernels
from tests.gpu.zoo_capture import captured, trimmed
from tests.gpu.zoo_run import ZOO, blocks, manifest
from tests.gpu_runner.device.tools import DATA, write_tool

KNOWN = DATA / "ncu" / "known"


def has_nvrtc() -> bool:
    try:
        return importlib.util.find_spec("cuda.bindings.nvrtc") is not None
    except ModuleNotFoundError:
        return False


def test_every_kernel_has_a_file_and_a_known_class():
    known = manifest()
    assert set(known) == {path.stem for path in ZOO.glob("*.cu")}
    classes = {how["bottleneck"] for how in known.values()}
    assert classes <= set(CLASSES)
    assert len(classes) >= 12


@pytest.mark.parametrize(
    ("grid", "count"), [("64", 64), ("sms", 132), ("8*sms", 1056), ("sms+1", 133)]
)
def test_grids_follow_the_device(grid, count):
    assert blocks(grid, 132) == count


@pytest.mark.skipif(not has_nvrtc(), reason="NVRTC is not installed")
def test_every_kernel_compiles(tmp_path):
    options = ["--gpu-architecture=sm_90", "--std=c++17", "--generate-line-info"]
    failed = [
        name
        for name in manifest()
        if compile_unit(ZOO / f"{name}.cu", tmp_path / "k.cubin", tmp_path / "k.ptx", options)
    ]
    assert failed == []


def test_a_capture_keeps_its_facts_when_it_is_cut_down():
    text = (KNOWN / "raw.csv").read_text()
    padded = "\n".join(
        line + (",unit_made_up__x.avg" if n == 0 else ",5")
        for n, line in enumerate(text.splitlines())
    )
    assert trimmed("==PROF== said before\n" + padded) == trimmed(text)
    assert "made_up" not in trimmed(padded)


def test_a_capture_under_a_tool_is_packed_with_its_verdict(tmp_path, monkeypatch):
    body = (
        "import pathlib, shutil\n"
        "args = sys.argv\n"
        "if '--version' in args: print('Version 2025.3.1.0'); sys.exit()\n"
        "if '--export' in args:\n"
        "    pathlib.Path(args[args.index('--export') + 1]).write_bytes(b'NVR\\0')\n"
        "else:\n"
        f"    folder = {str(KNOWN)!r}\n"
        "    page = args[args.index('--page') + 1]\n"
        "    sys.stdout.write(open(f'{folder}/{page}.csv').read())\n"
    )
    write_tool(tmp_path / "bin", "ncu", body)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(ncu, "_DRIVER_PARAMETERS", tmp_path / "none")
    ncu.capability.cache_clear()
    try:
        (line,) = captured(["bank_conflicts"], tmp_path, 60.0)
    finally:
        ncu.capability.cache_clear()
    assert (line["wanted"], line["got"]) == ("shared_memory_bank_conflicts",) * 2
    assert (tmp_path / "zoo.zip").stat().st_size > 1000


def test_without_the_tool_a_kernel_has_failed_and_stops_no_other(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("gpu_runner.device.watched._TOOL_FOLDERS", ())
    ncu.capability.cache_clear()
    try:
        lines = list(captured(["one_warp", "tail"][:1] * 2, tmp_path, 60.0))
    finally:
        ncu.capability.cache_clear()
    assert [line["got"] for line in lines] == ["", ""]
    assert "ncu is not installed" in lines[0]["said"]


def test_a_whole_report_leaves_clocks_alone_and_empties_caches(tmp_path):
    report = tmp_path / "r.ncu-rep"
    line = ncu.report_command("ncu", [sys.executable, "-m", "x"], report=report)
    assert line[line.index("--clock-control") + 1] == "none"
    assert line[line.index("--cache-control") + 1] == "all"
    assert line[line.index("--set") + 1] == "full"
    assert line[line.index("--export") + 1] == str(report)
    assert line[-3:] == [sys.executable, "-m", "x"]


def test_the_golden_captures_are_small():
    assert sum(path.stat().st_size for path in KNOWN.iterdir()) < 250_000
    assert len(read_kernels(KNOWN / "raw.csv")) == 9
