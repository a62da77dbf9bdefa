"""Judges answers against the oracle: every element, no exceptions, few passes.

An answer is right where it is within its bound; NaN must meet NaN, an infinity its own sign.
There is no matched fraction below one. Pure.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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


@dataclass(kw_only=True)
class _Tally:
    """Sums over the chunks of one output."""

    worst: float = 0.0
    wrong: int = 0
    first: int | None = None
    """Flat index of the first wrong element."""
    errors: float = 0.0
    answers: float = 0.0

    @property
    def rms(self) -> float:
        # Where every right answer is zero a relative error has no meaning; the bounds decide alone.
        return math.sqrt(self.errors / self.answers) if self.answers > 0 else 0.0


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
    tallies: dict[str, _Tally] = {}
    for tensor in problem.outputs:
        tallies[tensor.name] = _compare(tensor, expected, actual)
    mismatch = None
    for tensor in problem.outputs:
        tally = tallies[tensor.name]
        if tally.first is not None and mismatch is None:
            mismatch = Mismatch(case=case, output="")
            if not is_hidden:
                mismatch = _mismatch(tensor, tally, expected, actual, case)
    return Judgement(
        mismatch=mismatch,
        worst_error=max(tally.worst for tally in tallies.values()),
        rms={name: tally.rms for name, tally in tallies.items()},
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


def _compare(tensor: Tensor, expected: Expected, actual: Mapping[str, Raw]) -> _Tally:
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
    return tally


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
    if count and tally.first is None:
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


def _mismatch(
    tensor: Tensor, tally: _Tally, expected: Expected, actual: Mapping[str, Raw], case: str
) -> Mismatch:
    number = expected.outputs[tensor.name]
    first = tally.first or 0
    right = float(number.reshape(-1)[first])
    raw = actual[tensor.name].reshape(-1)[first : first + 1]
    given = float(as_float64(raw, tensor.dtype)[0])
    ratio = abs(given - right) / float(expected.bounds[tensor.name].reshape(-1)[first])
    return Mismatch(
        case=case,
        output=tensor.name,
        index=tuple(int(i) for i in np.unravel_index(first, number.shape)),
        actual=f"{given:.9g}",
        expected=f"{right:.9g}",
        error_over_bound=ratio if math.isfinite(ratio) else None,
        wrong_fraction=tally.wrong / number.size,
    )
