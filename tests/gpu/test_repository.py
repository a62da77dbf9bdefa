"""The repository of kernels for a GPU, tested, measured and rebuilt there as its owner would."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gpu_runner.candidate import Language
from gpu_runner.device.machine import identities
from gpu_runner.languages import missing_toolchain
from graph.targets import load_target
from tests.graph.device_run import (
    cuda_rmsnorm,
    cuda_softmax,
    device_repository,
    small,
    tiled_softmax,
    triton_softmax,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.processes,
    pytest.mark.skipif(not identities(), reason="no CUDA device"),
]

ROOT = Path(__file__).parents[2]
EXPECTED_SKIPS = {
    "one device only",
    "none of its plans serves these sizes",
    "no kernel serves this shape",
    "the baseline does not take double precision",
}


@pytest.fixture(scope="module")
def softmax(tmp_path_factory) -> Path:
    """Rows in CUDA C++, in Triton, and by tensor maps in clusters of sixteen."""
    candidates = [cuda_softmax(), tiled_softmax()]
    if missing_toolchain(Language.TRITON) is None:
        candidates.insert(1, triton_softmax())
    return device_repository(tmp_path_factory.mktemp("softmax"), *candidates)


def run(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a checkout; nothing on its path leads to this program."""
    kept = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    path = os.pathsep.join(p for p in kept if Path(p).resolve() != ROOT)
    return subprocess.run(
        [sys.executable, *command],
        cwd=root,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def skips(output: str) -> set[str]:
    return set(re.findall(r"SKIPPED \[\d+\] [\w/.]+:\d+: ([^:\n]*)", output))


def test_its_tests_pass_on_the_gpu(softmax):
    done = run(softmax, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert skips(done.stdout) <= EXPECTED_SKIPS


def test_a_kernel_of_two_outputs_and_a_scalar_passes_its_tests_on_the_gpu(tmp_path):
    target = small(load_target("rmsnorm", "cuda"))
    root = device_repository(tmp_path, cuda_rmsnorm(), target=target)
    done = run(root, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert skips(done.stdout) <= EXPECTED_SKIPS


def test_its_benchmark_prints_and_writes_both_times(softmax, tmp_path, capsys):
    target = tmp_path / "map.json"
    done = run(softmax, "benchmarks/bench.py", "--quick", "--output", str(target))
    assert done.returncode == 0, done.stderr[-4000:]
    with capsys.disabled():
        sys.stdout.write(f"\n{done.stdout}")
    found = json.loads(target.read_text())
    assert found["problem"] == "softmax"
    assert found["environment"]["arch"].startswith("sm_")
    contenders = {point["against"] for point in found["points"]}
    assert {"torch eager", "torch compile"} <= contenders
    assert found["overall"].keys() == contenders
    for point in found["points"]:
        assert point["version"].startswith("v")
        for kind in ("device", "call"):
            assert point[f"{kind}_us"] > 0
            assert point[f"against_{kind}_us"] > 0
            assert point[kind]["low"] <= point[kind]["speedup"] <= point[kind]["high"]
            assert f"{point[f'{kind}_us']:9.2f}" in done.stdout


SERVED = """
import warnings
import sys
sys.path.insert(0, "src")
import softmax, torch
x = torch.randn(64, 128, device="cuda", dtype=torch.bfloat16)
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    for _ in range(2):
        answer = softmax.softmax(x)
torch.testing.assert_close(answer, x.softmax(-1), atol=1e-3, rtol=2e-2)
print(len(told), told[0].message if told else "")
"""


def test_cubins_for_another_device_leave_it_to_the_baseline_until_they_are_compiled(
    softmax, tmp_path
):
    root = Path(shutil.copytree(softmax, tmp_path / "repo"))
    for folder in sorted((root / "src" / "softmax" / "kernels").glob("v*/sm_90a")):
        folder.replace(folder.with_name("sm_75"))
    done = run(root, "-c", SERVED)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("1 softmax: v00")
    assert "has cubins for sm_75, and this device has compute capability" in done.stdout
    assert "torch eager serves instead of v00" in done.stdout
    rebuilt = subprocess.run(
        [sys.executable, "-m", "softmax"],
        cwd=root / "src",
        capture_output=True,
        text=True,
        check=False,
    )
    assert rebuilt.returncode == 0, rebuilt.stderr[-3000:]
    done = run(root, "-c", SERVED)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "0"
