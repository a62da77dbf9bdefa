"""Whether a GPU can be trusted with another job: a rule over what it said before and after one.

A candidate that faults or hangs makes errors too, and the driver reports them much as it reports a
broken board. Those that programs cause end with their process and are no reason to stop; the rule
asks for what a process cannot do to a sound device.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gpu_runner.device.machine import PROBE, DeviceState, nvml, states_by_uuid
from gpu_runner.errors import RunnerError, SubjectFailed
from gpu_runner.jobs import Unserved
from gpu_runner.message import Message

logger = logging.getLogger(__name__)

OF_PROGRAMS = frozenset({13, 31, 32, 43, 45, 68, 69, 109})
"""Xids that a program's own fault brings about: exception, illegal address, push buffer, cleanup
after a kill, time slice overrun. Source: NVIDIA, "Xid Errors", the catalogue."""
_LAUNCH_TIMEOUT_S = 30.0
_MOST_EVENTS = 64


class DeviceUnhealthy(RunnerError):
    """The device must not be measured on; the message says what was seen and what to do."""


class Probe(Message):
    """Whether a fresh process could use the device."""

    is_ok: bool
    detail: str = ""
    """The driver's words where it could not."""


class Reading(Message):
    """What is known of one device at one moment."""

    state: DeviceState | None = None
    """None where nobody can be asked (no NVML, no nvidia-smi), or the device is gone."""
    xids: tuple[int, ...] = ()
    """Numbers that the driver has reported since the job began."""


def fault(before: Reading | None, after: Reading, probe: Probe | None = None) -> str | None:
    """Return why a device is unhealthy, or None. Pure.

    Args:
        before: the reading before the job; None where a worker starts.
        after: the reading now.
        probe: what a launch by a fresh process came to, where one was made.
    """
    return next(_signs(before.state if before else None, after, probe), None)


def _signs(earlier: DeviceState | None, after: Reading, probe: Probe | None) -> Iterator[str]:
    state = after.state
    if earlier is not None and state is None:
        yield "it does not answer any more"
    broken = sorted(set(after.xids) - OF_PROGRAMS)
    if broken:
        yield f"the driver reported Xid {', '.join(map(str, broken))}"
    if state is not None and state.has_remap_failed:
        yield "a broken memory row could not be replaced"
    if state is not None and state.is_remap_pending:
        yield "broken memory rows wait for a reset to be replaced"
    grown = _growth(earlier, state)
    if grown > 0:
        yield f"{grown} uncorrected memory error(s) during the job"
    if probe is not None and not probe.is_ok:
        yield f"a fresh process cannot use it: {probe.detail}"


def refuse_unhealthy(before: Reading | None, after: Reading, probe: Probe | None = None) -> None:
    """Refuse a device that must not be measured on.

    Raises:
        DeviceUnhealthy: with the reason and the remedy.
    """
    reason = fault(before, after, probe)
    if reason is None:
        return
    states = (after.state, before.state if before else None)
    uuid = next((state.uuid for state in states if state is not None), "(unknown)")
    raise DeviceUnhealthy(
        f"device {uuid} is out of service: {reason}; see `nvidia-smi -q` and the kernel log, and "
        "start the worker again when the device has been seen to"
    )


def unserved(job_id: str, error: DeviceUnhealthy) -> Unserved:
    """Return the outcome of a job that met an unhealthy device; another worker may serve it."""
    return Unserved(job_id=job_id, cause="unhealthy_device", message=str(error), is_retryable=True)


def read_device(uuid: str = "") -> Reading:
    """Return the state of a device, by default of the first one CUDA programs see."""
    return Reading(state=chosen(states_by_uuid(), uuid))


def chosen(states: dict[str, DeviceState], uuid: str = "") -> DeviceState | None:
    """Return the device meant: by its name, else by CUDA_VISIBLE_DEVICES, else the first."""
    if uuid:
        return states.get(uuid)
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    if first.startswith("GPU-"):
        return next((s for name, s in states.items() if name.startswith(first)), None)
    ordered = list(states.values())
    index = int(first) if first.isdigit() else 0
    return ordered[index] if index < len(ordered) else None


