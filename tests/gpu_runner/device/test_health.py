import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.device.health import (
    OF_PROGRAMS,
    DeviceUnhealthy,
    HealthWatch,
    Probe,
    Reading,
    chosen,
    fault,
    healthy_device,
    probe_launch,
    read_device,
    refuse_unhealthy,
    unserved,
)
from gpu_runner.device.machine import identities
from gpu_runner.errors import SubjectFailed
from gpu_runner.jobs import OUTCOME, Reason
from tests.gpu_runner.device.tools import UUID, Nvml, make_device, make_state

SOUND = Reading(state=make_state())
has_no_driver = pytest.mark.skipif(bool(identities()), reason="there is a CUDA device")


@pytest.fixture
def nvml(monkeypatch):
    library = Nvml(make_device())
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return library


def after(**changes):
    xids = changes.pop("xids", ())
    return Reading(state=make_state(**changes), xids=xids)


@pytest.mark.parametrize(
    ("now", "probe", "said"),
    [
        (Reading(), None, "does not answer any more"),
        (after(xids=(48,)), None, "Xid 48"),
        (after(xids=(79, 31, 48, 48)), None, "Xid 48, 79"),
        (after(has_remap_failed=True), None, "could not be replaced"),
        (after(is_remap_pending=True), None, "wait for a reset"),
        (after(ecc_uncorrected=2), None, "2 uncorrected memory error"),
        (after(), Probe(is_ok=False, detail="cuInit: CUDA_ERROR_UNKNOWN"), "CUDA_ERROR_UNKNOWN"),
    ],
)
def test_what_a_process_cannot_do_to_a_sound_device_is_a_fault(now, probe, said):
    found = fault(SOUND, now, probe)
    assert found is not None
    assert said in found


@pytest.mark.parametrize(
    ("before", "now", "probe"),
    [
        (SOUND, SOUND, None),
        (SOUND, SOUND, Probe(is_ok=True)),
        (None, SOUND, None),
        (None, Reading(), None),
        (Reading(), Reading(), Probe(is_ok=True)),
        (SOUND, after(xids=(13, 31, 43, 45)), Probe(is_ok=True)),
        (SOUND, after(throttles=("power cap",), temperature_c=88), None),
        (after(ecc_uncorrected=5), after(ecc_uncorrected=5), None),
        (after(ecc_uncorrected=None), after(ecc_uncorrected=5), None),
        (after(ecc_uncorrected=5), after(ecc_uncorrected=None), None),
        (after(ecc_uncorrected=5), after(ecc_uncorrected=0), None),
    ],
)
def test_what_programs_do_and_what_is_not_known_is_none(before, now, probe):
    assert fault(before, now, probe) is None
    refuse_unhealthy(before, now, probe)


@given(
    st.lists(st.sampled_from(sorted(OF_PROGRAMS))),
    st.lists(st.integers(min_value=1, max_value=200), max_size=3),
)
def test_a_programs_own_errors_never_change_the_verdict(of_programs, others):
    alone = fault(SOUND, after(xids=tuple(others)))
    both = fault(SOUND, after(xids=(*of_programs, *others)))
    assert both == alone
    assert (alone is None) == (set(others) <= OF_PROGRAMS)


def test_refusal_names_device_reason_and_remedy():
    with pytest.raises(
        DeviceUnhealthy, match=f"device {UUID} is out of service: .*Xid 79.*nvidia-smi"
    ):
        refuse_unhealthy(SOUND, after(xids=(79,)))
    with pytest.raises(DeviceUnhealthy, match=UUID):
        refuse_unhealthy(SOUND, Reading())
    with pytest.raises(DeviceUnhealthy, match="unknown"):
        refuse_unhealthy(None, Reading(), Probe(is_ok=False))


def test_outcome_says_that_another_worker_may_serve_the_job():
    outcome = unserved("job", DeviceUnhealthy("device x is out of service"))
    assert (outcome.cause, outcome.is_retryable) == ("unhealthy_device", True)
    assert OUTCOME.validate_json(outcome.model_dump_json()) == outcome


