import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.problem import DType, Tensor
from gpu_runner.profiling.roofline import MOST_SAMPLES, Ceilings, ceilings, place_below
from tests.builders import make_problem, make_workload

FIGURES = st.floats(1e6, 1e14)


def make_ceilings(**changes):
    values = {
        "bandwidth_bytes_per_s": 1e10,
        "float32_flops_per_s": 1e11,
        "float64_flops_per_s": 5e10,
        "int8_flops_per_s": 4e11,
    }
    return Ceilings(**{**values, **changes})


def with_inputs(*dtypes):
    tensors = (Tensor(name=f"x{i}", shape=("B", "N"), dtype=d) for i, d in enumerate(dtypes))
    return make_problem(inputs=tuple(tensors))


def test_memory_bound_workload():
    # 8 x 128 float32 in and out: 8192 bytes, 8192 operations.
    below = place_below(make_problem(), make_workload(), 1.6384, make_ceilings())
    assert below.required_bytes == 8192
    assert below.required_flops == 8192.0
    assert below.floor_us == pytest.approx(0.8192)
    assert below.fraction_reached == pytest.approx(0.5)
    assert below.bound == "memory"


def test_compute_bound_workload():
    problem = make_problem(flops="1000 * B * N")
    below = place_below(problem, make_workload(), 20.48, make_ceilings())
    assert below.floor_us == pytest.approx(10.24)
    assert below.bound == "compute"


def test_far_below_both_ceilings_is_latency():
    below = place_below(make_problem(), make_workload(), 8.192, make_ceilings())
    assert below.fraction_reached == pytest.approx(0.1)
    assert below.bound == "latency"


@given(FIGURES, FIGURES, st.floats(1e-3, 1e9))
def test_floor_is_the_larger_of_both_times(bandwidth, peak, time_us):
    limits = make_ceilings(bandwidth_bytes_per_s=bandwidth, float32_flops_per_s=peak)
    below = place_below(make_problem(), make_workload(), time_us, limits)
    assert below.floor_us == pytest.approx(max(8192e6 / bandwidth, 8192e6 / peak))
    assert below.fraction_reached * below.time_us == pytest.approx(below.floor_us)


@pytest.mark.parametrize(
    ("dtypes", "peak"),
    [
        ((DType.FLOAT32,), 1e11),
        ((DType.FLOAT64, DType.FLOAT32), 5e10),
        ((DType.INT8, DType.FLOAT32), 4e11),
        ((DType.BFLOAT16,), 2e11),
        ((DType.FLOAT16, DType.FLOAT32), 1e11),
        ((DType.INT32,), 1e11),
    ],
)
def test_peak_is_that_of_the_type_computed_in(dtypes, peak):
    assert make_ceilings().peak(with_inputs(*dtypes)) == peak


@given(FIGURES, FIGURES)
def test_merged_ceilings_are_the_best_of_both(left, right):
    one, other = (make_ceilings(bandwidth_bytes_per_s=value) for value in (left, right))
    merged = one.merged(other)
    assert merged.bandwidth_bytes_per_s == max(left, right)
    assert merged.samples == 2
    assert merged == other.merged(one)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return tmp_path_factory.mktemp("workspace")


def kept(workspace):
    return sorted((workspace / "cache" / "ceilings").glob("*.json"))


@pytest.mark.timed
def test_ceilings_are_measured_a_few_times_and_then_kept(workspace):
    first = ceilings(100_000, threads=1, workspace=workspace)
    assert first.samples == 1
    assert all(value > 1e6 for name, value in first if name != "samples")

    found = [ceilings(100_000, threads=1, workspace=workspace) for _ in range(MOST_SAMPLES)]
    assert [f.samples for f in found] == [2, 3, 3]
    assert found[-1].bandwidth_bytes_per_s >= first.bandwidth_bytes_per_s
    assert found[-1] == found[-2]
    assert len(kept(workspace)) == 1


@pytest.mark.timed
def test_sizes_of_one_class_share_their_figures_and_damage_is_measured_again(workspace):
    ceilings(1 << 16, threads=1, workspace=workspace)
    ceilings((1 << 17) - 1, threads=1, workspace=workspace)
    (place,) = kept(workspace)
    assert json.loads(place.read_text())["samples"] == MOST_SAMPLES

    place.write_text("{")
    assert ceilings(1 << 16, threads=1, workspace=workspace).samples == 1
    ceilings(1 << 18, threads=1, workspace=workspace)
    assert len(kept(workspace)) == 2
