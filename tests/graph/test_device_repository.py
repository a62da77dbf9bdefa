"""The repository of kernels for a GPU, read and run where there is none, without this program."""

import compileall
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gpu_runner.candidate import Language
from gpu_runner.languages import missing_toolchain
from graph.repository import ship
from tests.builders import make_candidate
from tests.graph.device_run import (
    DeviceRun,
    cuda_softmax,
    device_repository,
    tiled_softmax,
    triton_softmax,
)
from tests.graph.isolation import isolated

HAS_GPU = Path("/dev/nvidiactl").exists()
needs_cuda = pytest.mark.skipif(
    missing_toolchain(Language.CUDA) is not None, reason="neither NVRTC nor nvcc is installed"
)
needs_triton = pytest.mark.skipif(
    missing_toolchain(Language.TRITON) is not None, reason="triton is not installed"
)
without_gpu = pytest.mark.skipif(HAS_GPU, reason="a GPU is here: tests/gpu covers it")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> Path:
    """Two versions in CUDA C++, the second one served; cubins for sm_90a."""
    if missing_toolchain(Language.CUDA) is not None:
        pytest.skip("neither NVRTC nor nvcc is installed")
    return device_repository(tmp_path_factory.mktemp("device"), cuda_softmax(), tiled_softmax())


