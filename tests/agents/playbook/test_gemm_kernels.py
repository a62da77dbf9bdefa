"""Products of matrices compile for sm_90a to the instructions that they claim; no device needed."""

import shutil
import subprocess
from pathlib import Path

import pytest

from agents.playbook.catalogue import recipes_of, render
from agents.playbook.device_families import detect_on_device
from agents.playbook.families import Match
from gpu_runner.candidate import Language
from gpu_runner.device.kernel_index import read_index
from gpu_runner.device.lowered import lower
from gpu_runner.languages import Artefact, build, missing_toolchain
from gpu_runner.problem import DType, Problem, Workload
from tests.agents.playbook.device import MACHINE, match_of, target_of
from tests.agents.playbook.test_gemm_recipes import TARGETS, halves

needs_cuda = pytest.mark.skipif(
    missing_toolchain(Language.CUDA) is not None, reason="no CUDA compiler"
)
needs_triton = pytest.mark.skipif(
    missing_toolchain(Language.TRITON) is not None, reason="no triton"
)
MATRIX = {"gemm_bias_act": "HGMMA", "int8_scaled_mm": "IGMMA"}
VARIANTS = (
    {"few_channels": 128, "few_stages": 5, "narrow": 0, "few_split": 4, "turns_stages": 5},
    {"narrow": 32, "few_split": 1, "few_share": 2, "many_tile": "256x128", "many_share": 2},
)


def built(problem: Problem, match: Match, recipe_name: str, folder: Path, **changes) -> Artefact:
    (recipe,) = (
        r
        for r in recipes_of(match.family, MACHINE, (Language.CUDA, Language.TRITON))
        if r.name == recipe_name
    )
    candidate = render(recipe, match, {**recipe.defaults(), **changes})
    made = build(problem, candidate, cache=folder, timeout_s=240)
    assert isinstance(made, Artefact), f"{made.message}\n{made.log_tail}"
    index = read_index(made.path)
    for sizes in ((1, 1, 1), (16, 4096, 4096), (64, 2048, 2048), (4096, 4096, 14336)):
        workload = Workload(name="w", axes=dict(zip("MNK", sizes, strict=True)))
        assert lower(problem, candidate.plans, index, workload).launches
    return made


def disassembly(cubin: Path) -> dict[str, str]:
    """Return the machine code of each kernel; skips where there is no disassembler."""
    tool = shutil.which("cuobjdump") or _of_triton()
    if tool is None:
        pytest.skip("no cuobjdump")
    text = subprocess.run(
        [tool, "-sass", str(cubin)], capture_output=True, text=True, check=True
    ).stdout
    parts = text.split("Function : ")[1:]
    return {part.split(maxsplit=1)[0]: part for part in parts}


def _of_triton() -> str | None:
    triton = pytest.importorskip("triton")
    found = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    return str(found) if found.is_file() else None


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> dict[str, tuple[Artefact, dict[str, str]]]:
    """The best-known parameters of both targets, built once, with their machine code."""
    folder = tmp_path_factory.mktemp("products")
    found = {}
    for name in TARGETS:
        made = built(target_of(name).problem, match_of(name), "wgmma", folder)
        found[name] = (made, disassembly(made.entry))
    return found


@needs_cuda
@pytest.mark.parametrize("name", TARGETS)
def test_kernels_multiply_by_warp_groups_fed_by_bulk_copies(name, compiled):
    _, code = compiled[name]
    assert "any_shape" in code
    for kernel, text in code.items():
        if kernel == "any_shape":
            assert "GMMA" not in text
            continue
        assert MATRIX[name] in text, kernel
        assert "UTMALDG" in text, kernel


@needs_cuda
@pytest.mark.parametrize("name", TARGETS)
def test_sums_stay_in_registers_and_matrix_instructions_in_flight(name, compiled):
    made, _ = compiled[name]
    assert "C75" not in made.log_tail, "the compiler serialises matrix instructions"
    counted = {k: n for k, n in made.counters.items() if k.endswith("spill_store_bytes")}
    assert counted
    assert not any(counted.values()), counted


@needs_cuda
@pytest.mark.parametrize("name", TARGETS)
def test_no_kernel_fences_the_whole_device(name, compiled):
    """A release of cluster scope is such a fence; one a stage made all of them half as fast."""
    _, code = compiled[name]
    assert not [kernel for kernel, text in code.items() if "MEMBAR.ALL.GPU" in text]


@needs_cuda
@pytest.mark.parametrize(("name", "changes"), [*zip(TARGETS, VARIANTS, strict=True)])
def test_other_parameters_compile_too(name, changes, tmp_path):
    built(target_of(name).problem, match_of(name), "wgmma", tmp_path, **changes)


@needs_cuda
def test_the_other_half_type_compiles_without_bias_and_with_the_other_gelu(tmp_path):
    reference = "def run(x, w): return erf(x @ w.T)  # gelu"
    problem = halves(reference, bias=False, dtype=DType.FLOAT16)
    problem = problem.model_copy(update={"name": "gelu"})
    match = detect_on_device(problem)
    assert match.binding["activation"] == "gelu"
    built(problem, match, "wgmma", tmp_path)
    built(problem, match, "plain", tmp_path)


@needs_triton
def test_dots_of_triton_become_warp_group_instructions(tmp_path):
    name = "int8_scaled_mm"
    made = built(target_of(name).problem, match_of(name), "dots", tmp_path, split=2)
    index = read_index(made.path)
    tiles = {k.cubin for k in index.values() if k.symbol in {"whole_depth", "part_of_depth"}}
    found = [
        MATRIX[name] in text for cubin in tiles for text in disassembly(made.path / cubin).values()
    ]
    assert sum(found) >= len(found) - 1, "only the tile for any shape may do without"
