"""The decision: FASTER, SAME, SLOWER or AMBIGUOUS, as arithmetic over a measurement record. Pure.

The unit of analysis is the sitting, because bias sticks to a process: inside one sitting pairs
agree with each other and may all be wrong together. A sitting's value is the weighted sum over
public workloads of the median log-ratio of its pairs; more pairs sharpen it, only more sittings
test it.

Source: MEASUREMENT B9 (modes), B10 (rule), B13 (clock).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from gpu_runner.records import (
    BenchRecord,
    Comparison,
    Decision,
    Series,
    Sitting,
    TimingPlan,
    Verdict,
)
from gpu_runner.statistics import (
    bootstrap_medians,
    median,
    median_interval,
    quantile,
    slower_mode,
    t_interval,
)

Numbers = NDArray[np.float64]
Basis = Literal["feedback", "claim"]
Clock = Literal["wall", "cpu"]

LEAST_SITTINGS_FOR_A_CLAIM: Final = 5
_TRIMMED_FROM: Final = 6
"""From so many sittings on, the highest and the lowest are dropped."""
_OUTLIER_ONE_IN: Final = 5
"""One sitting in so many may contradict a verdict: of five to nine one, as in the source."""
_LEVEL: Final = 0.005
_BUSY_PERCENT: Final = 5.0
_QUIET_MARGIN: Final = 0.03
_BUSY_MARGIN: Final = 0.05
_GPU_MARGINS: Final = ((50.0, 0.01), (5.0, 0.02), (0.0, 0.03))
"""From this many microseconds of the contender on: the margin."""
_NOISY_SPREAD: Final = 1.5
_RESAMPLES: Final = 10_000
_RESAMPLES_WHILE_MEASURING: Final = 2_000
_PAIR_CONFIDENCE: Final = 0.99


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """How a set of sittings becomes an interval and a verdict."""

    basis: Basis
    level: float
    """One-sided."""
    margin: float
    is_rankable: bool


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """One workload, or the weighted whole, over the sittings."""

    values: Numbers
    """Shape [sittings]: log-ratio, above zero where the candidate is faster."""
    resamples: Numbers
    """Shape [resamples], mean over sittings of bootstrapped values; empty for a claim."""
    candidate_us: float
    against_us: float


def decide(
    record: BenchRecord, against: str, *, basis: Basis, candidates_tested: int = 1
) -> Decision:
    """Decide whether the candidate is faster than a contender.

    FASTER: the low end of the interval and all sittings but one in five exceed the margin. SLOWER
    is its mirror image. SAME: the whole interval lies within the margin. Anything else is
    AMBIGUOUS, and so is everything measured with several threads on a busy machine.

    Args:
        record: at least five sittings for a claim, one for feedback.
        against: name of a contender of the record.
        basis: a claim's interval is Student's t over sittings, feedback's a bootstrap over pairs
            with the margin doubled.
        candidates_tested: how many candidates were tried against this contender; the level of
            0.5 % is divided by it.

    Raises:
        ValueError: too few sittings, no such contender, or a workload that a sitting lacks.
    """
    if basis == "claim" and len(record.sittings) < LEAST_SITTINGS_FOR_A_CLAIM:
        msg = (
            f"a claim needs at least {LEAST_SITTINGS_FOR_A_CLAIM} sittings and record "
            f"{record.record_id} has {len(record.sittings)}; bench again with plan.sittings="
            f"{LEAST_SITTINGS_FOR_A_CLAIM}, or decide with basis='feedback'"
        )
        raise ValueError(msg)
    if candidates_tested < 1:
        msg = f"candidates_tested is {candidates_tested}; at least this one was tested"
        raise ValueError(msg)
    clock = _clock(record, against)
    samples = _samples(record, against, clock, basis)
    overall = _whole(record, samples)
    rule = _Rule(
        basis=basis,
        level=_LEVEL / candidates_tested,
        margin=_margin(record, overall) * (2.0 if basis == "feedback" else 1.0),
        is_rankable=not (_is_busy(record) and record.plan.threads > 1),
    )
    comparison = _comparison(overall, rule)
    if clock == "cpu":
        comparison = _agreed(comparison, record, against, basis)
    return Decision(
        against=against,
        record_id=record.record_id,
        basis=basis,
        sittings=len(record.sittings),
        clock=clock,
        margin=rule.margin,
        confidence=1.0 - rule.level,
        overall=comparison,
        workloads={name: _comparison(sample, rule) for name, sample in samples.items()},
        noise=_noise(record, against, clock),
    )


def needs_more(record: BenchRecord, against: str) -> bool:
    """Return whether another sitting should be added, by the interval's width and never its place.

    Looking at the sign would stop at the first lucky streak.

    Raises:
        ValueError: as `decide`.
    """
    done = len(record.sittings)
    if done < record.plan.sittings:
        return True
    if done >= record.plan.most_sittings:
        return False
    basis: Basis = "claim" if done >= LEAST_SITTINGS_FOR_A_CLAIM else "feedback"
    samples = _samples(record, against, _clock(record, against), basis)
    _, low, high = _interval(_whole(record, samples), basis, _LEVEL)
    return high - low > record.plan.width


def enough_pairs(
    candidate_us: Sequence[float], against_us: Sequence[float], plan: TimingPlan
) -> bool:
    """Return whether one workload's pairs suffice in this sitting, by width and never by sign.

    A candidate whose 90th percentile is beyond one and a half medians needs twice the pairs. The
    plan's time limits are the caller's to keep: times here are of one call, not of a token.
    """
    pairs = len(candidate_us)
    if pairs >= plan.most_pairs:
        return True
    if pairs < min(plan.pairs * (2 if _is_noisy(candidate_us) else 1), plan.most_pairs):
        return False
    ratios = np.log(np.asarray(against_us)) - np.log(np.asarray(candidate_us))
    low, high = median_interval(
        ratios, confidence=_PAIR_CONFIDENCE, resamples=_RESAMPLES_WHILE_MEASURING
    )
    return high - low < plan.width


def _is_shared(record: BenchRecord) -> bool:
    """Whether others were busy in more sittings than may contradict a verdict.

    With thirteen sittings a neighbour stirs in one nearly always, and the interval is trimmed.
    """
    busy = sum(sitting.pressure_percent > _BUSY_PERCENT for sitting in record.sittings)
    return not _is_gpu(record) and busy > len(record.sittings) // _OUTLIER_ONE_IN


def _is_busy(record: BenchRecord) -> bool:
    return not _is_gpu(record) and any(
        sitting.pressure_percent > _BUSY_PERCENT for sitting in record.sittings
    )


def _is_gpu(record: BenchRecord) -> bool:
    return record.environment.arch.startswith("sm_")


def _clock(record: BenchRecord, against: str) -> Clock:
    """Return processor time for one thread, and wall time otherwise.

    Both are taken of every token. Waking and stopping a process is in the wall time of a token
    and sticks to the process: between sittings of identical code it spread 3.1 % where processor
    time spread 1.5 % (two shared cores, softmax over its four shapes).
    """
    is_wanted = record.plan.threads == 1 and not _is_gpu(record)
    return "cpu" if is_wanted and _has_cpu_times(record, against) else "wall"


def _agreed(comparison: Comparison, record: BenchRecord, against: str, basis: Basis) -> Comparison:
    """Withdraw a verdict by processor time that the wall contradicts.

    Time that a candidate spends waiting is on no processor's clock.
    """
    if comparison.verdict not in {Verdict.FASTER, Verdict.SLOWER}:
        return comparison
    wall = _whole(record, _samples(record, against, "wall", basis)).values.mean()
    if (wall > 0) == (comparison.verdict is Verdict.FASTER):
        return comparison
    return comparison.model_copy(update={"verdict": Verdict.AMBIGUOUS})


def _has_cpu_times(record: BenchRecord, against: str) -> bool:
    return all(
        min(times, default=0.0) > 0
        for sitting in record.sittings
        for series in sitting.series
        if series.against == against
        for times in (series.candidate_cpu_us, series.against_cpu_us)
    )


def _margin(record: BenchRecord, overall: _Sample) -> float:
    if _is_gpu(record):
        return next(m for least, m in _GPU_MARGINS if overall.against_us >= least)
    return _BUSY_MARGIN if _is_shared(record) else _QUIET_MARGIN


def _public_weights(record: BenchRecord) -> dict[str, float]:
    public = {w.name: w.weight for w in record.workloads if w.visibility == "public"}
    if not public:
        msg = f"record {record.record_id} has no public workload; add one to the target"
        raise ValueError(msg)
    total = sum(public.values())
    return {name: weight / total for name, weight in public.items()}


def _series(record: BenchRecord, sitting: Sitting, against: str, workload: str) -> Series:
    for series in sitting.series:
        if series.against == against and series.workload == workload and series.candidate_us:
            return series
    known = sorted({series.against for series in sitting.series})
    msg = (
        f"sitting {sitting.index} of record {record.record_id} has no pairs of workload "
        f"{workload!r} against {against!r}; it has pairs against {known}"
    )
    raise ValueError(msg)


def _times(series: Series, clock: Clock) -> tuple[Numbers, Numbers]:
    """Return (candidate, contender) times of the pairs."""
    if clock == "cpu":
        return np.asarray(series.candidate_cpu_us), np.asarray(series.against_cpu_us)
    return np.asarray(series.candidate_us), np.asarray(series.against_us)


def _ratios(candidate: Numbers, against: Numbers) -> Numbers:
    """Return the pairs' log-ratios; where only the candidate has two modes, of the slower one."""
    ratios = np.log(against) - np.log(candidate)
    slower = _slower_pairs(candidate, against)
    return np.asarray(ratios if slower is None else ratios[slower])


