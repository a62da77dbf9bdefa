"""The laws of both oracles stand here; their assertions explain themselves like those of tests."""

import pytest

pytest.register_assert_rewrite(
    "tests.gpu_runner.oracle.laws_compare",
    "tests.gpu_runner.oracle.laws_near_duplicates",
    "tests.gpu_runner.oracle.laws_profiles",
)
