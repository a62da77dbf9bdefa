"""Settings of every test.

hypothesis looks for counterexamples and times nobody; `--hypothesis-profile thorough` looks twenty
times as long. Tests of the GPU tier that need no GPU (they compile CUDA and Triton, or run the
device's oracle on a processor) are marked `device` by where they lie.
"""

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("suite", deadline=None, max_examples=50)
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.load_profile("suite")

ROOT = Path(__file__).parent
DEVICE = (
    "gpu_runner/device/*.py",
    "gpu_runner/languages/test_cu*.py",
    "gpu_runner/languages/test_triton*.py",
    "gpu_runner/languages/test_ptx.py",
    "gpu_runner/languages/test_device_code.py",
    "gpu_runner/languages/test_gpu_guide.py",
    "gpu_runner/languages/test_header_cuda.py",
    "gpu_runner/languages/test_nvrtc_compile.py",
    "agents/playbook/test_device_*.py",
    "agents/playbook/test_gemm_*.py",
    "graph/test_device_repository.py",
    "gpu/*.py",
    "gpu/redteam/*.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the GPU tier."""
    for item in items:
        place = item.path.relative_to(ROOT) if item.path.is_relative_to(ROOT) else None
        if place is not None and any(place.match(pattern) for pattern in DEVICE):
            item.add_marker(pytest.mark.device)