@pytest.fixture
def copied(shipped, tmp_path) -> Path:
    """A repository that a test may change."""
    return Path(shutil.copytree(shipped, tmp_path / "repo"))


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def python(root: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a repository's checkout, where this program cannot be imported."""
    probe = root / "build" / "probe.py"
    probe.parent.mkdir(exist_ok=True)
    probe.write_text(f"import sys\nsys.path.insert(0, {str(root / 'src')!r})\n{program}")
    return isolated(root, str(probe), how="run_path")


@without_gpu
def test_its_tests_pass_where_there_is_no_gpu_and_say_what_they_skip(shipped):
    done = isolated(shipped, "pytest", "-q", "-rs", "-p", "no:cacheprovider", how="run_module")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed, (\d+) skipped", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= 60
    reasons = set(re.findall(r"SKIPPED \[\d+\] [\w/.]+:\d+: (.*)", done.stdout))
    assert reasons <= {"torch sees no CUDA device", "one device only"}
    assert git(shipped, "status", "--porcelain") == ""


def test_it_holds_sources_plans_and_cubins_of_every_version(shipped):
    names = set(git(shipped, "ls-files").splitlines())
    for version in ("v001", "v002"):
        folder = f"src/softmax/kernels/{version}"
        assert {
            f"{folder}/kernel.cu",
            f"{folder}/plan.json",
            f"{folder}/plan.py",
            f"{folder}/build.json",
            f"{folder}/sm_90a/kernel.cubin",
            f"{folder}/sm_90a/kernels.json",
        } <= names
        assert (shipped / folder / "sm_90a" / "kernel.cubin").read_bytes()[:4] == b"\x7fELF"
    assert {"src/softmax/device.py", "src/softmax/plans.py", "tests/test_launches.py"} <= names
    assert "kernel.cubin: binary: set" in git(shipped, "check-attr", "binary", "--", "kernel.cubin")


def test_every_module_compiles_and_imports_nothing_of_this_program(shipped):
    assert compileall.compile_dir(shipped, quiet=2, force=True, legacy=False)
    pattern = re.compile(
        r"^\s*(import|from) (graph|agents|gpu_runner|knowledge_store)\b", re.MULTILINE
    )
    for name in git(shipped, "ls-files", "*.py").splitlines():
        assert not pattern.search((shipped / name).read_text()), name


def test_no_file_names_a_place_on_this_machine(shipped):
    here = (str(shipped), str(Path(__file__).parents[2]), str(Path.home()) + "/")
    for name in git(shipped, "ls-files").splitlines():
        content = (shipped / name).read_bytes()
        assert not any(place.encode() in content for place in here), name


def test_nothing_is_compiled_or_loaded_by_an_import(shipped):
    done = python(
        shipped,
        "import softmax, subprocess\n"
        "assert 'triton' not in sys.modules and 'cuda.bindings.nvrtc' not in sys.modules\n"
        "print(softmax.__all__)\n",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['softmax', 'softmax_into']"


@without_gpu
def test_without_cuda_bindings_it_serves_by_the_baseline_and_warns_once(shipped):
    done = python(
        shipped,
        "import warnings; warnings.simplefilter('always')\n"
        "sys.modules['cuda'] = None; sys.modules['cuda.bindings'] = None\n"
        "import softmax, torch\n"
        "x = torch.randn(3, 5)\n"
        "for _ in range(3):\n"
        "    torch.testing.assert_close(softmax.softmax(x + _), (x + _).softmax(-1))\n"
        "    softmax.softmax_into(x, torch.empty_like(x))\n",
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("RuntimeWarning") == 1
    assert "cuda-bindings is not installed; pip install cuda-bindings: torch eager" in done.stderr


@without_gpu
def test_its_benchmark_says_why_it_measures_nothing(shipped):
    done = isolated(shipped, "benchmarks/bench.py", "--quick", how="run_path")
    assert done.returncode == 1
    assert done.stderr.strip().endswith(
        "bench.py measures kernels, and none runs here: torch sees no CUDA device"
    )


REBUILDING = """
import json, os
from softmax import build

told = {"nvcc": str(build.build("v001", "sm_80"))}
os.environ["PATH"] = "/nonexistent"
try:
    told["nvrtc"] = str(build.build("v002", "sm_100a"))
except RuntimeError as error:
    told["nvrtc"] = ""
    told["why"] = str(error)
source = build.KERNELS / "v001" / "kernel.cu"
os.environ["PATH"] = PATH
source.write_text("int x = ;\\n")
try:
    build.build("v001", "sm_90a")
except RuntimeError as error:
    told["refused"] = str(error)
print(json.dumps(told))
"""


class Rebuilt(NamedTuple):
    kernels: Path
    told: dict[str, str]


@pytest.fixture(scope="module")
def rebuilt(shipped, tmp_path_factory) -> Rebuilt:
    """A repository whose owner compiled for other devices, and then broke a source."""
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not installed")
    root = Path(shutil.copytree(shipped, tmp_path_factory.mktemp("rebuilt") / "repo"))
    program = REBUILDING.replace("PATH\n", f"{os.environ['PATH']!r}\n")
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=root / "src",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return Rebuilt(root / "src" / "softmax" / "kernels", json.loads(done.stdout))


def test_the_owner_can_compile_the_cubins_for_another_device(rebuilt):
    folder = rebuilt.kernels / "v001"
    assert rebuilt.told["nvcc"] == str(folder / "sm_80")
    index, shipped_index = (
        json.loads((folder / arch / "kernels.json").read_text()) for arch in ("sm_80", "sm_90a")
    )
    assert index.keys() == shipped_index.keys()
    for entry, facts in index.items():
        assert facts["symbol"] == shipped_index[entry]["symbol"]
        assert (folder / "sm_80" / facts["cubin"]).read_bytes().startswith(b"\x7fELF")


def test_nvrtc_compiles_where_there_is_no_nvcc(rebuilt):
    if importlib.util.find_spec("cuda.bindings.nvrtc") is None:
        assert "pip install cuda-bindings" in rebuilt.told["why"]
        return
    cubin = Path(rebuilt.told["nvrtc"]) / "kernel.cubin"
    assert cubin.read_bytes().startswith(b"\x7fELF")


def test_a_source_that_does_not_compile_is_refused_and_the_cubins_stay(shipped, rebuilt):
    assert "expected an expression" in rebuilt.told["refused"]
    here, there = rebuilt.kernels, shipped / "src" / "softmax" / "kernels"
    kept = Path("v001") / "sm_90a" / "kernel.cubin"
    assert (here / kept).read_bytes() == (there / kept).read_bytes()
    assert not list(here.glob("*/.building-*"))


def test_a_plan_that_was_changed_is_noticed_by_its_tests(copied):
    plan = copied / "src" / "softmax" / "kernels" / "v002" / "plan.py"
    plan.write_text(plan.read_text().replace('Pointer("y"),', 'Pointer("y"), Pointer("y"),'))
    chosen = ("tests/test_launches.py", "-k", "parameters")
    done = isolated(copied, "pytest", "-q", "-p", "no:cacheprovider", *chosen, how="run_module")
    assert done.returncode == 1
    assert "AssertionError: softmax_tiles" in done.stdout


def test_the_readme_says_what_a_gpu_needs(shipped):
    readme = (shipped / "README.md").read_text()
    assert "| otherwise | v002 |" in readme
    assert 'torch.rand((64, 128), dtype=torch.bfloat16, device="cuda")' in readme
    assert "No compiler: the cubins are here." in readme
    assert "Measured on NVIDIA H200 (sm_90a)." in readme
    for foreign in ("g++", "C++ compiler", "OpenMP", "thread", "CPU tensors"):
        assert foreign not in readme
    assert "cuda-bindings" in (shipped / "pyproject.toml").read_text()


def test_every_commit_serves_with_what_it_has(shipped):
    served = []
    for commit in ("HEAD~3", "HEAD~2", "HEAD~1", "HEAD"):
        module: dict[str, Any] = {}
        exec(git(shipped, "show", f"{commit}:dispatch/dispatcher.py"), module)
        served.append(module["choose"](B=64, N=128))
    assert served == ["baseline", "v001", "v002", "v002"]


def test_kernels_without_cubins_are_shipped_to_be_compiled(tmp_path):
    run = DeviceRun(tmp_path, cuda_softmax())
    run.promoted(1.3)
    tuning = run.tuned({w.name: 1.3 for w in run.workloads})
    root = ship(run.files, run.manifest, run.files.attempts(), tuning, run.finish())
    assert not list(root.rglob("*.cubin"))
    readme = (root / "README.md").read_text()
    assert "The cubins are not here: compile them first." in readme
    assert "`python -m softmax --arch sm_90a`" in readme


@needs_triton
def test_triton_kernels_are_shipped_and_compiled_again(tmp_path):
    python_too = make_candidate(language=Language.PYTHON)
    root = device_repository(tmp_path, python_too, triton_softmax())
    folder = root / "src" / "softmax" / "kernels" / "v002"
    shipped_index = json.loads((folder / "sm_90a" / "kernels.json").read_text())
    shutil.rmtree(folder / "sm_90a")
    done = subprocess.run(
        [sys.executable, "-m", "softmax", "--arch", "sm_90a"],
        cwd=root / "src",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    index = json.loads((folder / "sm_90a" / "kernels.json").read_text())
    assert index.keys() == shipped_index.keys()
    kept = ("symbol", "shared_bytes", "is_dynamic_shared", "hidden", "scratch_bytes")
    for entry, facts in index.items():
        assert [facts[key] for key in kept] == [shipped_index[entry][key] for key in kept]
        assert (folder / "sm_90a" / facts["cubin"]).read_bytes().startswith(b"\x7fELF")
    assert "triton for Triton kernels" in (root / "README.md").read_text()
