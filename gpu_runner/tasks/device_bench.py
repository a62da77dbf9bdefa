"""The bench job on a device: sittings of paired tokens, each a replay on a cold cache.

Every side of a sitting is a fresh process on the same memory, so that where buffers lie favours
nobody. A token is one replay of a graph of one call for every slot; contents are new for every
token and every output of the candidate is judged. Source: MEASUREMENT B3 to B8, D4.
"""

import json
import random
import time
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from gpu_runner.candidate import Candidate
from gpu_runner.decision import enough_pairs
from gpu_runner.device.clocks import MOST_DROPPED, steady_pairs
from gpu_runner.device.machine import device_environment, identities
from gpu_runner.device.placement import Placement, place, slots_for
from gpu_runner.device.session import (
    NO_DEVICE,
    DeviceSide,
    DeviceTrouble,
    Session,
    TokenTime,
)
from gpu_runner.errors import SubjectFailed
from gpu_runner.jobs import Bench, Benched, Reason
from gpu_runner.languages import Artefact
from gpu_runner.message import digest_of
from gpu_runner.records import BenchRecord, Series, Sitting
from gpu_runner.tasks.record import build_side, contenders_of, median_us, take_sittings
from gpu_runner.tasks.sides import blame

_DISCARDED = 3
_FEWEST_PAIRS = 12
_TRUSTED_BLOCKS = 2
"""Blocks of a series in which a trusted baseline's outputs are judged as well."""
_PAUSES_S = (1.0, 4.0)
"""Before a series whose clock was unsteady is measured again; after the last it is given up."""
_FLOOR_SHARE = 0.75
"""Reading alone is faster than copying, by less than this share."""
_HIDDEN_SLOTS = 2
_BASELINE_CALL_S = 180.0
"""A baseline compiles and tunes at its first call."""


@dataclass(frozen=True, kw_only=True)
class _Entrant:
    name: str
    candidate: Candidate
    artefact: Artefact
    is_trusted: bool = False


@dataclass
class _Times:
    us: list[float] = field(default_factory=list)
    mhz: list[float] = field(default_factory=list)


class _UnsteadyClock(Exception):
    """Too many pairs of a series ran at different clocks."""


def device_bench(job: Bench, *, workspace: Path) -> Benched:
    """Time the candidate's cubins against every contender.

    Raises:
        SubjectFailed: the candidate failed, in any sitting.
        ContenderFailed: another side failed, or cannot be built.
        DeviceTrouble: the device or our own processes failed.
        ToolchainMissing: nothing here can build one of the languages.
    """
    started = time.monotonic()
    machine = device_environment()
    if machine is None:
        raise DeviceTrouble(NO_DEVICE)
    entrants = tuple(
        _Entrant(
            name=contender.name,
            candidate=contender.candidate,
            artefact=build_side(job, contender, workspace, is_candidate=number == 0),
            is_trusted=contender.is_trusted,
        )
        for number, contender in enumerate(contenders_of(job))
    )
    cache_bytes = identities()[0].l2_bytes
    placements = (
        *(
            place(job.problem, w, slots=slots_for(job.problem, w, cache_bytes))
            for w in job.workloads
        ),
        *(place(job.problem, w, slots=_HIDDEN_SLOTS) for w in job.hidden),
    )
    with Session(job.problem, placements, workspace) as session:
        room = _Room(job, entrants, session)
        record = take_sittings(job, room.sit, machine, started)
        rate = _copy_rate(session, machine.machine, workspace)
    _refuse_impossible(record, placements, rate, cache_bytes)
    return Benched(job_id=job.job_id, record=record, seconds=time.monotonic() - started)


