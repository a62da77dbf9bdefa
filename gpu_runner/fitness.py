"""Is this machine fit to measure on? Asked once, before anything is."""

from gpu_runner.device import health
from gpu_runner.device.machine import device_environment
from gpu_runner.host.machine import environment
from gpu_runner.records import Environment


def fit_machine() -> Environment:
    """Return the machine that jobs will see: its GPU where it has one, its processor otherwise.

    Raises:
        DeviceUnhealthy: there is a GPU that must not be measured on.
    """
    found = device_environment()
    if found is None:
        return environment()
    health.refuse_unhealthy(None, health.read_device(), health.probe_launch())
    return found
