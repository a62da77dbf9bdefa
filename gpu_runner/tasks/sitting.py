"""One sitting: fresh processes for every side, a fresh key, blocks of calls in random order.

A block gives every side the same fresh contents and calls them one after the other in an order
drawn by lot; each contender's time is paired with the candidate's of the same block, so that drift
of the machine divides out. Outputs are verified between blocks, while every side is frozen.
Source: MEASUREMENT B4, B6, B7, B12, D2.
"""

import os
import random
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil

from gpu_runner.decision import enough_pairs
from gpu_runner.host import neighbours
from gpu_runner.host.arena import Arena, give_pages
from gpu_runner.jobs import Bench, Reason
from gpu_runner.languages import Artefact
from gpu_runner.message import digest_of
from gpu_runner.oracle.contents import Contents
from gpu_runner.problem import Workload
from gpu_runner.records import Series, Sitting
from gpu_runner.tasks.sides import POISONS, Place, Side, blame, slots_within, unplugged_ops
from gpu_runner.tasks.verify import Case, Verifier

_DISCARDED = 3
"""Blocks at the start of a series that are verified and not counted."""
_FEWEST_PAIRS = 12
"""Where time runs out this many pairs are still wanted: fewer have no interval to speak of."""
_FEWEST_WARMUPS = 3
_TRIAL_CHAIN = 16
"""Calls chained to learn what one more of them takes."""
_TRUSTED_BLOCKS = 2
"""Blocks of a series in which a trusted baseline's outputs are verified as well."""
_US = 1000.0


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """One side before it has a process; the candidate is the first of a sitting."""

    name: str
    artefact: Artefact
    is_trusted: bool = False


@dataclass
class _Times:
    """What one side took in the counted blocks, microseconds for one call."""

    wall_us: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)


class SittingRoom:
    """Holds what the sittings of one job share: the job, its artefacts, the oracle."""

    def __init__(self, job: Bench, entrants: Sequence[Entrant], verifier: Verifier) -> None:
        """Take the candidate as the first entrant."""
        self._job = job
        self._entrants = tuple(entrants)
        self._verifier = verifier
        self._first_turn = random.SystemRandom().randrange(2)
        self._places = tuple(
            Place(workload=w, slots=slots_within(job.problem, w, job.plan.most_slots))
            for w in job.workloads
        ) + tuple(Place(workload=w) for w in job.hidden)

    def sit(self, index: int) -> Sitting:
        """Open every side afresh, time every workload, verify every output.

        Raises:
            SubjectFailed: the candidate broke the protocol or gave a wrong result.
            ContenderFailed: another side did.
        """
        key = secrets.token_bytes(16)
        began = neighbours.read()
        started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        verified_before = self._verifier.outputs
        with ExitStack() as stack:
            sides = self._open_all(stack, index)
            for number, (entrant, side) in enumerate(zip(self._entrants, sides, strict=True)):
                with blame(entrant.name, is_candidate=number == 0):
                    side.wait_ready()
            order = list(range(len(self._job.workloads)))
            random.SystemRandom().shuffle(order)
            series: dict[int, tuple[Series, ...]] = {}
            for place in order:
                series[place] = _Heat(self._job, self._entrants, sides, self._verifier).run(
                    place, self._places[place], key
                )
            self._verify_unseen(sides[0], key)
            for number, (entrant, side) in enumerate(zip(self._entrants, sides, strict=True)):
                with blame(entrant.name, is_candidate=number == 0):
                    side.refuse_movement()
            others = neighbours.others_percent(
                began,
                neighbours.read(),
                subjects_s=sum(side.cpu_s for side in sides),
                processors=os.cpu_count() or 1,
            )
        return Sitting(
            index=index,
            started_at=started_at,
            key_digest=digest_of(key),
            pressure_percent=others,
            verified_outputs=self._verifier.outputs - verified_before,
            series=tuple(s for place in sorted(series) for s in series[place]),
        )

    def _open_all(self, stack: ExitStack, index: int) -> list[Side]:
        """Open the sides on memory of one kind, in turns forwards and backwards."""
        memory = [tuple(self._arenas(stack)) for _ in self._entrants]
        for of_one_place in zip(*memory, strict=True):
            give_pages(of_one_place)
        turn = -1 if (index + self._first_turn) % 2 else 1
        pairs = list(zip(self._entrants, memory, strict=True))
        opened = [stack.enter_context(self._open(*pair)) for pair in pairs[::turn]]
        return opened[::turn]

    def _arenas(self, stack: ExitStack) -> Iterator[Arena]:
        for place in self._places:
            arena = Arena(
                self._job.problem,
                place.workload,
                slots=place.slots,
                mode=place.mode,
                has_pages=False,
            )
            yield stack.enter_context(arena)

    def _open(self, entrant: Entrant, arenas: tuple[Arena, ...]) -> Side:
        return Side(
            entrant.artefact,
            self._job.problem,
            self._places,
            threads=self._job.plan.threads,
            call_timeout_s=self._job.plan.call_timeout_s,
            is_trusted=entrant.is_trusted,
            unplugged_ops=()
            if entrant.is_trusted
            else unplugged_ops(self._job.problem, entrant.artefact.language),
            arenas=arenas,
        )

    def _verify_unseen(self, side: Side, key: bytes) -> None:
        """Ask the timed process for shapes it was never timed on."""
        for place in range(len(self._job.workloads), len(self._places)):
            workload = self._places[place].workload
            inputs = side.inputs(place, 0)
            Contents(self._job.problem, workload, key).fill(inputs, call=0)
            expected = self._verifier.expect(workload, inputs)
            side.call(place, poison=random.SystemRandom().choice(POISONS))
            case = Case(name="hidden shape after timing", is_hidden=True)
            self._verifier.refuse_wrong(expected, side.outputs(place, 0), case)