def probe_launch(
    ordinal: int = 0, *, timeout_s: float = _LAUNCH_TIMEOUT_S, program: Path = PROBE
) -> Probe:
    """Let a fresh process fill and read memory of the device: half a second on a sound one."""
    try:
        said = subprocess.run(
            [sys.executable, "-I", "-B", str(program), "--launch", str(ordinal)],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Probe(is_ok=False, detail=f"no answer within {timeout_s:.0f} s")
    return Probe(is_ok=said.returncode == 0, detail=said.stderr.strip()[-300:])


class HealthWatch:
    """Watches one device during a job; enter it before, ask `refuse_unhealthy` after.

    It holds NVML, never CUDA, so it may live in the supervisor.
    """

    def __init__(self, uuid: str = "") -> None:
        """Name the device, by default the first that CUDA programs see."""
        self._uuid = uuid
        self._events = _XidEvents()
        self.before = Reading()

    def __enter__(self) -> Self:
        """Take the reading before."""
        self.before = read_device(self._uuid)
        if self.before.state is not None:
            self._uuid = self.before.state.uuid
        self._events.open(self._uuid)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release NVML."""
        self._events.close()

    def refuse_unhealthy(self, *, is_suspicious: bool = False) -> None:
        """Compare the device with what it was.

        Args:
            is_suspicious: a process of the job died of a CUDA error or hung: a fresh process has
                to show that the device still works.

        Raises:
            DeviceUnhealthy: the job's outcome is not the candidate's fault.
        """
        state = read_device(self._uuid).state
        after = Reading(state=state, xids=self._events.take())
        refuse_unhealthy(self.before, after, probe_launch() if is_suspicious else None)


@contextmanager
def healthy_device(uuid: str = "") -> Iterator[HealthWatch]:
    """Watch a device while something is measured on it.

    Where a kernel faulted or hung, a fresh process has to show that the device still works before
    the candidate is blamed.

    Raises:
        DeviceUnhealthy: instead of the candidate's failure where the device is the cause.
    """
    with HealthWatch(uuid) as watch:
        try:
            yield watch
        except SubjectFailed:
            watch.refuse_unhealthy(is_suspicious=True)
            raise
        watch.refuse_unhealthy()


class _XidEvents:
    """The driver's Xid reports of one device, as NVML hands them out; none without NVML."""

    def __init__(self) -> None:
        self._library: Any = None
        self._set: Any = None

    def open(self, uuid: str) -> None:
        """Ask for the reports of a device from now on."""
        self._library = nvml() if uuid else None
        if self._library is None:
            return
        try:
            handle = self._library.nvmlDeviceGetHandleByUUID(uuid)
            self._set = self._library.nvmlEventSetCreate()
            kind = self._library.nvmlEventTypeXidCriticalError
            self._library.nvmlDeviceRegisterEvents(handle, kind, self._set)
        except self._library.NVMLError as error:
            logger.info("no Xid reports here: %s", error)
            self.close()

    def take(self) -> tuple[int, ...]:
        """Return the numbers reported since the last call, without waiting."""
        found: list[int] = []
        while self._set is not None and len(found) < _MOST_EVENTS:
            try:
                event = self._library.nvmlEventSetWait_v2(self._set, 0)
            except self._library.NVMLError:  # nothing waits
                break
            found.append(int(event.eventData))
        return tuple(found)

    def close(self) -> None:
        """Let go of NVML."""
        if self._library is None:
            return
        with suppress(self._library.NVMLError):
            if self._set is not None:
                self._library.nvmlEventSetFree(self._set)
            self._library.nvmlShutdown()
        self._library = self._set = None


def _growth(earlier: DeviceState | None, now: DeviceState | None) -> int:
    counts = [None if state is None else state.ecc_uncorrected for state in (earlier, now)]
    return 0 if counts[0] is None or counts[1] is None else counts[1] - counts[0]
