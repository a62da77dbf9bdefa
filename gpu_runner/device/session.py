"""What a device job needs: an oracle with its memory, and sides that share it.

The supervisor's half: it holds neither CUDA nor torch. A side's failure is the candidate's
(`SubjectFailed`) where its kernels or plans caused it, and ours (`DeviceTrouble`) otherwise.
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn, Self

from pydantic import TypeAdapter

from gpu_runner.candidate import DEVICE_LANGUAGES, Candidate, LaunchPlan
from gpu_runner.channel import Message
from gpu_runner.device.faults import candidates_fault
from gpu_runner.device.placement import Placement
from gpu_runner.device.process import DeviceProcess, ProcessFailed
from gpu_runner.device.serving import describe, in_batches
from gpu_runner.errors import ReferenceFailed, RunnerError, SubjectFailed
from gpu_runner.jobs import Mismatch, Reason
from gpu_runner.languages import Artefact
from gpu_runner.problem import Problem, ProfileName
from gpu_runner.tasks.verify import WrongResult
from gpu_runner.tasks.verify import describe as described

_START_S: Final = 120.0
_ORACLE_S: Final = 120.0
_PLANS: Final = TypeAdapter(tuple[LaunchPlan, ...])
NO_DEVICE: Final = (
    "no CUDA device answers here; see `kernelpilot-runner doctor`, or run the job on a GPU worker"
)


class DeviceTrouble(RunnerError):
    """The device or our own processes failed; nothing is said of the candidate."""


@dataclass(frozen=True, kw_only=True)
class TokenTime:
    """One replay of all slots of a place."""

    us: float
    """Device time of one call."""
    mhz: float
    """Clock of a multiprocessor meanwhile; 0: not known."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the oracle says of right outputs."""

    worst_error: float
    rms: dict[str, float]
    outputs: int


