import pytest

from gpu_runner.candidate import Language
from gpu_runner.device import plants
from gpu_runner.device.lowered import lower, read_index, refuse_invalid
from gpu_runner.device.sanitizer import Tool
from gpu_runner.languages import build, missing_toolchain
from gpu_runner.languages.artefact import Artefact
from gpu_runner.tasks.device_sanitize import with_lines

can_compile = pytest.mark.skipif(
    missing_toolchain(Language.CUDA) is not None, reason="no CUDA compiler"
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def test_each_tool_has_a_plant_and_words_for_it():
    assert set(plants.SAYS) == set(Tool)
    texts = {plants.plant(tool).sources[0].text for tool in Tool}
    assert len(texts) == len(Tool)


@pytest.mark.parametrize("tool", list(Tool))
def test_plan_of_a_plant_is_valid(tool):
    candidate = plants.plant(tool)
    refuse_invalid(plants.PROBLEM, candidate.plans, candidate.language)


@can_compile
@pytest.mark.parametrize("tool", list(Tool))
def test_plant_is_compiled_as_candidates_are_with_lines(cache, tool):
    candidate = with_lines(plants.plant(tool))
    built = build(plants.PROBLEM, candidate, cache=cache, timeout_s=60)
    assert isinstance(built, Artefact)
    assert b"debug_line" in built.entry.read_bytes()
    assert tool.value.encode() in built.entry.read_bytes()
    lowered = lower(plants.PROBLEM, candidate.plans, read_index(built.path), plants.WORKLOAD)
    assert [launch.symbol for launch in lowered.launches] == ["plant"]


@can_compile
def test_line_information_changes_no_instruction(cache):
    plain = plants.plant(Tool.RACECHECK)
    built = [
        build(plants.PROBLEM, candidate, cache=cache, timeout_s=60)
        for candidate in (plain, with_lines(plain))
    ]
    assert all(isinstance(one, Artefact) for one in built)
    counters = [one.counters for one in built if isinstance(one, Artefact)]
    assert counters[0] == counters[1]
    assert len({one.digest for one in built if isinstance(one, Artefact)}) == 2


def test_lines_are_asked_for_once_and_of_cuda_only():
    once = with_lines(plants.plant(Tool.MEMCHECK))
    assert once.flags == ("--generate-line-info",)
    assert with_lines(once) == once
    triton = once.model_copy(update={"language": Language.TRITON, "flags": ()})
    assert with_lines(triton) == triton
