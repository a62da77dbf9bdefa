"""The device's contents under the laws of near-duplicates."""

from gpu_runner.device.torch_contents import DeviceContents
from tests.gpu_runner.device.torch_cases import filled, raw_of, tensor_of
from tests.gpu_runner.oracle.drawn import KEY
from tests.gpu_runner.oracle.laws_near_duplicates import NearDuplicateLaws


class TestDeviceNearDuplicates(NearDuplicateLaws):
    def filled(self, problem, workload, *, call=0, profile=None):
        return filled(problem, workload, call=call, profile=profile)

    def perturb(self, problem, workload, source, into, *, call):
        DeviceContents(problem, workload, KEY, "cpu").perturb(source, into, call=call)

    def lent(self, problem, raw):
        return {t.name: tensor_of(raw[t.name], t.dtype) for t in problem.inputs}

    def raw(self, problem, values):
        return raw_of(problem, values)