def _slower_pairs(candidate: Numbers, against: Numbers) -> NDArray[np.bool_] | None:
    slower = slower_mode(candidate)
    return None if slower is None or slower_mode(against) is not None else slower


def _samples(record: BenchRecord, against: str, clock: Clock, basis: Basis) -> dict[str, _Sample]:
    """Return a sample for each public workload, in the record's order."""
    samples = {}
    for workload in _public_weights(record):
        pairs = [
            _times(_series(record, sitting, against, workload), clock)
            for sitting in record.sittings
        ]
        ratios = [_ratios(candidate, contender) for candidate, contender in pairs]
        resamples = np.empty(0)
        if basis == "feedback":
            drawn = [bootstrap_medians(r, resamples=_RESAMPLES) for r in ratios]
            resamples = np.mean(drawn, axis=0)
        samples[workload] = _Sample(
            values=np.array([median(r) for r in ratios]),
            resamples=resamples,
            candidate_us=median(np.concatenate([candidate for candidate, _ in pairs])),
            against_us=median(np.concatenate([contender for _, contender in pairs])),
        )
    return samples


def _whole(record: BenchRecord, samples: dict[str, _Sample]) -> _Sample:
    """Return the weighted geometric mean over the workloads."""
    weights = _public_weights(record)
    return _Sample(
        values=np.sum([weights[name] * s.values for name, s in samples.items()], axis=0),
        resamples=np.sum([weights[name] * s.resamples for name, s in samples.items()], axis=0),
        candidate_us=_geometric({name: s.candidate_us for name, s in samples.items()}, weights),
        against_us=_geometric({name: s.against_us for name, s in samples.items()}, weights),
    )


