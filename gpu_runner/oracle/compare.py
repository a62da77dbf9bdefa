"""Judges answers against the oracle: every element, no exceptions, few passes.

An answer is right where it is within its bound; NaN must meet NaN, an infinity its own sign.
There is no matched fraction below one. Pure.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gpu_runner.jobs import Mismatch
from gpu_runner.oracle.elements import Numbers, Raw, as_float64, expect_raw, largest_finite
from gpu_runner.oracle.reference import Expected
from gpu_runner.problem import DType, Problem, Tensor

_CHUNK_ELEMENTS: Final = 1 << 14
"""Four arrays of this many float64 stay in a core's cache."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What one call's outputs are worth."""

    mismatch: Mismatch | None
    """The first wrong element of the first wrong output; None when every element is right."""
    worst_error: float
    """Largest error over its bound; infinite where a NaN or an infinity is wrong."""
    rms: dict[str, float]
    """Root-mean-square error over root-mean-square answer, finite elements, by output."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one output of one call is worth, whatever engine found it."""

    shape: tuple[int, ...]
    worst: float
    """Largest error over its bound."""
    errors: float
    """Sum of squares over elements that are finite on both sides, as is the next."""
    answers: float
    wrong: int = 0
    first: int = 0
    """Flat index of the first wrong element; next what was given, what is right, its bound."""
    given: float = 0.0
    right: float = 0.0
    bound: float = 0.0

    @property
    def rms(self) -> float:
        """Root-mean-square error over root-mean-square answer."""
        # Where every right answer is zero a relative error has no meaning; the bounds decide alone.
        return math.sqrt(self.errors / self.answers) if self.answers > 0 else 0.0

    def mismatch(self, output: str, case: str) -> Mismatch:
        """Describe the first wrong element."""
        ratio = abs(self.given - self.right) / self.bound if self.bound else math.inf
        return Mismatch(
            case=case,
            output=output,
            index=tuple(int(i) for i in np.unravel_index(self.first, self.shape)),
            actual=f"{self.given:.9g}",
            expected=f"{self.right:.9g}",
            error_over_bound=ratio if math.isfinite(ratio) else None,
            wrong_fraction=self.wrong / math.prod(self.shape),
        )


@dataclass(kw_only=True)
class _Tally:
    """Sums over the chunks of one output; fields as in a `Finding`."""

    worst: float = 0.0
    wrong: int = 0
    first: int = 0
    errors: float = 0.0
    answers: float = 0.0


def judge(
    problem: Problem,
    expected: Expected,
    actual: Mapping[str, Raw],
    *,
    case: str,
    is_hidden: bool,
) -> Judgement:
    """Compare one call's outputs with the right ones.

    Args:
        problem: names the outputs.
        expected: the oracle's answer.
        actual: raw outputs by name; each of the shape and raw type the problem says.
        case: how a mismatch names the case; for a hidden one its category, `hidden shape`.
        is_hidden: report the category and nothing else.

    Raises:
        ValueError: an output is missing, or of a wrong shape or type: the caller owns the buffers.
    """
    findings = [_compare(tensor, expected, actual) for tensor in problem.outputs]
    return conclude(problem, findings, case=case, is_hidden=is_hidden)


def conclude(
    problem: Problem, findings: Sequence[Finding], *, case: str, is_hidden: bool
) -> Judgement:
    """Return what the findings of a call's outputs, in the problem's order, amount to."""
    found = {t.name: finding for t, finding in zip(problem.outputs, findings, strict=True)}
    wrong = next((name for name, finding in found.items() if finding.wrong), None)
    mismatch = None
    if wrong is not None:
        mismatch = (
            Mismatch(case=case, output="") if is_hidden else found[wrong].mismatch(wrong, case)
        )
    return Judgement(
        mismatch=mismatch,
        worst_error=max(finding.worst for finding in findings),
        rms={name: finding.rms for name, finding in found.items()},
    )


def rms_ratio(problem: Problem, rms: Mapping[str, float], trusted: Mapping[str, float]) -> float:
    """Return how many times noisier an answer is than the trusted same-precision one, at worst.

    A trusted error below the output's unit roundoff counts as that: an answer is not noisy because
    the trusted one happened to be exact.
    """
    ratios = [
        rms[tensor.name] / max(trusted[tensor.name], tensor.dtype.unit_roundoff)
        for tensor in problem.outputs
        if tensor.dtype.is_float
    ]
    return max(ratios, default=0.0)


