"""Measurement records made of ratios, for tests of decisions."""

import numpy as np

from gpu_runner.decision import decide
from gpu_runner.records import BenchRecord, Comparison, Series, Sitting, TimingPlan, Verdict
from tests.builders import make_environment, make_workload

BASE = "torch eager"
DIGEST = "0" * 64
MIRROR = {
    Verdict.FASTER: Verdict.SLOWER,
    Verdict.SLOWER: Verdict.FASTER,
    Verdict.SAME: Verdict.SAME,
    Verdict.AMBIGUOUS: Verdict.AMBIGUOUS,
}


def times(generator, centre: float, pairs: int, noise: float) -> tuple[float, ...]:
    return tuple(centre * np.exp(generator.normal(0, noise, pairs)))


def series_of(
    ratio: float,
    *,
    workload: str = "small",
    pairs: int = 40,
    noise: float = 0.01,
    seed: int = 0,
    centre: float = 100.0,
    cpu_ratio: float | None = None,
) -> Series:
    """Pairs in which the candidate is `ratio` times as fast by the wall, `cpu_ratio` by the cpu."""
    generator = np.random.default_rng([seed, int(ratio * 1e6), len(workload)])
    cpu = ratio if cpu_ratio is None else cpu_ratio
    return Series(
        workload=workload,
        against=BASE,
        slots=1,
        candidate_us=times(generator, centre / ratio, pairs, noise),
        against_us=times(generator, centre, pairs, noise),
        candidate_cpu_us=times(generator, centre / cpu, pairs, noise),
        against_cpu_us=times(generator, centre, pairs, noise),
    )


def sitting_of(index: int, *series: Series, pressure: float = 0.0) -> Sitting:
    return Sitting(
        index=index,
        started_at="2025-01-01T00:00:00Z",
        key_digest=DIGEST,
        pressure_percent=pressure,
        verified_outputs=80,
        series=series,
    )


def record_of(
    *sittings: Sitting, workloads=None, threads: int = 1, arch="x86_64", **plan
) -> BenchRecord:
    return BenchRecord(
        problem_digest=DIGEST,
        candidate_digest=DIGEST,
        against={BASE: DIGEST},
        workloads=workloads or (make_workload(),),
        plan=TimingPlan(threads=threads, **plan),
        environment=make_environment(arch=arch),
        sittings=sittings,
    )


def claim(*ratios: float, pressure: float = 0.0, noise: float = 0.003, **changes) -> BenchRecord:
    """One sitting for each ratio; noise small enough that a sitting's value is its ratio."""
    sittings = (
        sitting_of(i, series_of(r, seed=i, noise=noise), pressure=pressure)
        for i, r in enumerate(ratios)
    )
    return record_of(*sittings, **changes)


def swapped(record: BenchRecord) -> BenchRecord:
    def turn(series: Series) -> Series:
        return series.model_copy(
            update={
                "candidate_us": series.against_us,
                "against_us": series.candidate_us,
                "candidate_cpu_us": series.against_cpu_us,
                "against_cpu_us": series.candidate_cpu_us,
            }
        )

    sittings = tuple(
        s.model_copy(update={"series": tuple(turn(x) for x in s.series)}) for s in record.sittings
    )
    return record.model_copy(update={"sittings": sittings})


def overall(record: BenchRecord, basis="claim", **more) -> Comparison:
    return decide(record, BASE, basis=basis, **more).overall


def with_candidate_times(record: BenchRecord, change) -> BenchRecord:
    sittings = tuple(
        s.model_copy(
            update={
                "series": tuple(
                    x.model_copy(
                        update={
                            "candidate_us": change(np.array(x.candidate_us)),
                            "candidate_cpu_us": change(np.array(x.candidate_cpu_us)),
                        }
                    )
                    for x in s.series
                )
            }
        )
        for s in record.sittings
    )
    return record.model_copy(update={"sittings": sittings})


def mixed(*, weights=(3.0, 1.0), ratios=(1.2, 0.9), sittings: int = 5, hidden: bool = False):
    workloads = (
        make_workload(name="a", weight=weights[0]),
        make_workload(name="bb", weight=weights[1]),
        *([make_workload(name="ccc", visibility="hidden", weight=100)] if hidden else []),
    )
    return record_of(
        *(
            sitting_of(
                i,
                series_of(ratios[0], workload="a", seed=i, noise=0.002, centre=100),
                series_of(ratios[1], workload="bb", seed=i, noise=0.002, centre=10_000),
            )
            for i in range(sittings)
        ),
        workloads=workloads,
    )


def two_clocks(*, wall: float, cpu: float, pressure: float, **changes) -> BenchRecord:
    return record_of(
        *(
            sitting_of(i, series_of(wall, cpu_ratio=cpu, seed=i, noise=0.003), pressure=pressure)
            for i in range(5)
        ),
        **changes,
    )
