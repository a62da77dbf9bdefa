"""Elements as tensors: every DType to float64 and back, and the way to the host's raw arrays."""

from typing import Final

import numpy as np
import torch
from torch import Tensor

from gpu_runner.oracle.elements import Raw, expect_raw, integer_range
from gpu_runner.problem import DType

_TORCH: Final = {
    DType.FLOAT64: torch.float64,
    DType.FLOAT32: torch.float32,
    DType.FLOAT16: torch.float16,
    DType.BFLOAT16: torch.bfloat16,
    DType.INT64: torch.int64,
    DType.INT32: torch.int32,
    DType.INT8: torch.int8,
    DType.UINT8: torch.uint8,
    DType.BOOL: torch.bool,
}
_BITS: Final = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def torch_dtype(dtype: DType) -> torch.dtype:
    """Return the torch type of a tensor's elements."""
    return _TORCH[dtype]


def as_float64(values: Tensor, dtype: DType) -> Tensor:
    """Return the numbers that elements stand for, always as a new contiguous tensor.

    A bool byte other than 0 and 1 keeps its value, and so differs from both.

    Raises:
        ValueError: the tensor is not of the type.
    """
    expect_elements(values, dtype)
    if dtype is DType.BOOL:
        values = values.view(torch.uint8)
    return values.to(torch.float64, memory_format=torch.contiguous_format, copy=True)


def from_numbers(values: Tensor, dtype: DType) -> Tensor:
    """Round numbers to a type, to nearest even.

    From float64 to a 16-bit float torch rounds twice, by way of float32: one element in 2**29 may
    land on the other neighbour. Integers are clipped and a NaN becomes 0; bool is `value != 0`.
    """
    if dtype is DType.BOOL:
        return values != 0
    if dtype.is_float:
        return values.to(_TORCH[dtype])
    low, high = integer_range(dtype)
    whole = values.to(torch.float64).nan_to_num(nan=0.0).round()
    # The greatest int64 is no float64; what reaches it is set after the conversion.
    exact = whole.clamp(float(low), float(np.nextafter(float(high), 0.0))).to(_TORCH[dtype])
    return torch.where(whole >= float(high), high, exact).to(_TORCH[dtype])


def bits_of(values: Tensor) -> Tensor:
    """Return a view of floats as signed integers of their size."""
    return values.view(_BITS[values.element_size()])


def to_raw(values: Tensor, dtype: DType) -> Raw:
    """Copy a tensor to the host, as the raw array that the host's oracle reads."""
    expect_elements(values, dtype)
    host = values.detach().contiguous().cpu()
    if dtype is DType.BFLOAT16:
        host = host.view(torch.uint16)
    return np.array(host.numpy())


def from_raw(raw: Raw, dtype: DType, device: str | torch.device) -> Tensor:
    """Copy a raw array of the host to a tensor on a device."""
    expect_raw(raw, dtype)
    values = torch.from_numpy(np.array(raw))
    if dtype is DType.BFLOAT16:
        values = values.view(torch.bfloat16)
    return values.to(device)


def expect_elements(values: Tensor, dtype: DType) -> None:
    """Refuse a tensor of another type.

    Raises:
        ValueError: names both types.
    """
    if values.dtype != _TORCH[dtype]:
        msg = f"a {dtype.value} tensor has the torch type {_TORCH[dtype]}, not {values.dtype}"
        raise ValueError(msg)
