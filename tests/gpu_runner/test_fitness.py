"""What a machine tells of itself before it takes jobs."""

from gpu_runner.device.machine import device_environment
from gpu_runner.fitness import fit_machine
from gpu_runner.host.machine import environment


def test_the_machine_is_its_gpu_where_it_has_one_and_else_its_processor():
    assert fit_machine() == (device_environment() or environment())