class _Heat:
    """One workload in one sitting."""

    def __init__(
        self,
        job: Bench,
        entrants: Sequence[Entrant],
        sides: Sequence[Side],
        verifier: Verifier,
    ) -> None:
        self._job = job
        self._plan = job.plan
        self._entrants = entrants
        self._sides = sides
        self._verifier = verifier
        self._lot = random.SystemRandom()
        self._call = 0
        self._last_slots: tuple[int, ...] = ()

    def run(self, place: int, where: Place, key: bytes) -> tuple[Series, ...]:
        contents = Contents(self._job.problem, where.workload, key)
        count = self._warm_up(place, where, contents)
        times = [_Times() for _ in self._sides]
        began = time.monotonic()
        block = 0
        while not self._is_enough(times, began):
            is_near = block % self._plan.near_duplicate_every == self._plan.near_duplicate_every - 1
            slots = self._stage(place, where, contents, count, is_near=is_near)
            taken = self._time_block(place, slots)
            self._verify(place, where.workload, slots, block, is_near=is_near)
            if block >= _DISCARDED:
                for side, (wall_us, cpu_us) in zip(times, taken, strict=True):
                    side.wall_us.append(wall_us)
                    side.cpu_us.append(cpu_us)
            block += 1
        return tuple(
            Series(
                workload=where.workload.name,
                against=entrant.name,
                slots=count,
                candidate_us=tuple(times[0].wall_us),
                against_us=tuple(side.wall_us),
                candidate_cpu_us=tuple(times[0].cpu_us),
                against_cpu_us=tuple(side.cpu_us),
            )
            for entrant, side in zip(self._entrants[1:], times[1:], strict=True)
        )

    def _warm_up(self, place: int, where: Place, contents: Contents) -> int:
        """Warm every side equally; return how many calls a token chains.

        Both counts follow from the first contender's duration, never from the candidate's.
        """
        reference_us = self._reference_us(place, where, contents)
        chained = ceil(self._plan.token_us / max(reference_us, 1.0))
        count = max(1, min(chained, where.slots // 2 or 1))
        rounds = ceil(self._plan.warmup_s * 1e6 / max(reference_us * count, 1.0))
        rounds = max(_FEWEST_WARMUPS, min(rounds, 4 * self._plan.pairs))
        slots = self._stage(place, where, contents, count, is_near=False)
        for number, side in enumerate(self._sides):
            with blame(self._entrants[number].name, is_candidate=number == 0):
                for _ in range(rounds):
                    side.call(place, slots[0], len(slots), poison=POISONS[1])
        return count

    def _reference_us(self, place: int, where: Place, contents: Contents) -> float:
        """Return what one more call of a chain takes the first contender.

        A token of one call is mostly waking and stopping the process where the kernel is short:
        counts that follow from it would chain too few calls, and time the process instead.
        """
        longer = max(1, min(_TRIAL_CHAIN, where.slots // 2))
        taken = {}
        for count in {1, longer}:
            slots = self._stage(place, where, contents, count, is_near=False)
            with blame(self._entrants[1].name, is_candidate=False):
                taken[count] = min(
                    self._sides[1].call(place, slots[0], count, poison=POISONS[0]).wall_ns / _US
                    for _ in range(_FEWEST_WARMUPS)
                )
        if longer == 1:
            return taken[1]
        return max((taken[longer] - taken[1]) / (longer - 1), taken[longer] / longer / 4)

    def _is_enough(self, times: list[_Times], began: float) -> bool:
        plan = self._plan
        ours = times[0].wall_us
        if time.monotonic() - began > plan.most_s and len(ours) >= _FEWEST_PAIRS:
            return True
        if len(ours) < plan.pairs:
            return False
        if len(ours) >= plan.most_pairs:
            return True
        if (len(ours) - plan.pairs) % plan.pair_block:
            return False
        slots = max(1, len(self._last_slots))
        if sum(ours) * slots / 1e6 < plan.candidate_s:
            return False
        return all(enough_pairs(ours, side.wall_us, plan) for side in times[1:])

    def _stage(
        self, place: int, where: Place, contents: Contents, count: int, *, is_near: bool
    ) -> range:
        """Give every side the same new contents, in slots that were not used last.

        Which side they are drawn into and copied from is decided by lot for every slot: what was
        written last lies nearest to the processor, worth some percent to whoever reads it.
        """
        first = 0
        if self._last_slots and self._last_slots[0] == 0 and 2 * count <= where.slots:
            first = count
        slots = range(first, first + count)
        sides = list(self._sides)
        for position, slot in enumerate(slots):
            self._call += 1
            self._lot.shuffle(sides)
            into = sides[0].inputs(place, slot)
            if is_near and len(self._last_slots) == count and self._last_slots[0] != first:
                before = sides[0].inputs(place, self._last_slots[position])
                contents.perturb(before, into, call=self._call)
            else:
                contents.fill(into, call=self._call)
            for other in sides[1:]:
                other.take(place, slot, into)
        self._last_slots = tuple(slots)
        return slots

    def _time_block(self, place: int, slots: range) -> list[tuple[float, float]]:
        order = list(range(len(self._sides)))
        self._lot.shuffle(order)
        poison = self._lot.choice(POISONS)
        taken: dict[int, tuple[float, float]] = {}
        for number in order:
            side = self._sides[number]
            with blame(self._entrants[number].name, is_candidate=number == 0):
                spent = side.call(place, slots[0], len(slots), poison=poison)
            taken[number] = (
                spent.wall_ns / _US / len(slots),
                spent.cpu_ns / _US / len(slots),
            )
        return [taken[number] for number in range(len(self._sides))]

    def _verify(
        self, place: int, workload: Workload, slots: range, block: int, *, is_near: bool
    ) -> None:
        case = (
            Case(name="near duplicate", is_hidden=True, reason=Reason.STALE_RESULT)
            if is_near
            else Case(name=f"{workload.name}/timed")
        )
        for slot in slots:
            source = self._lot.choice(self._sides)
            expected = self._verifier.expect(workload, source.inputs(place, slot))
            for number, (entrant, side) in enumerate(zip(self._entrants, self._sides, strict=True)):
                if entrant.is_trusted and block >= _TRUSTED_BLOCKS:
                    continue
                with blame(entrant.name, is_candidate=number == 0):
                    self._verifier.refuse_wrong(expected, side.outputs(place, slot), case)
