"""torch tensors over device memory that this process did not get from torch."""

from collections.abc import Sequence
from typing import Any

import torch

from gpu_runner.device.placement import Placement
from gpu_runner.device.serving import Memory
from gpu_runner.device.torch_elements import torch_dtype
from gpu_runner.problem import Problem, Tensor


class _Bytes:
    """Names memory to torch by the protocol that CUDA arrays share."""

    def __init__(self, address: int, count: int) -> None:
        self.__cuda_array_interface__: dict[str, Any] = {
            "shape": (count,),
            "typestr": "|u1",
            "data": (address, False),
            "version": 2,
        }


def bytes_at(address: int, count: int) -> torch.Tensor:
    """Return a view of device memory as bytes; torch neither owns nor frees it."""
    if count == 0:
        return torch.empty(0, dtype=torch.uint8, device="cuda")
    return torch.as_tensor(_Bytes(address, count), device="cuda")


def mapped(memory: Memory, problem: Problem) -> list["SlotTensors"]:
    """Return the tensors of every placement of this process."""
    found = []
    for place, placement in enumerate(memory.placements):
        slabs = [
            bytes_at(memory.base(place, index), slab.bytes)
            for index, slab in enumerate(placement.slabs)
        ]
        found.append(SlotTensors(problem, placement, slabs))
    return found


class SlotTensors:
    """One placement's memory as tensors: single slots, and all slots of a tensor at once."""

    def __init__(
        self, problem: Problem, placement: Placement, slabs: Sequence[torch.Tensor]
    ) -> None:
        """Look at one placement's slabs, given as bytes."""
        self.placement = placement
        self.slabs = tuple(slabs)
        self._problem = problem

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        """Every input as [slots, *shape]; every slot contiguous."""
        return {t.name: self._stacked(t) for t in self._problem.inputs}

    @property
    def outputs(self) -> dict[str, torch.Tensor]:
        """Every output as [slots, *shape]; every slot contiguous."""
        return {t.name: self._stacked(t) for t in self._problem.outputs}

    def each(self, stacked: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        """Part stacked tensors into one mapping a slot."""
        return [
            {name: values[slot] for name, values in stacked.items()}
            for slot in range(self.placement.slots)
        ]

    def _stacked(self, tensor: Tensor) -> torch.Tensor:
        spots = [slot[tensor.name] for slot in self.placement.spots]
        item = tensor.dtype.item_bytes
        shape = self._problem.shape(tensor, self.placement.workload)
        elements = self.slabs[spots[0].slab].view(torch_dtype(tensor.dtype))
        strides = []
        step = 1
        for size in reversed(shape):
            strides.append(step)
            step *= size
        between = (spots[1].offset - spots[0].offset) // item if len(spots) > 1 else step
        return elements.as_strided(
            (len(spots), *shape), (between, *reversed(strides)), spots[0].offset // item
        )