class _Room:
    """Holds what the sittings of one job share."""

    def __init__(self, job: Bench, entrants: tuple[_Entrant, ...], session: Session) -> None:
        self._job = job
        self._entrants = entrants
        self._session = session
        self._lot = random.SystemRandom()
        self._outputs = 0

    def sit(self, index: int) -> Sitting:
        """Open every side afresh, time every workload, judge every output of the candidate."""
        key_digest = self._session.renew()
        started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        before = self._outputs
        with ExitStack() as stack:
            sides = [stack.enter_context(self._open(e)) for e in self._entrants]
            for number, side in enumerate(sides):
                with self._blamed(number):
                    side.wait_ready()
            order = list(range(len(self._job.workloads)))
            self._lot.shuffle(order)
            series = {number: self._series_steadily(number, sides) for number in order}
            self._verify_unseen(sides[0])
        return Sitting(
            index=index,
            started_at=started_at,
            key_digest=key_digest,
            pressure_percent=0.0,
            verified_outputs=self._outputs - before,
            series=tuple(s for number in sorted(series) for s in series[number]),
        )

    def _open(self, entrant: _Entrant) -> DeviceSide:
        plan = self._job.plan
        timeout_s = _BASELINE_CALL_S if entrant.is_trusted else plan.call_timeout_s
        return DeviceSide(
            self._session, entrant.artefact, entrant.candidate, call_timeout_s=timeout_s
        )

    def _series_steadily(self, number: int, sides: list[DeviceSide]) -> tuple[Series, ...]:
        for pause_s in _PAUSES_S:
            try:
                return self._series(number, sides)
            except _UnsteadyClock:
                time.sleep(pause_s)
        try:
            return self._series(number, sides)
        except _UnsteadyClock as error:
            name = self._job.workloads[number].name
            msg = f"{name}: the device's clock stays unsteady; let it cool down, or free it"
            raise DeviceTrouble(msg) from error

    def _series(self, number: int, sides: list[DeviceSide]) -> tuple[Series, ...]:
        """Take pairs of one workload until they suffice."""
        plan = self._job.plan
        times = [_Times() for _ in sides]
        block = 0
        began = time.monotonic()
        while not self._is_enough(times, began):
            is_near = block % plan.near_duplicate_every == plan.near_duplicate_every - 1
            taken = self._block(number, sides, block, is_near=is_near)
            if block == _DISCARDED:
                began = time.monotonic()  # the first blocks capture graphs, and baselines compile
            if block >= _DISCARDED:
                for side, token in zip(times, taken, strict=True):
                    side.us.append(token.us)
                    side.mhz.append(token.mhz)
            block += 1
        slots = self._session.placements[number].slots
        ours = times[0]
        return tuple(
            _paired(self._job.workloads[number].name, entrant.name, slots, ours, theirs)
            for entrant, theirs in zip(self._entrants[1:], times[1:], strict=True)
        )

    def _is_enough(self, times: list[_Times], began: float) -> bool:
        plan = self._job.plan
        pairs = len(times[0].us)
        if pairs >= plan.most_pairs:
            return True
        if time.monotonic() - began > plan.most_s and pairs >= _FEWEST_PAIRS:
            return True
        if pairs < plan.pairs or (pairs - plan.pairs) % plan.pair_block:
            return False
        return all(enough_pairs(times[0].us, side.us, plan) for side in times[1:])

    def _block(
        self, number: int, sides: list[DeviceSide], block: int, *, is_near: bool
    ) -> list[TokenTime]:
        """Give all sides the same new contents, and time each once, in an order drawn by lot."""
        self._session.stage(number, is_near=is_near)
        order = list(range(len(sides)))
        self._lot.shuffle(order)
        pattern = self._lot.randrange(2)
        taken: dict[int, TokenTime] = {}
        for which in order:
            self._session.poison(number, pattern)
            with self._blamed(which):
                taken[which] = sides[which].time(number)
                if which == 0 or not self._entrants[which].is_trusted or block < _TRUSTED_BLOCKS:
                    self._judge(number, is_near=is_near)
        return [taken[which] for which in range(len(sides))]

    def _judge(self, number: int, *, is_near: bool) -> None:
        workload = self._session.placements[number].workload
        name = "near duplicate" if is_near else f"{workload.name}/timed"
        reason = Reason.STALE_RESULT if is_near else Reason.WRONG_RESULT
        found = self._session.judge(number, case=name, is_hidden=is_near, reason=reason)
        self._outputs += found.outputs

    def _verify_unseen(self, side: DeviceSide) -> None:
        """Ask the timed process for shapes it was never timed on."""
        for number in range(len(self._job.workloads), len(self._session.placements)):
            self._session.stage(number)
            self._session.poison(number, self._lot.randrange(2))
            for slot in range(self._session.placements[number].slots):
                side.run(number, slot)
            found = self._session.judge(number, case="hidden shape after timing", is_hidden=True)
            self._outputs += found.outputs

    def _blamed(self, number: int) -> AbstractContextManager[None]:
        return blame(self._entrants[number].name, is_candidate=number == 0)


def _paired(workload: str, against: str, slots: int, ours: _Times, theirs: _Times) -> Series:
    """Drop pairs in which a side met another clock than usual.

    Raises:
        _UnsteadyClock: that is more than every fifth.
    """
    kept = steady_pairs(ours.mhz, theirs.mhz)
    if len(kept) < (1 - MOST_DROPPED) * len(ours.us):
        raise _UnsteadyClock
    zeros = (0.0,) * len(kept)
    return Series(
        workload=workload,
        against=against,
        slots=slots,
        candidate_us=tuple(ours.us[i] for i in kept),
        against_us=tuple(theirs.us[i] for i in kept),
        candidate_cpu_us=zeros,
        against_cpu_us=zeros,
    )


def _copy_rate(session: Session, machine: str, workspace: Path) -> float:
    """Return the device's measured copy rate, bytes a second; measured once for each model."""
    path = workspace / "cache" / f"copy-rate-{digest_of(machine.encode())[:16]}.json"
    try:
        return float(json.loads(path.read_text())["bytes_per_s"])
    except (OSError, ValueError, KeyError):
        rate = session.copy_rate()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"bytes_per_s": rate}))
        return rate


def _refuse_impossible(
    record: BenchRecord, placements: tuple[Placement, ...], rate: float, cache_bytes: int
) -> None:
    """Refuse times in which the inputs cannot even be read once (MEASUREMENT B11).

    Outputs may stay in the cache behind a kernel, and so may the inputs of small workloads.

    Args:
        record: what was measured.
        placements: of the timed workloads, in the record's order, then others.
        rate: of a copy, bytes read plus written a second.
        cache_bytes: of the last cache.
    """
    for workload, placement in zip(record.workloads, placements, strict=False):
        inputs = sum(
            spot.bytes
            for spot in placement.spots[0].values()
            if not placement.slabs[spot.slab].is_output
        )
        if inputs * placement.slots <= 2 * cache_bytes:
            continue
        floor_us = inputs / rate * 1e6
        taken_us = median_us(record, workload.name)
        if taken_us is not None and taken_us < _FLOOR_SHARE * floor_us:
            msg = (
                f"{workload.name}: {taken_us:.1f} us is less than three quarters of the"
                f" {floor_us:.1f} us in which this device copies {inputs} bytes of inputs; the"
                " work was not done"
            )
            raise SubjectFailed(Reason.FASTER_THAN_POSSIBLE, msg)