@pytest.mark.parametrize(
    ("visible", "uuid", "wanted"),
    [
        ("", "", "GPU-a"),
        ("1", "", "GPU-b"),
        ("1,0", "", "GPU-b"),
        ("GPU-b", "", "GPU-b"),
        ("0", "GPU-b", "GPU-b"),
        ("7", "", None),
        ("", "GPU-c", None),
        ("GPU-c", "", None),
        ("MIG-1", "", "GPU-a"),
    ],
)
def test_device_meant_is_the_first_visible_one(monkeypatch, visible, uuid, wanted):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    states = {name: make_state(uuid=name) for name in ("GPU-a", "GPU-b")}
    found = chosen(states, uuid)
    assert (found.uuid if found else None) == wanted


def test_no_device_is_meant_where_there_is_none():
    assert chosen({}) is None


def test_watch_finds_nothing_on_a_sound_device(nvml):
    with HealthWatch() as watch:
        assert watch.before == read_device(UUID)
        watch.refuse_unhealthy()
    assert nvml.started == 0


def test_watch_sees_errors_that_came_while_it_watched(nvml):
    with HealthWatch() as watch:
        nvml.xids += [31, 94]
        with pytest.raises(DeviceUnhealthy, match="Xid 94"):
            watch.refuse_unhealthy()


def test_watch_sees_counters_grow_and_devices_vanish(nvml):
    with HealthWatch() as watch:
        nvml.devices[0]["ecc"] = 1
        with pytest.raises(DeviceUnhealthy, match="1 uncorrected"):
            watch.refuse_unhealthy()
        nvml.devices[0]["is_lost"] = True
        with pytest.raises(DeviceUnhealthy, match="does not answer"):
            watch.refuse_unhealthy()


def test_watch_does_without_reports_where_they_are_refused(nvml):
    nvml.refuses_events = True
    nvml.xids += [79]
    with HealthWatch() as watch:
        watch.refuse_unhealthy()
    assert nvml.started == 0


def test_watch_does_without_nvml(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with HealthWatch() as watch:
        watch.refuse_unhealthy()


def test_candidate_is_not_blamed_for_a_broken_device(nvml):
    def measure():
        with healthy_device():
            nvml.xids.append(48)
            raise SubjectFailed(Reason.CRASHED, "CUDA_ERROR_ECC_UNCORRECTABLE")

    with pytest.raises(DeviceUnhealthy, match="Xid 48"):
        measure()


@has_no_driver
def test_device_that_no_fresh_process_can_use_is_the_fault():
    def measure():
        with healthy_device():
            raise SubjectFailed(Reason.CRASHED, "CUDA_ERROR_NOT_INITIALIZED")

    with pytest.raises(DeviceUnhealthy, match="a fresh process cannot use it"):
        measure()


def test_result_of_a_device_that_broke_meanwhile_is_none(nvml):
    with pytest.raises(DeviceUnhealthy, match="Xid 95"), healthy_device():
        nvml.xids.append(95)


@has_no_driver
def test_probe_says_why_it_failed():
    probe = probe_launch()
    assert not probe.is_ok
    assert "driver" in probe.detail


def test_probe_that_hangs_has_failed(tmp_path):
    program = tmp_path / "probe.py"
    program.write_text("import time; time.sleep(60)\n")
    said = probe_launch(timeout_s=0.3, program=program)
    assert said == Probe(is_ok=False, detail="no answer within 0 s")


@pytest.mark.parametrize(("code", "is_ok"), [(0, True), (1, False)])
def test_probe_ends_as_its_program_does(tmp_path, code, is_ok):
    program = tmp_path / "probe.py"
    program.write_text(f"import sys; assert sys.argv[1:] == ['--launch', '3']; sys.exit({code})\n")
    assert probe_launch(3, program=program) == Probe(is_ok=is_ok)
