"""Settings of every test.

hypothesis looks for counterexamples and times nobody; `--hypothesis-profile thorough` looks twenty
times as long. The slowest files come first, so that no worker has one left when the others are
done; a file stays with one worker, which sets its fixtures up once. Tests of the GPU tier that need
no GPU (they compile CUDA and Triton, or run the device's oracle on a processor) are marked `device`
by where they lie.
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
SLOWEST = (
    "graph/test_chaos.py",
    "graph/test_cli_archive.py",
    "exploits/test_run.py",
    "graph/test_resume.py",
    "graph/test_repository.py",
    "graph/test_bad_input.py",
    "graph/test_loop.py",
    "agents/playbook/test_kernels.py",
    "graph/test_targets_shipped.py",
    "graph/test_cli.py",
    "gpu_runner/test_local.py",
    "gpu_runner/test_worker.py",
    "gpu_runner/test_cli_archive.py",
    "gpu_runner/test_archive_execute.py",
    "graph/test_loop_economics.py",
    "graph/test_model_runs.py",
    "knowledge_store/exact/test_update.py",
    "agents/playbook/test_kernel_variants.py",
)
"""By the processor time they and their children take."""


def is_device(path: Path) -> bool:
    """Whether a file is of the GPU tier."""
    place = path.relative_to(ROOT) if path.is_relative_to(ROOT) else None
    return place is not None and any(place.match(pattern) for pattern in DEVICE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import what `-m "... not device"` leaves out, a fifth of all tests."""
    is_left_out = "not device" in config.getoption("markexpr") and is_device(collection_path)
    return True if is_left_out else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the GPU tier; have the slowest files run first."""
    ranks = {ROOT / name: rank for rank, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))
    for item in items:
        if is_device(item.path):
            item.add_marker(pytest.mark.device)
