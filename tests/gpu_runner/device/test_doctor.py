import sys

import pytest

from gpu_runner.device import doctor, ncu, sanitizer
from gpu_runner.device.doctor import device_lines, torch_cuda
from gpu_runner.device.machine import identities
from tests.gpu_runner.device.tools import (
    UUID,
    Nvml,
    make_device,
    make_facts,
    make_state,
    write_tool,
)

has_no_driver = pytest.mark.skipif(bool(identities()), reason="there is a CUDA device")


@pytest.fixture
def on_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    ncu.capability.cache_clear()
    sanitizer.version.cache_clear()
    yield tmp_path
    ncu.capability.cache_clear()
    sanitizer.version.cache_clear()


def by_name():
    return {line.name: line for line in device_lines()}


def test_each_thing_is_named_once_with_a_remedy_where_it_is_missing():
    lines = device_lines()
    assert len({line.name for line in lines}) == len(lines)
    for line in lines:
        assert line.detail
        assert line.is_ok == (line.remedy == "")


def test_everything_a_job_needs_has_a_line():
    wanted = {
        "CUDA bindings",
        "CUDA compiler",
        "Triton compiler",
        "torch with CUDA",
        "NVML",
        "Nsight Compute",
        "compute-sanitizer",
    }
    assert wanted <= set(by_name())


@has_no_driver
def test_missing_device_has_a_remedy():
    assert "NVIDIA driver" in by_name()["GPU"].remedy


def test_tools_that_are_there_have_their_versions(on_path):
    body = "print('Version 2025.3.1.0 (build 1)')\n"
    write_tool(on_path, "ncu", body)
    write_tool(on_path, "compute-sanitizer", body)
    lines = by_name()
    assert lines["Nsight Compute"].detail == "ncu 2025.3.1.0"
    assert lines["compute-sanitizer"].detail == "compute-sanitizer 2025.3.1.0"


def test_nvml_that_answers_is_let_go_again(monkeypatch):
    library = Nvml(make_device())
    monkeypatch.setitem(sys.modules, "pynvml", library)
    assert by_name()["NVML"].is_ok
    assert library.started == 0


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("__version__ = '2.13.0+cu130'\ncuda: Optional[str] = '13.0'\nhip = None\n", "13.0"),
        ("cuda = '12.8'\n", "12.8"),
        ("__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\n", ""),
        ("", ""),
    ],
)
def test_cuda_of_a_torch_build_is_read_without_importing_it(text, version):
    assert torch_cuda(text) == version


def test_device_is_summed_up_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(make_device()))
    what, how = doctor._devices((make_facts(),))
    assert (
        what.detail == "NVIDIA H200, sm_90a, 140 GiB, 132 multiprocessors, driver 580.1, CUDA 13.0"
    )
    assert (how.name, how.is_ok) == ("GPU 0 state", True)
    assert how.detail == "SM 345 of 1980 MHz, 79.0 W, 39 degrees"


def test_device_that_is_slowed_down_or_broken_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(make_device()))
    _, slow = doctor._devices((make_facts(state=make_state(throttles=("power cap",))),))
    assert (slow.is_ok, slow.detail) == (False, "slowed down: power cap")
    library = Nvml(make_device(rows=(0, 1, 1, 0)))
    monkeypatch.setitem(sys.modules, "pynvml", library)
    _, broken = doctor._devices((make_facts(uuid=UUID),))
    assert "wait for a reset" in broken.detail
    assert broken.remedy


def test_device_nobody_tells_of_is_no_fault(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    what, how = doctor._devices((make_facts(state=None),))
    assert "driver" not in what.detail
    assert how.is_ok
    assert how.detail == "nobody says: neither NVML nor nvidia-smi"
