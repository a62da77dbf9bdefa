"""One verified call: fresh contents in, frozen outputs out, compared with the fp64 oracle."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from gpu_runner.errors import SubjectFailed
from gpu_runner.jobs import Mismatch, Reason
from gpu_runner.oracle.compare import judge
from gpu_runner.oracle.reference import Expected, Oracle
from gpu_runner.problem import Problem, Workload


class WrongResult(SubjectFailed):
    """An output is off by more than its bound; carries where, for public cases."""

    def __init__(self, reason: Reason, message: str, mismatch: Mismatch) -> None:
        """Keep the mismatch beside reason and message."""
        super().__init__(reason, message)
        self.mismatch = mismatch


@dataclass(frozen=True, kw_only=True)
class Case:
    """How a call is named when it fails; `name` of a hidden case is its category."""

    name: str
    is_hidden: bool = False
    reason: Reason = Reason.WRONG_RESULT


@dataclass
class Verifier:
    """Judges outputs against the oracle and keeps the worst of what it saw."""

    problem: Problem
    oracle: Oracle = field(init=False)
    outputs: int = 0
    """How many calls' outputs were judged."""
    worst_error: float = 0.0
    """Largest error over its bound so far."""

    def __post_init__(self) -> None:
        """Load the reference once."""
        self.oracle = Oracle(self.problem)

    def expect(self, workload: Workload, inputs: Mapping[str, np.ndarray]) -> Expected:
        """Return the right answer for raw inputs, with its bounds."""
        return self.oracle.expected(workload, inputs)

    def refuse_wrong(
        self, expected: Expected, actual: Mapping[str, np.ndarray], case: Case
    ) -> dict[str, float]:
        """Return the root-mean-square error of each output.

        Raises:
            WrongResult: an element is off by more than its bound.
        """
        judgement = judge(self.problem, expected, actual, case=case.name, is_hidden=case.is_hidden)
        self.outputs += 1
        if judgement.mismatch is not None:
            message = describe(judgement.mismatch, case.reason)
            raise WrongResult(case.reason, message, judgement.mismatch)
        self.worst_error = max(self.worst_error, judgement.worst_error)
        return dict(judgement.rms)


def describe(mismatch: Mismatch, reason: Reason) -> str:
    """Return one sentence about a mismatch, no more than the writer may know."""
    where = f"{mismatch.case}: output {mismatch.output!r}" if mismatch.output else mismatch.case
    if reason is Reason.STALE_RESULT:
        return f"{where}: the result does not follow the input; one of an earlier call was kept"
    if mismatch.index is None:
        return f"{where}: the result is wrong"
    at = ", ".join(map(str, mismatch.index))
    return f"{where} at [{at}] is {mismatch.actual}, should be {mismatch.expected}"