class Session:
    """The oracle of one job; enter it, then open sides on it."""

    def __init__(self, problem: Problem, placements: Sequence[Placement], workspace: Path) -> None:
        """Start the oracle, which allocates every slab."""
        self.problem = problem
        self.placements = tuple(placements)
        self.workspace = workspace
        self._stack = ExitStack()
        self.descriptors: list[int] = []
        self._call = 0
        with ExitStack() as opening:
            self._oracle = opening.enter_context(DeviceProcess("oracle", workspace))
            opening.callback(self._close_descriptors)
            self._open()
            self._stack = opening.pop_all()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the oracle; the memory goes with it and the sides."""
        self._stack.close()

    def renew(self) -> str:
        """Begin a sitting under a fresh key; return the key's digest."""
        return str(self._ask("renew")["key_digest"])

    def stage(
        self, place: int, *, profile: ProfileName | None = None, is_near: bool = False
    ) -> None:
        """Give every slot new contents, or near-duplicates of what lies there."""
        self._call += 1
        name = None if profile is None else profile.value
        self._ask("stage", place=place, call=self._call, profile=name, near=is_near)

    def poison(self, place: int, index: int) -> None:
        """Fill outputs and guards with one of two patterns."""
        self._ask("poison", place=place, index=index)

    def judge(
        self, place: int, *, case: str, is_hidden: bool, reason: Reason = Reason.WRONG_RESULT
    ) -> Found:
        """Say how right the outputs of all slots are.

        Raises:
            SubjectFailed: an output is wrong or unwritten, or was written beside.
        """
        found = self._ask("judge", place=place, case=case, hidden=is_hidden)
        if "guard" in found:
            msg = f"wrote outside its output: beside {found['guard']!r}"
            raise SubjectFailed(Reason.GUARD_OVERWRITTEN, msg)
        if "mismatch" in found:
            if found["unwritten"] and not is_hidden:
                msg = f"left elements of output {found['unwritten']!r} unwritten"
                raise SubjectFailed(Reason.OUTPUT_NOT_WRITTEN, msg)
            mismatch = Mismatch.model_validate(found["mismatch"])
            raise WrongResult(reason, described(mismatch, reason), mismatch)
        return Found(
            worst_error=float(found["worst"]), rms=found["rms"], outputs=int(found["outputs"])
        )

    def trusted_rms(self, place: int) -> dict[str, float]:
        """Return the reference's error in the tensors' own precision, by output."""
        return dict(self._ask("trusted_rms", place=place)["rms"])

    def keep(self, place: int) -> None:
        """Remember the outputs as they are."""
        self._ask("keep", place=place)

    def differing(self, place: int) -> str:
        """Return which output differs from what was kept; empty: none."""
        return str(self._ask("same", place=place)["differs"])

    def put(self, place: int, folder: Path) -> None:
        """Take the inputs of the first slot from raw files, one an input."""
        self._ask("put", place=place, folder=str(folder))

    def get(self, place: int, folder: Path) -> None:
        """Write the outputs of the first slot to raw files."""
        self._ask("get", place=place, folder=str(folder))

    def copy_rate(self) -> float:
        """Return the best measured copy rate, bytes read plus written a second."""
        return float(self._ask("copy_rate")["bytes_per_s"])

    def _open(self) -> None:
        self._oracle.tell(_opening(self.problem, self.placements, batches=1))
        left = 1
        while left:
            message, descriptors = self._answer()
            self.descriptors += descriptors
            left = int(message["left"])

    def _answer(self) -> tuple[Message, list[int]]:
        try:
            return self._oracle.answer_with_descriptors(_START_S)
        except ProcessFailed as error:
            self._blame(error)

    def _ask(self, do: str, **arguments: object) -> Message:
        try:
            return self._oracle.ask(do, _ORACLE_S, **arguments)
        except ProcessFailed as error:
            self._blame(error)

    def _blame(self, error: ProcessFailed) -> NoReturn:
        if error.name == "ReferenceFailed":
            raise ReferenceFailed(str(error)) from error
        msg = f"the oracle failed ({error.name}): {error}; {error.log_tail[-2000:]}"
        raise DeviceTrouble(msg) from error

    def _close_descriptors(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors.clear()


class DeviceSide:
    """One contender in a process of its own, on the session's memory."""

    def __init__(
        self, session: Session, artefact: Artefact, candidate: Candidate, *, call_timeout_s: float
    ) -> None:
        """Start the process and tell it everything; it loads while the caller goes on."""
        self._timeout_s = call_timeout_s
        is_cubin = candidate.language in DEVICE_LANGUAGES
        self._process = DeviceProcess("launcher" if is_cubin else "baseline", session.workspace)
        batches = in_batches(session.descriptors)
        try:
            opening = _opening(session.problem, session.placements, batches=len(batches))
            self._process.tell(opening, batches[0])
            for batch in batches[1:]:
                self._process.tell({"do": "more"}, batch)
            self._process.tell({"do": "load", **_loading(artefact, candidate)})
        except ProcessFailed as error:
            self._process.close()
            self._blame(error)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process."""
        self._process.close()

    def wait_ready(self) -> None:
        """Return when memory is mapped and everything is loaded."""
        try:
            self._process.answer(_START_S)
        except ProcessFailed as error:
            self._own_up(error)
        try:
            self._process.answer(_START_S)
        except ProcessFailed as error:
            self._blame(error)

    def run(self, place: int, slot: int) -> None:
        """Do one slot.

        Raises:
            SubjectFailed: a kernel failed or did not end.
        """
        self._ask("run", place=place, slot=slot)

    def time(self, place: int) -> TokenTime:
        """Do every slot in one replay, on a cold cache.

        Raises:
            SubjectFailed: a kernel failed or did not end.
        """
        taken = self._ask("time", place=place)
        return TokenTime(us=float(taken["us"]), mhz=float(taken["mhz"]))

    def _ask(self, do: str, **arguments: object) -> dict[str, Any]:
        try:
            return self._process.ask(do, self._timeout_s, **arguments)
        except ProcessFailed as error:
            self._blame(error)

    def _blame(self, error: ProcessFailed) -> NoReturn:
        fault = candidates_fault(error, self._process.role, self._timeout_s)
        if fault is not None:
            raise fault from error
        self._own_up(error)

    def _own_up(self, error: ProcessFailed) -> NoReturn:
        role = self._process.role
        msg = f"a {role} failed ({error.name}): {error}; {error.log_tail[-2000:]}"
        raise DeviceTrouble(msg) from error


def _opening(problem: Problem, placements: Sequence[Placement], *, batches: int) -> Message:
    return {
        "do": "open",
        "problem": problem.model_dump(mode="json"),
        "places": describe(placements),
        "batches": batches,
    }


def _loading(artefact: Artefact, candidate: Candidate) -> dict[str, object]:
    if candidate.language in DEVICE_LANGUAGES:
        plans = _PLANS.dump_python(candidate.plans, mode="json")
        return {"artefact": str(artefact.path), "plans": plans}
    return {
        "source": str(artefact.entry),
        "calling": candidate.calling,
        "environment": artefact.environment,
    }