def _geometric(times_us: dict[str, float], weights: dict[str, float]) -> float:
    return math.exp(sum(weights[name] * math.log(time) for name, time in times_us.items()))


def _interval(sample: _Sample, basis: Basis, level: float) -> tuple[float, float, float]:
    """Return (estimate, low, high) as log-ratios; each end is one-sided at the level."""
    if basis == "feedback":
        low, high = np.quantile(sample.resamples, [level, 1.0 - level])
        return float(sample.values.mean()), float(low), float(high)
    values = np.sort(sample.values)
    return t_interval(values[1:-1] if values.size >= _TRIMMED_FROM else values, level=level)


def _comparison(sample: _Sample, rule: _Rule) -> Comparison:
    centre, low, high = _interval(sample, rule.basis, rule.level)
    return Comparison(
        verdict=_verdict(sample.values, low, high, rule),
        speedup=math.exp(centre),
        low=math.exp(low),
        high=math.exp(high),
        candidate_us=sample.candidate_us,
        against_us=sample.against_us,
    )


def _verdict(values: Numbers, low: float, high: float, rule: _Rule) -> Verdict:
    limit = math.log1p(rule.margin)
    most = values.size - max(1, values.size // _OUTLIER_ONE_IN)
    if not rule.is_rankable:
        return Verdict.AMBIGUOUS
    if low > limit and np.count_nonzero(values > limit) >= most:
        return Verdict.FASTER
    if high < -limit and np.count_nonzero(values < -limit) >= most:
        return Verdict.SLOWER
    if -limit <= low and high <= limit:
        return Verdict.SAME
    return Verdict.AMBIGUOUS


def _is_noisy(times_us: Sequence[float] | Numbers) -> bool:
    return quantile(times_us, 0.9) > _NOISY_SPREAD * quantile(times_us, 0.5)


def _noise(record: BenchRecord, against: str, clock: Clock) -> tuple[str, ...]:
    """Say in words what disturbed the measurement."""
    words = []
    pressure = max(sitting.pressure_percent for sitting in record.sittings)
    if _is_busy(record):
        text = (
            f"others used up to {pressure:.0f} % of the processors (quiet: {_BUSY_PERCENT:.0f} %)"
        )
        if record.plan.threads > 1:
            text += f": {record.plan.threads} threads are not ranked on a busy machine; free it"
        elif clock == "wall":
            text += ": no processor times were recorded, wall time ranks"
        words.append(text)
    for sitting in record.sittings:
        for workload in _public_weights(record):
            times = _times(_series(record, sitting, against, workload), clock)
            where = f"{workload}, sitting {sitting.index}"
            if _slower_pairs(*times) is not None:
                words.append(f"{where}: the candidate has two modes, the slower one counts")
            elif _is_noisy(times[0]):
                words.append(f"{where}: the candidate's 90th percentile is over 1.5 medians")
    return tuple(words)
