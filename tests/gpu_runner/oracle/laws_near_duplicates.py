"""What near-duplicates of contents must be, whatever engine draws them."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.oracle.elements import Raw, as_float64, from_float64, largest_finite
from gpu_runner.problem import (
    DType,
    InputRule,
    Problem,
    ProfileName,
    Tensor,
    Tolerance,
    Workload,
)
from tests.builders import make_problem, make_workload
from tests.gpu_runner.oracle.drawn import (
    MAXIMUM,
    linear_problem,
    linear_workload,
    moved,
    one_input,
)
from tests.gpu_runner.oracle.engines import FLOATS, NARROW, on_each_engine

Values = Mapping[str, Any]
"""Inputs by name, as the engine holds them."""


def changed(before: Raw, after: Raw) -> np.ndarray:
    """Which elements differ in their bits."""
    bits = f"u{before.dtype.itemsize}"
    return np.asarray(before.view(bits) != after.view(bits))


class NearDuplicateLaws(ABC):
    """Binds to an engine by four questions; the laws look at raw arrays."""

    @abstractmethod
    def filled(
        self,
        problem: Problem,
        workload: Workload,
        *,
        call: int = 0,
        profile: ProfileName | None = None,
    ) -> Values: ...

    @abstractmethod
    def perturb(
        self, problem: Problem, workload: Workload, source: Values, into: Values, *, call: int
    ) -> None: ...

    @abstractmethod
    def lent(self, problem: Problem, raw: Mapping[str, Raw]) -> Values:
        """Copy raw arrays to where the engine holds values."""

    @abstractmethod
    def raw(self, problem: Problem, values: Values) -> dict[str, Raw]:
        """Copy what the engine holds."""

    def pair(
        self,
        problem: Problem,
        workload: Workload,
        *,
        call: int = 0,
        profile: ProfileName | None = None,
    ) -> tuple[dict[str, Raw], dict[str, Raw]]:
        """Contents and a near-duplicate of them."""
        source = self.filled(problem, workload, call=call, profile=profile)
        return self.raw(problem, source), self.near(problem, workload, source, call=call)

    def near(
        self, problem: Problem, workload: Workload, source: Values, *, call: int
    ) -> dict[str, Raw]:
        shapes = {name: np.zeros_like(values) for name, values in self.raw(problem, source).items()}
        into = self.lent(problem, shapes)
        self.perturb(problem, workload, source, into, call=call)
        return self.raw(problem, into)

    @pytest.mark.parametrize("dtype", NARROW)
    def test_a_near_duplicate_differs_in_one_element_or_one_row(self, dtype):
        problem, workload = one_input(dtype), make_workload()
        source = self.filled(problem, workload)
        before = self.raw(problem, source)["x"]
        kinds = set()
        for call in range(40):
            is_changed = changed(before, self.near(problem, workload, source, call=call)["x"])
            assert is_changed.any(axis=1).sum() == 1
            count = int(is_changed.sum())
            kinds.add("element" if count == 1 else "row")
            assert count == 1 or count > (127 if dtype is DType.FLOAT32 else 100)
        assert kinds == {"element", "row"}

    def test_places_of_near_duplicates_are_spread_and_repeatable(self):
        problem, workload = make_problem(), make_workload()
        source = self.filled(problem, workload)
        before = self.raw(problem, source)["x"]
        places = []
        for call in range(60):
            once, twice = (self.near(problem, workload, source, call=call)["x"] for _ in range(2))
            np.testing.assert_array_equal(once, twice)
            places.append(int(np.argmax(changed(before, once).any(axis=1))))
        assert set(places) == set(range(8))

    def test_the_source_is_not_modified_and_may_be_the_target(self):
        problem, workload = make_problem(), make_workload()
        source = self.filled(problem, workload)
        before = self.raw(problem, source)["x"]
        apart = self.near(problem, workload, source, call=3)["x"]
        np.testing.assert_array_equal(self.raw(problem, source)["x"], before)
        self.perturb(problem, workload, source, source, call=3)
        np.testing.assert_array_equal(self.raw(problem, source)["x"], apart)
        assert changed(before, apart).any()

    def test_only_activations_are_changed(self):
        problem, workload = linear_problem(), linear_workload()
        source = self.filled(problem, workload)
        before = self.raw(problem, source)
        for call in range(20):
            after = self.near(problem, workload, source, call=call)
            assert {n for n in after if changed(before[n], after[n]).any()} == {"x"}

    def test_parameters_are_changed_where_there_is_no_activation(self):
        rules = tuple(InputRule(input=n, role="parameter", low=-2, high=3) for n in ("x", "w", "b"))
        problem, workload = linear_problem(rules=rules), linear_workload()
        source = self.filled(problem, workload)
        before = self.raw(problem, source)
        seen: set[str] = set()
        for call in range(40):
            after = self.near(problem, workload, source, call=call)
            seen.update(n for n in after if changed(before[n], after[n]).any())
        assert seen == {"x", "w", "b"}

    def test_inputs_with_a_single_value_are_left_alone(self):
        problem = one_input(DType.INT8, InputRule(input="x", low=4, high=4))
        before, after = self.pair(problem, make_workload(), call=1)
        np.testing.assert_array_equal(after["x"], before["x"])

    @pytest.mark.parametrize("profile", list(ProfileName))
    @pytest.mark.parametrize("dtype", FLOATS)
    def test_every_profile_has_finite_near_duplicates(self, profile, dtype):
        problem, workload = one_input(dtype), make_workload()
        source = self.filled(problem, workload, profile=profile)
        before = self.raw(problem, source)["x"]
        for call in range(6):
            after = self.near(problem, workload, source, call=call)["x"]
            is_changed = changed(before, after)
            assert is_changed.any()
            assert np.isfinite(as_float64(after, dtype)[is_changed]).all()

    @pytest.mark.parametrize("profile", list(ProfileName))
    @pytest.mark.parametrize("dtype", FLOATS)
    def test_a_near_duplicate_is_never_its_source(self, profile, dtype):
        problem, workload = one_input(dtype), make_workload(axes={"B": 3, "N": 2})
        for call in range(20):
            before, after = self.pair(problem, workload, call=call, profile=profile)
            is_changed = changed(before["x"], after["x"])
            assert 1 <= is_changed.sum() <= 2
            assert np.isfinite(as_float64(after["x"], dtype)[is_changed]).all()

    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, "top"])
    def test_rows_of_any_one_value_are_changed_to_finite_ones(self, dtype, value):
        problem, workload = one_input(dtype), make_workload(axes={"B": 2, "N": 3})
        number = largest_finite(dtype) if value == "top" else value
        before = {"x": from_float64(np.full((2, 3), number), dtype)}
        source = self.lent(problem, before)
        for call in range(10):
            after = self.near(problem, workload, source, call=call)["x"]
            is_changed = changed(before["x"], after)
            assert is_changed.any()
            numbers = as_float64(after, dtype)[is_changed]
            assert np.isfinite(numbers).all()
            assert (numbers != number).all()

    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize("flaw", [math.inf, -math.inf, math.nan])
    def test_what_is_no_number_does_not_set_the_size_of_a_change(self, dtype, flaw):
        problem, workload = one_input(dtype), make_workload(axes={"B": 1, "N": 8})
        before = {"x": from_float64(np.array([[1.0] * 7 + [flaw]]), dtype)}
        source = self.lent(problem, before)
        for call in range(20):
            after = self.near(problem, workload, source, call=call)["x"]
            sizes = np.abs(as_float64(after, dtype)[changed(before["x"], after)])
            assert 1.25 <= sizes.max() < 3 * 6  # a spread of one, thrice, and six sigmas

    @on_each_engine(60)
    @given(
        call=st.integers(0, 10**6),
        rows=st.integers(1, 9),
        length=st.integers(2, 300),
        dtype=st.sampled_from(NARROW),
    )
    def test_a_near_duplicate_changes_a_softmax_far_beyond_its_bound(
        self, call, rows, length, dtype
    ):
        tensors = [Tensor(name=n, shape=("B", "N"), dtype=dtype) for n in ("x", "y")]
        problem = make_problem(inputs=(tensors[0],), outputs=(tensors[1],))
        workload = make_workload(axes={"B": rows, "N": length})
        before, after = self.pair(problem, workload, call=call)
        assert moved(problem, workload, before, after) > (100 if dtype is DType.FLOAT32 else 10)

    @on_each_engine(40)
    @given(call=st.integers(0, 10**6), inner=st.integers(1, 500))
    def test_a_near_duplicate_changes_a_product_far_beyond_its_bound(self, call, inner):
        problem = linear_problem()
        workload = linear_workload(axes={"M": 4, "N": 6, "K": inner})
        before, after = self.pair(problem, workload, call=call)
        assert moved(problem, workload, before, after) > 100

    @on_each_engine(40)
    @given(call=st.integers(0, 10**6))
    def test_a_near_duplicate_crosses_the_corner_of_a_relu(self, call):
        """A change that stays on the flat side would not be seen."""
        problem, workload = one_input(DType.FLOAT32), make_workload()
        before, after = self.pair(problem, workload, call=call)
        assert moved(problem, workload, before, after) > 100

    def test_about_half_of_near_duplicates_move_a_maximum(self):
        output = Tensor(name="y", shape=("B",), dtype=DType.FLOAT32)
        problem, workload = make_problem(outputs=(output,), reference=MAXIMUM), make_workload()
        source = self.filled(problem, workload)
        before = self.raw(problem, source)
        afters = [self.near(problem, workload, source, call=call) for call in range(40)]
        seen = [moved(problem, workload, before, after) > 100 for after in afters]
        assert 15 <= sum(seen) <= 40

    @on_each_engine(60)
    @given(call=st.integers(0, 10**6), low=st.integers(-128, 126), span=st.integers(1, 255))
    def test_a_near_duplicate_of_whole_numbers_stays_in_range_and_differs(self, call, low, span):
        high = min(low + span, 127)
        problem = one_input(DType.INT8, InputRule(input="x", low=low, high=high))
        workload = make_workload(axes={"B": 3, "N": 5})
        before, after = self.pair(problem, workload, call=call)
        assert after["x"].min() >= low
        assert after["x"].max() <= high
        assert changed(before["x"], after["x"]).sum() in {1, 5}

    def test_a_flipped_bool_is_a_near_duplicate(self):
        before, after = self.pair(one_input(DType.BOOL), make_workload(), call=1)
        assert changed(before["x"], after["x"]).sum() in {1, 128}

    def test_a_tolerance_does_not_influence_contents(self):
        loose = make_problem(tolerance=Tolerance(relative_units=100))
        plain = make_problem()
        np.testing.assert_array_equal(
            self.raw(loose, self.filled(loose, make_workload()))["x"],
            self.raw(plain, self.filled(plain, make_workload()))["x"],
        )