def _compare(tensor: Tensor, expected: Expected, actual: Mapping[str, Raw]) -> Finding:
    tally = _Tally()
    for start, number, limit, raw in _chunks(tensor, expected, actual):
        error = as_float64(raw, tensor.dtype)
        with np.errstate(all="ignore"):  # NaN and infinity are judged below, not warned of
            error -= number
            squares = _sum_of_squares(error)
            np.abs(error, out=error)
            error /= limit
            worst = float(error.max())
        if worst <= 1.0 and math.isfinite(squares):
            tally.worst = max(tally.worst, worst)
            tally.errors += squares
            tally.answers += _sum_of_squares(number)
        else:
            answer = as_float64(raw, tensor.dtype)
            _compare_slowly(tally, start, answer, number, limit, tensor.dtype)
    return _finding(tensor, tally, expected, actual)


def _compare_slowly(
    tally: _Tally, start: int, answer: Numbers, number: Numbers, limit: Numbers, dtype: DType
) -> None:
    """Judge a chunk with wrong or special elements, and add it to the tally."""
    is_wrong = _wrong(answer, number, limit, dtype)
    is_plain = np.isfinite(answer) & np.isfinite(number)
    error = np.abs(answer[is_plain] - number[is_plain])
    worst = float((error / limit[is_plain]).max(initial=0.0))
    if (is_wrong & ~is_plain).any():
        worst = math.inf
    tally.worst = max(tally.worst, worst)
    tally.errors += _sum_of_squares(error)
    tally.answers += _sum_of_squares(number[is_plain])
    count = int(np.count_nonzero(is_wrong))
    if count and not tally.wrong:
        tally.first = start + int(np.argmax(is_wrong))
    tally.wrong += count


def _sum_of_squares(values: Numbers) -> float:
    # Not np.dot: BLAS would split it over threads, which wait for each other on a busy machine.
    return float(np.einsum("i,i->", values, values))


def _wrong(answer: Numbers, number: Numbers, limit: Numbers, dtype: DType) -> NDArray[np.bool_]:
    with np.errstate(all="ignore"):
        is_right = np.abs(answer - number) <= limit
    is_right |= np.isnan(answer) & np.isnan(number)
    # Beyond the type's largest number, rounding gives an infinity, and so may the answer.
    top = largest_finite(dtype) if dtype.is_float else math.inf
    is_beyond = np.isinf(number) | (np.abs(number) + np.nan_to_num(limit, nan=0.0) > top)
    is_right |= np.isinf(answer) & is_beyond & (np.sign(answer) == np.sign(number))
    return np.asarray(~is_right)


def _chunks(
    tensor: Tensor, expected: Expected, actual: Mapping[str, Raw]
) -> Iterator[tuple[int, Numbers, Numbers, Raw]]:
    """Yield (first flat index, answers, bounds, raw output) for stretches that fit a cache."""
    number = expected.outputs[tensor.name]
    raw = actual.get(tensor.name)
    if raw is None or raw.shape != number.shape:
        found = "nothing" if raw is None else f"the shape {raw.shape}"
        msg = f"output {tensor.name!r} needs the shape {number.shape}; given: {found}"
        raise ValueError(msg)
    expect_raw(raw, tensor.dtype)
    flat = (number.reshape(-1), expected.bounds[tensor.name].reshape(-1), raw.reshape(-1))
    for start in range(0, number.size, _CHUNK_ELEMENTS):
        part = slice(start, start + _CHUNK_ELEMENTS)
        yield start, flat[0][part], flat[1][part], flat[2][part]


def _finding(
    tensor: Tensor, tally: _Tally, expected: Expected, actual: Mapping[str, Raw]
) -> Finding:
    number, first = expected.outputs[tensor.name], tally.first
    finding = Finding(
        shape=number.shape, worst=tally.worst, errors=tally.errors, answers=tally.answers
    )
    if not tally.wrong:
        return finding
    raw = actual[tensor.name].reshape(-1)[first : first + 1]
    return replace(
        finding,
        wrong=tally.wrong,
        first=first,
        given=float(as_float64(raw, tensor.dtype)[0]),
        right=float(number.reshape(-1)[first]),
        bound=float(expected.bounds[tensor.name].reshape(-1)[first]),
    )
