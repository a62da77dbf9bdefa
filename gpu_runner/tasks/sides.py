"""Opening the sides of a job: artefact, arenas and subject together, closed together.

A side is one candidate in one process. Everything here is trusted; what runs in the subject is not.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from gpu_runner.candidate import Candidate, Language
from gpu_runner.errors import RunnerError, SubjectFailed
from gpu_runner.host.arena import Arena, ArenaMode
from gpu_runner.host.machine import pick_cpus
from gpu_runner.host.subject import CallTime, Subject, SubjectPlan
from gpu_runner.jobs import Reason
from gpu_runner.languages import Artefact, BuildRefused, build
from gpu_runner.problem import Problem, Workload

POISONS = (0xFFC0DEAD, 0x7FA5A5A5)
"""Two NaN payloads that no computation yields; a second one catches outputs that hold the first."""

_ARENA_BYTES = 32 * 1024 * 1024
"""Slots of one arena share this much, so that three sides of four workloads stay below 1 GiB."""
_START_TIMEOUT_S = 60.0
_TRUSTED_START_TIMEOUT_S = 180.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """A workload in an arena of its own."""

    workload: Workload
    slots: int = 1
    mode: ArenaMode = ArenaMode.TIMED


class ContenderFailed(RunnerError):
    """A side that is not the candidate failed; the comparison says nothing of the candidate."""


@contextmanager
def blame(name: str, *, is_candidate: bool) -> Iterator[None]:
    """Turn a contender's failure into `ContenderFailed`; a candidate's stays its own."""
    try:
        yield
    except SubjectFailed as error:
        if is_candidate:
            raise
        msg = f"contender {name!r} failed ({error.reason}): {error.message}"
        raise ContenderFailed(msg) from error


def unplugged_ops(problem: Problem, language: Language) -> tuple[str, ...]:
    """Return the operators that untrusted candidates of this language have to do without."""
    return problem.library_ops if language is Language.PYTHON else ()


def slots_within(problem: Problem, workload: Workload, most: int) -> int:
    """Return how many slots of this workload fit an arena, at least one, at most `most`."""
    pages = 4 * 4096 * (len(problem.inputs) + len(problem.outputs))
    return max(1, min(most, _ARENA_BYTES // (problem.required_bytes(workload) + pages)))


def build_for(
    problem: Problem,
    candidate: Candidate,
    *,
    workspace: Path,
    timeout_s: float,
    is_trusted: bool = False,
) -> Artefact:
    """Return the artefact, built or from the cache.

    Raises:
        SubjectFailed: the builder refused the candidate.
        ToolchainMissing: nothing here can build this language.
    """
    artefact = build(
        problem, candidate, cache=workspace / "cache", timeout_s=timeout_s, is_trusted=is_trusted
    )
    if isinstance(artefact, BuildRefused):
        raise SubjectFailed(artefact.reason, artefact.message, artefact.log_tail)
    return artefact


class Side:
    """A subject with its arenas; enter it, `wait_ready()`, then call it."""

    def __init__(  # noqa: PLR0913 - what a process is opened with, each by its name
        self,
        artefact: Artefact,
        problem: Problem,
        places: Sequence[Place],
        *,
        threads: int,
        call_timeout_s: float,
        is_trusted: bool = False,
        unplugged_ops: tuple[str, ...] = (),
        arenas: tuple[Arena, ...] = (),
        zygote: Path | None = None,
    ) -> None:
        """Map the arenas and launch the process; it loads while the caller goes on.

        Args:
            artefact: what the process loads.
            problem: names the tensors.
            places: the workloads, each with an arena.
            threads: that the candidate may use.
            call_timeout_s: of one token.
            is_trusted: a baseline of the target.
            unplugged_ops: operators that give NaN in this process.
            arenas: one for each place, the caller's to close after this; by default its own.
            zygote: workspace of a worker whose zygote may fork the process, for what is not timed.
        """
        self.problem = problem
        self.places = tuple(places)
        self._stack = ExitStack()
        with ExitStack() as opening:
            self.arenas = arenas or tuple(
                opening.enter_context(
                    Arena(problem, place.workload, slots=place.slots, mode=place.mode)
                )
                for place in places
            )
            plan = SubjectPlan(
                artefact=artefact,
                problem=problem,
                workloads=tuple(place.workload for place in places),
                arenas=self.arenas,
                threads=threads,
                cpu=max(pick_cpus(threads)[1]) if threads == 1 else None,
                is_trusted=is_trusted,
                unplugged_ops=unplugged_ops,
                start_timeout_s=_TRUSTED_START_TIMEOUT_S if is_trusted else _START_TIMEOUT_S,
                call_timeout_s=_TRUSTED_START_TIMEOUT_S if is_trusted else call_timeout_s,
                zygote=zygote,
            )
            self._subject = opening.enter_context(Subject(plan))
            self._stack = opening.pop_all()

    def __enter__(self) -> Self:
        """Return itself; the constructor has opened everything."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process, then unmap."""
        self._stack.close()

    def wait_ready(self) -> None:
        """Return when the candidate is loaded and the process is frozen."""
        self._subject.wait_ready()

    @property
    def cpu_s(self) -> float:
        """Processor time of the process so far, from its start."""
        return self._subject.cpu_s

    def refuse_movement(self) -> None:
        """Refuse a process that ran while it was stopped; call it after the last outputs are read.

        Raises:
            SubjectFailed: it moved.
        """
        self._subject.refuse_movement()

    def inputs(self, place: int, slot: int) -> dict[str, np.ndarray]:
        """Return writable views of a slot's inputs, raw dtype."""
        return {t.name: self.arenas[place].input(slot, t.name) for t in self.problem.inputs}

    def outputs(self, place: int, slot: int) -> dict[str, np.ndarray]:
        """Return views of a slot's outputs, raw dtype."""
        return {t.name: self.arenas[place].output(slot, t.name) for t in self.problem.outputs}

    def take(self, place: int, slot: int, contents: Mapping[str, np.ndarray]) -> None:
        """Copy contents into a slot's inputs."""
        for name, view in self.inputs(place, slot).items():
            np.copyto(view, contents[name])

    def call(self, place: int, first_slot: int = 0, count: int = 1, *, poison: int) -> CallTime:
        """Poison the slots, let the subject do them, and check what it may not touch.

        Raises:
            SubjectFailed: it broke the protocol, left an output unwritten or wrote beside one.
        """
        arena = self.arenas[place]
        slots = range(first_slot, first_slot + count)
        arena.poison(slots, poison)
        time = self._subject.call(place, first_slot, count)
        self._refuse_marks(arena, slots, poison)
        return time

    def _refuse_marks(self, arena: Arena, slots: Iterable[int], poison: int) -> None:
        side = arena.broken_guard(slots)
        if side is not None:
            msg = f"wrote outside its output: {side}"
            raise SubjectFailed(Reason.GUARD_OVERWRITTEN, msg)
        unwritten = arena.unwritten(slots, poison)
        if unwritten is not None:
            msg = f"left elements of output {unwritten!r} unwritten"
            raise SubjectFailed(Reason.OUTPUT_NOT_WRITTEN, msg)
