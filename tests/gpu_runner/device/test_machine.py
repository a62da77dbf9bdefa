import sys

import pytest

from gpu_runner.device import machine
from gpu_runner.device.machine import DeviceFacts, DeviceState, arch_of, smi_states, states_by_uuid
from tests.gpu_runner.device.tools import (
    DATA,
    UUID,
    Nvml,
    make_device,
    make_facts,
    make_state,
    write_tool,
)

SMI = (DATA / "smi.csv").read_text()
CELLS = SMI.strip().split(", ")


@pytest.fixture
def nvml(monkeypatch):
    def install(*devices):
        library = Nvml(*devices)
        monkeypatch.setitem(sys.modules, "pynvml", library)
        return library

    return install


@pytest.fixture
def without_nvml(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)


def smi_with(**cells):
    row = list(CELLS)
    for field, text in cells.items():
        row[list(machine._SMI_FIELDS.values()).index(field)] = text
    return ", ".join(row)


@pytest.mark.parametrize(
    ("version", "arch"),
    [
        ((8, 0), "sm_80"),
        ((8, 9), "sm_89"),
        ((9, 0), "sm_90a"),
        ((10, 0), "sm_100a"),
        ((12, 0), "sm_120a"),
    ],
)
def test_architecture_is_that_of_the_very_chip(version, arch):
    assert arch_of(*version) == arch


def test_capture_of_nvidia_smi_is_read():
    (state,) = smi_states(SMI).values()
    assert state == make_state(driver="580.159.04", power_w=79.07)


@pytest.mark.parametrize("text", ["[N/A]", "[Not Supported]", "N/A", "[Unknown Error]", ""])
def test_what_the_tool_does_not_know_is_none(text):
    fields = ("sm_mhz", "power_w", "temperature_c", "throttles", "ecc_uncorrected")
    unknown = dict.fromkeys((*fields, "is_remap_pending", "has_remap_failed"), text)
    (state,) = smi_states(smi_with(**unknown)).values()
    assert [getattr(state, name) for name in unknown] == [None] * len(unknown)


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        ("0x0000000000000000", ()),
        ("0x0000000000000001", ()),
        ("0x0000000000000002", ()),
        ("0x0000000000000004", ("power cap",)),
        (
            "0x0000000000000068",
            ("hardware slowdown", "software thermal slowdown", "hardware thermal slowdown"),
        ),
        ("0x0000000000000080", ("power brake",)),
    ],
)
def test_reasons_that_slow_a_device_down_are_named(bits, words):
    (state,) = smi_states(smi_with(throttles=bits)).values()
    assert state.throttles == words


@pytest.mark.parametrize(
    ("text", "claim"), [("Yes", True), ("No", False), ("1", True), ("0", False)]
)
def test_pending_rows_are_a_claim(text, claim):
    (state,) = smi_states(smi_with(is_remap_pending=text)).values()
    assert state.is_remap_pending is claim


def test_each_device_is_a_row_and_other_lines_are_none():
    text = f"{SMI}\n{smi_with(uuid='GPU-other')}\nNo devices were found\n"
    assert list(smi_states(text)) == [UUID, "GPU-other"]
    assert smi_states("") == {}


def test_states_come_from_nvml_first(nvml, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    library = nvml(make_device())
    expected = make_state(sm_mhz=1980, power_w=79.083, power_limit_w=None)
    assert states_by_uuid() == {UUID: expected}
    assert library.started == 0


def test_what_nvml_does_not_serve_is_none(nvml):
    nvml({"uuid": UUID})
    assert states_by_uuid()[UUID] == DeviceState(uuid=UUID, driver="580.1")


def test_device_that_fell_off_the_bus_has_no_state(nvml):
    nvml(make_device(is_lost=True), make_device(uuid="GPU-other"))
    assert list(states_by_uuid()) == ["GPU-other"]


def test_nvml_that_does_not_start_is_none(nvml, monkeypatch):
    library = nvml()

    def refuse():
        raise library.NVMLError("Driver Not Loaded")

    monkeypatch.setattr(library, "nvmlInit", refuse)
    assert machine.nvml() is None


def test_rows_that_wait_and_rows_that_failed_are_told(nvml):
    nvml(make_device(rows=(0, 2, 1, 1)))
    state = states_by_uuid()[UUID]
    assert (state.is_remap_pending, state.has_remap_failed) == (True, True)


@pytest.mark.usefixtures("without_nvml")
def test_without_nvml_the_program_is_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    write_tool(
        tmp_path, "nvidia-smi", f"sys.stdout.write(open({str(DATA / 'smi.csv')!r}).read())\n"
    )
    assert list(states_by_uuid()) == [UUID]


@pytest.mark.usefixtures("without_nvml")
def test_program_is_asked_for_each_field_and_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    write_tool(
        tmp_path,
        "nvidia-smi",
        f"open({str(tmp_path / 'said')!r}, 'w').write(' '.join(sys.argv[1:]))\n",
    )
    assert states_by_uuid() == {}
    query, form = (tmp_path / "said").read_text().split()
    assert query == f"--query-gpu={','.join(machine._SMI_FIELDS)}"
    assert form == "--format=csv,noheader,nounits"


@pytest.mark.usefixtures("without_nvml")
@pytest.mark.parametrize("body", [None, "sys.exit(9)\n"])
def test_with_neither_nobody_says(tmp_path, monkeypatch, body):
    monkeypatch.setenv("PATH", str(tmp_path))
    if body:
        write_tool(tmp_path, "nvidia-smi", body)
    assert states_by_uuid() == {}


def test_identity_is_what_the_driver_says():
    said = {
        "index": 0,
        "name": "NVIDIA H200",
        "uuid": UUID,
        "memory_bytes": 1 << 37,
        "cuda": "13.0",
        "multiprocessors": 132,
        "l2_bytes": 62_914_560,
        "major": 9,
        "minor": 0,
    }
    found = machine._identity(said)
    assert found == make_facts(memory_bytes=1 << 37, state=None)
    assert DeviceFacts.model_validate_json(found.model_dump_json()) == found


@pytest.mark.skipif(bool(machine.identities()), reason="there is a CUDA device")
def test_machine_without_a_device_tells_of_none():
    assert machine.devices() == ()
    assert machine.device_environment() is None


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (None, ""),
        (make_state(), "at most SM 1980 MHz, memory 3201 MHz"),
        (make_state(max_memory_mhz=None), "at most SM 1980 MHz"),
        (make_state(max_sm_mhz=None), ""),
    ],
)
def test_clocks_told_are_the_highest(state, line):
    assert machine._clocks_line(state) == line


def test_kernel_line_has_driver_and_cuda():
    assert machine._kernel_line(make_facts()).endswith(", driver 580.1, CUDA 13.0")
    assert machine._kernel_line(make_facts(state=None)).endswith(", CUDA 13.0")
    assert "driver" not in machine._kernel_line(make_facts(state=None))


def test_tools_line_names_what_is_installed():
    line = machine._tools_line()
    assert "nvrtc 13" in line
    assert "cuda-bindings 13" in line
