"""Which templates a repository is made of: those every kernel shares, those of its device. Pure."""

from typing import Final, Literal

from gpu_runner.candidate import DEVICE_LANGUAGES, Candidate
from graph.target import Target

Device = Literal["cpu", "cuda"]

_SHARED: Final = (
    *("LICENSE", "NOTICE", "pyproject.toml", "benchmarks/estimates.py"),
    *(f"src/{module}.py" for module in ("__init__", "__main__", "ops", "fallback")),
    *(f"tests/{module}.py" for module in ("harness", "test_dispatcher", "test_compile")),
)
_OF_DEVICE: Final[dict[Device, tuple[str, ...]]] = {
    "cpu": (
        *("benchmarks/bench.py", "tests/test_correctness.py"),
        *(f"src/{module}.py" for module in ("build", "kernels")),
    ),
    "cuda": (
        *("Makefile", "benchmarks/bench.py"),
        *(f"tests/{module}.py" for module in ("places", "test_correctness", "test_launches")),
        *(f"src/{module}.py" for module in ("build", "device", "kernels", "plans")),
    ),
}
_HIDDEN: Final[dict[Device, tuple[str, ...]]] = {
    "cpu": ("gitignore",),
    "cuda": ("gitignore", "cuda/gitattributes"),
}


def device_of(target: Target, candidates: tuple[Candidate, ...]) -> Device:
    """Return what the kernels of a repository run on."""
    is_device = any(candidate.language in DEVICE_LANGUAGES for candidate in candidates)
    return "cuda" if is_device else target.hardware.device


def templates(name: str, device: Device) -> dict[str, str]:
    """Return the template of every file that no kernel decides, by its path in the repository."""
    folder = "cuda/" if device == "cuda" else ""
    paths = {path: path for path in _SHARED}
    paths |= {path: f"{folder}{path}" for path in _OF_DEVICE[device]}
    paths |= {f".{path.rpartition('/')[2]}": path for path in _HIDDEN[device]}
    return {_placed(path, name): template for path, template in paths.items()}


def _placed(path: str, name: str) -> str:
    """Return where a file lies: modules of the package under its name."""
    return f"src/{name}/{path.removeprefix('src/')}" if path.startswith("src/") else path
