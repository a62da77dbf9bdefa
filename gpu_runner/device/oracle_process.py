"""The oracle: the process that owns all memory of a job, draws contents and judges outputs.

`python -m gpu_runner.device.oracle_process DESCRIPTOR`, or forked from the zygote. No kernel of a
candidate ever runs in its context: right answers, keys and verdicts lie where nothing that is
measured can look. The answers to a call are computed while no side runs.
"""

import json
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch

from gpu_runner.channel import Message
from gpu_runner.device import marks
from gpu_runner.device.driver import call
from gpu_runner.device.serving import Handler, Memory, serve
from gpu_runner.device.tensors import SlotTensors, mapped
from gpu_runner.device.torch_compare import DeviceExpected
from gpu_runner.device.torch_elements import from_raw, to_raw
from gpu_runner.device.torch_oracle import TorchOracle
from gpu_runner.message import digest_of
from gpu_runner.oracle.elements import numpy_dtype
from gpu_runner.problem import Problem, ProfileName

_COPY_BYTES: Final = 2 << 30
_COPIES: Final = 8


class OracleHost:
    """Answers the supervisor's questions about contents and outputs."""

    def __init__(
        self, problem: Problem, tensors: Sequence[SlotTensors], device: str = "cuda"
    ) -> None:
        """Draw a secret key; it never leaves this process."""
        self._problem = problem
        self._device = device
        self._key = secrets.token_bytes(16)
        self._oracle = TorchOracle(problem, device, self._key)
        self._tensors = tuple(tensors)
        self._expected: dict[int, DeviceExpected] = {}
        self._kept: dict[int, dict[str, torch.Tensor]] = {}
        self._pattern = marks.POISONS[0]

    def handlers(self) -> dict[str, Handler]:
        """Return what may be asked."""
        names = ("renew", "stage", "poison", "judge", "trusted_rms", "keep", "same", "put", "get")
        return {name: getattr(self, name) for name in names} | {"copy_rate": _copy_rate}

    def renew(self, _message: Message) -> Message:
        """Take a new key: a new sitting."""
        self._key = secrets.token_bytes(16)
        self._oracle = TorchOracle(self._problem, self._device, self._key)
        self._expected.clear()
        return {"key_digest": digest_of(self._key)}

    def stage(self, message: Message) -> Message:
        """Give every slot of a place new contents, and compute what is right."""
        place, call = int(message["place"]), int(message["call"])
        tensors = self._tensors[place]
        workload = tensors.placement.workload
        inputs = tensors.inputs
        each = tensors.each(inputs)
        if message["near"]:
            for slot, one in enumerate(each):
                self._oracle.perturb(workload, one, one, call=call * len(each) + slot)
        else:
            profile = ProfileName(message["profile"]) if message.get("profile") else None
            self._oracle.fill_slots(workload, each, call=call, profile=profile, stacked=inputs)
        self._expect(place)
        self._settle()
        return {}

    def poison(self, message: Message) -> Message:
        """Fill outputs and guards with one of two patterns."""
        self._pattern = marks.POISONS[int(message["index"])]
        marks.poison(self._tensors[int(message["place"])], self._pattern)
        self._settle()
        return {}

    def judge(self, message: Message) -> Message:
        """Judge what lies in the outputs of all slots of a place, or of the first `slots`."""
        place = int(message["place"])
        tensors = self._tensors[place]
        guard = marks.broken_guard(tensors, self._problem, self._pattern)
        if guard:
            return {"guard": guard}
        outputs = tensors.outputs
        each = tensors.each(outputs)
        judgements = self._oracle.judge_slots(
            self._expected[place],
            each,
            case=str(message["case"]),
            is_hidden=bool(message["hidden"]),
            stacked=outputs,
        )
        wrong = next((j.mismatch for j in judgements if j.mismatch is not None), None)
        if wrong is not None:
            left = marks.unwritten(tensors, self._problem, self._pattern)
            return {"mismatch": wrong.model_dump(mode="json"), "unwritten": left}
        worst = max(judgement.worst_error for judgement in judgements)
        return {"worst": worst, "rms": judgements[0].rms, "outputs": len(judgements)}

    def trusted_rms(self, message: Message) -> Message:
        """Return the error of the reference in the tensors' own precision, first slot."""
        place = int(message["place"])
        tensors = self._tensors[place]
        first = {name: stacked[0] for name, stacked in tensors.inputs.items()}
        expected = self._expected[place]
        single = DeviceExpected(
            outputs={name: values[0] for name, values in expected.outputs.items()},
            bounds={name: values[0] for name, values in expected.bounds.items()},
        )
        return {"rms": self._oracle.same_precision_rms(tensors.placement.workload, first, single)}

    def keep(self, message: Message) -> Message:
        """Remember the outputs of a place as they are."""
        place = int(message["place"])
        self._kept[place] = {n: v.clone() for n, v in self._tensors[place].outputs.items()}
        return {}

    def same(self, message: Message) -> Message:
        """Return which output differs in any bit from what was kept, or nothing."""
        place = int(message["place"])
        kept = self._kept.pop(place)
        for name, values in self._tensors[place].outputs.items():
            ours, theirs = values.contiguous().view(torch.uint8), kept[name].view(torch.uint8)
            if not torch.equal(ours, theirs):
                return {"differs": name}
        return {"differs": ""}

    def put(self, message: Message) -> Message:
        """Take the inputs of the first slot from raw files of the host."""
        place = int(message["place"])
        tensors = self._tensors[place]
        for tensor in self._problem.inputs:
            path = Path(str(message["folder"])) / tensor.name
            shape = self._problem.shape(tensor, tensors.placement.workload)
            raw = np.fromfile(path, dtype=numpy_dtype(tensor.dtype)).reshape(shape)
            tensors.inputs[tensor.name][0].copy_(from_raw(raw, tensor.dtype, self._device))
        self._settle()
        return {}

    def get(self, message: Message) -> Message:
        """Write the outputs of the first slot to raw files of the host."""
        place = int(message["place"])
        for tensor in self._problem.outputs:
            values = self._tensors[place].outputs[tensor.name][0]
            to_raw(values, tensor.dtype).tofile(Path(str(message["folder"])) / tensor.name)
        return {}

    def _settle(self) -> None:
        """Wait for the device: whatever comes next is another process's."""
        if self._device == "cuda":
            torch.cuda.synchronize()

    def _expect(self, place: int) -> None:
        tensors = self._tensors[place]
        inputs = tensors.inputs
        self._expected[place] = self._oracle.expect_slots(
            tensors.placement.workload, tensors.each(inputs), stacked=inputs
        )


def _copy_rate(_message: Message) -> Message:
    """Return the best device-to-device rate of several copies, bytes read plus written a second."""
    events = [call("cuEventCreate", 0) for _ in range(2)]
    source, target = (int(call("cuMemAlloc", _COPY_BYTES)) for _ in range(2))
    best = 0.0
    for _ in range(_COPIES):
        call("cuEventRecord", events[0], 0)
        call("cuMemcpyDtoDAsync", target, source, _COPY_BYTES, 0)
        call("cuEventRecord", events[1], 0)
        call("cuEventSynchronize", events[1])
        taken_s = float(call("cuEventElapsedTime", *events)) * 1e-3
        best = max(best, 2 * _COPY_BYTES / taken_s)
    for address in (source, target):
        call("cuMemFree", address)
    return {"bytes_per_s": best}


def main(descriptor: int) -> int:
    """Serve until the supervisor closes its end."""
    return serve(descriptor, is_oracle=True, build=_handlers)


def _handlers(memory: Memory, problem: Problem, _message: Message) -> dict[str, Handler]:
    return OracleHost(problem, mapped(memory, problem)).handlers()


if __name__ == "__main__":
    sys.exit(main(int(json.loads(sys.argv[1]))))
