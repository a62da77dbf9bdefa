import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gpu_runner.device.torch_elements import (
    as_float64,
    bits_of,
    expect_elements,
    from_numbers,
    from_raw,
    to_raw,
    torch_dtype,
)
from gpu_runner.oracle import elements as host
from gpu_runner.problem import DType

SPECIAL = np.array([0.0, -0.0, 1.0, -2.5, np.nan, np.inf, -np.inf, 65504.0, 1e-7, 3e38, 1e-45])


@pytest.mark.parametrize("dtype", list(DType))
def test_a_type_has_the_same_name_and_size_in_torch(dtype):
    assert str(torch_dtype(dtype)) == f"torch.{dtype.value}"
    assert torch.empty(1, dtype=torch_dtype(dtype)).element_size() == dtype.item_bytes


@pytest.mark.parametrize("dtype", list(DType))
def test_raw_arrays_survive_the_way_to_a_device_and_back(dtype):
    raw = host.from_float64(np.arange(-3.0, 9.0).reshape(3, 4), dtype)
    tensor = from_raw(raw, dtype, "cpu")
    assert tensor.dtype == torch_dtype(dtype)
    np.testing.assert_array_equal(to_raw(tensor, dtype), raw)


@pytest.mark.parametrize("dtype", [t for t in DType if t.is_float])
def test_special_numbers_are_kept(dtype):
    raw = host.from_float64(SPECIAL, dtype)
    numbers = as_float64(from_raw(raw, dtype, "cpu"), dtype)
    np.testing.assert_array_equal(numbers.numpy(), host.as_float64(raw, dtype))
    np.testing.assert_array_equal(
        np.signbit(numbers.numpy()), np.signbit(host.as_float64(raw, dtype))
    )


@pytest.mark.parametrize("dtype", list(DType))
def test_numbers_never_share_memory_with_elements(dtype):
    values = torch.zeros(4, dtype=torch_dtype(dtype))
    as_float64(values, dtype).fill_(7.0)
    assert not values.any()


def test_numbers_of_a_view_are_contiguous():
    values = torch.arange(12.0).reshape(3, 4).T
    assert as_float64(values, DType.FLOAT32).is_contiguous()


def test_a_bool_byte_that_is_neither_keeps_its_value():
    values = torch.tensor([0, 1, 2, 255], dtype=torch.uint8).view(torch.bool)
    assert as_float64(values, DType.BOOL).tolist() == [0.0, 1.0, 2.0, 255.0]


@pytest.mark.parametrize("convert", [as_float64, to_raw, expect_elements])
def test_a_tensor_of_another_type_is_refused(convert):
    with pytest.raises(ValueError, match=r"float16 tensor has the torch type .*float16, not .*32"):
        convert(torch.zeros(2), DType.FLOAT16)


def test_a_raw_array_of_another_type_is_refused():
    with pytest.raises(ValueError, match="raw bfloat16 array"):
        from_raw(np.zeros(2, np.float32), DType.BFLOAT16, "cpu")


@pytest.mark.parametrize("dtype", [DType.FLOAT64, DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16])
@settings(max_examples=50, deadline=None)
@given(numbers=hnp.arrays(np.float32, 16, elements=st.floats(width=32)))
def test_single_numbers_round_as_on_the_host(dtype, numbers):
    mine = from_numbers(torch.from_numpy(numbers), dtype)
    right = host.from_float64(numbers.astype(np.float64), dtype)
    np.testing.assert_array_equal(
        host.as_float64(to_raw(mine, dtype), dtype), host.as_float64(right, dtype)
    )


@pytest.mark.parametrize("dtype", [t for t in DType if not t.is_float])
@settings(max_examples=50, deadline=None)
@given(
    numbers=hnp.arrays(
        np.float64, 16, elements=st.floats(-1e20, 1e20) | st.sampled_from(list(SPECIAL))
    )
)
def test_whole_numbers_are_clipped_as_on_the_host(dtype, numbers):
    mine = from_numbers(torch.from_numpy(numbers), dtype)
    if dtype is DType.INT64:  # a float64 near the end of the range says too little about it
        numbers = np.clip(numbers, -(2.0**52), 2.0**52)
        mine = mine.clamp(-(2**52), 2**52)
    np.testing.assert_array_equal(to_raw(mine, dtype), host.from_float64(numbers, dtype))


@pytest.mark.parametrize("dtype", [DType.INT8, DType.UINT8, DType.INT32, DType.INT64])
def test_the_ends_of_a_range_are_reached(dtype):
    low, high = host.integer_range(dtype)
    numbers = torch.tensor([-1e30, 1e30], dtype=torch.float64)
    assert from_numbers(numbers, dtype).tolist() == [low, high]


@pytest.mark.parametrize("dtype", [t for t in DType if t.is_float])
def test_bits_are_a_view(dtype):
    values = torch.zeros(3, 5, dtype=torch_dtype(dtype))[:, ::2]
    bits_of(values).fill_(1)
    assert (values.double() == host.smallest_subnormal(dtype)).all()
