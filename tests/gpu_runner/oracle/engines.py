"""What laws that hold on both engines, numpy and torch, have in common."""

from hypothesis import HealthCheck, settings

from gpu_runner.problem import DType

FLOATS = tuple(t for t in DType if t.is_float)
NARROW = (DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16)


def on_each_engine(examples: int) -> settings:
    """A method inherited by the tests of two engines has two executors, and is meant to."""
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.differing_executors],
    )
