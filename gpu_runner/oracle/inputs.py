"""What a problem and a workload say of each input, and where near-duplicates differ; no engine.

Both engines ask here, so that a change to a rule changes the contents of both. Pure.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from gpu_runner.oracle.profile_rules import EXTREME_ROWS, default_bounds
from gpu_runner.oracle.secret import Secret
from gpu_runner.problem import DType, InputRule, Problem, ProfileName, Tensor, Workload

_INSIDE: Final = (0.618, 0.382, 0.271)
"""Places within a parameter's range, tried in turn, for values that came out as 0 or 1."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a near-duplicate differs from its source."""

    tensor: Tensor
    row: int
    at: int
    """Of the row's elements, the one that is sure to change."""
    where: slice
    """What changes of the row: the element alone, or all."""


class Inputs:
    """The inputs of one workload, and the secret that their contents are drawn from."""

    def __init__(self, problem: Problem, workload: Workload, key: bytes) -> None:
        """Bind a workload to a secret key of at least 16 bytes.

        Raises:
            ValueError: the key is too short, or the workload has no sizes under the problem.
        """
        self.tensors = problem.inputs
        self.profile = workload.profile
        self.shapes = {t.name: problem.shape(t, workload) for t in problem.inputs}
        self.secret = Secret(key, f"{problem.name}/{workload.name}")
        self.row_kinds = tuple(kind for kind in EXTREME_ROWS if kind in problem.profiles)
        """What an extreme row may be, within the problem's contract."""
        self._rules = {rule.input: rule for rule in problem.rules}

    @property
    def elements(self) -> int:
        """Elements of all inputs together."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def is_parameter(self, tensor: Tensor) -> bool:
        """Whether the rule of an input says so; its contents are then of no profile."""
        rule = self._rules.get(tensor.name)
        return rule is not None and rule.role == "parameter"

    def rule(self, parameter: Tensor) -> InputRule:
        """Return the rule of a parameter."""
        return self._rules[parameter.name]

    def integer_profile(self, tensor: Tensor, profile: ProfileName) -> ProfileName:
        """Return the profile of an input of integers or bools."""
        return ProfileName.NORMAL if self.is_parameter(tensor) else profile

    def bounds(self, tensor: Tensor) -> tuple[int, int]:
        """Return the inclusive range of an input of integers or bools."""
        rule = self._rules.get(tensor.name)
        if rule is None or tensor.dtype is DType.BOOL:
            return default_bounds(tensor.dtype)
        return math.ceil(rule.low), math.floor(rule.high)

    def flawed(self, *words: int | str) -> str:
        """Return the activation that a single flaw goes into, "" for none; words name the call."""
        floats = [t.name for t in self.tensors if t.dtype.is_float and not self.is_parameter(t)]
        if not floats:
            return ""
        return floats[int.from_bytes(self.secret.digest("chosen", *words)[:8]) % len(floats)]

    def place(self, generator: np.random.Generator) -> Place | None:
        """Choose where a near-duplicate differs; None where no input has more than one value."""
        if not self._perturbable:
            return None
        tensor = self._perturbable[int(generator.integers(0, len(self._perturbable)))]
        rows, length = rows_of(self.shapes[tensor.name])
        row = int(generator.integers(0, rows))
        is_element = length == 1 or bool(generator.integers(0, 2) == 0)
        at = int(generator.integers(0, length))
        where = slice(at, at + 1) if is_element else slice(None)
        return Place(tensor=tensor, row=row, at=at, where=where)

    @cached_property
    def _perturbable(self) -> tuple[Tensor, ...]:
        """Activations that have an element and more than one value; else any such input."""
        able = tuple(t for t in self.tensors if self._has_freedom(t))
        return tuple(t for t in able if not self.is_parameter(t)) or able

    def _has_freedom(self, tensor: Tensor) -> bool:
        low, high = (0, 1) if tensor.dtype.is_float else self.bounds(tensor)
        return 0 not in self.shapes[tensor.name] and low < high


def rows_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the rows and the length of a tensor seen as rows, length being the last axis."""
    length = shape[-1] if shape else 1
    return math.prod(shape) // max(length, 1), length


def stand_ins(rule: InputRule) -> tuple[float, ...]:
    """Return what may stand for an exact zero or one of a float parameter, the best first.

    A kernel could leave those out unseen.
    """
    return tuple(rule.low + (rule.high - rule.low) * share for share in _INSIDE)
