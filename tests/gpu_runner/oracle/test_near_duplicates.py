"""The host's contents under the laws of near-duplicates."""

from gpu_runner.oracle.contents import Contents
from tests.gpu_runner.oracle.drawn import KEY, filled
from tests.gpu_runner.oracle.laws_near_duplicates import NearDuplicateLaws


class TestHostNearDuplicates(NearDuplicateLaws):
    def filled(self, problem, workload, *, call=0, profile=None):
        return filled(problem, workload, call=call, profile=profile)

    def perturb(self, problem, workload, source, into, *, call):
        Contents(problem, workload, KEY).perturb(source, into, call=call)

    def lent(self, problem, raw):
        return {name: array.copy() for name, array in raw.items()}

    def raw(self, problem, values):
        return {name: array.copy() for name, array in values.items()}
