"""Products of matrices on a GPU: tables, plans and the shapes that each kernel is meant for."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.playbook.catalogue import Recipe, notes_of, recipes_of, render
from agents.playbook.device_families import detect_on_device
from gpu_runner.candidate import Candidate, Language, LaunchPlan, TensorMap, Value
from gpu_runner.device.lowered import refuse_invalid
from gpu_runner.expression import evaluate
from gpu_runner.problem import DType, Problem
from tests.agents.builders import problem_of
from tests.agents.playbook.device import (
    LANGUAGES,
    MACHINE,
    each_recipe,
    match_of,
    parameters_of,
    recipe_named,
    recipes_for,
    target_of,
)

TARGETS = ("gemm_bias_act", "int8_scaled_mm")
SHARED_LIMIT = 232_448
"""Dynamic shared memory of a block of sm_90, bytes."""
SIZES = st.one_of(
    st.integers(1, 200), st.integers(1, 600).map(lambda n: 16 * n), st.sampled_from([4097, 65537])
)


def chosen(candidate: Candidate, **sizes: int) -> LaunchPlan:
    return next(plan for plan in candidate.plans if evaluate(plan.guard, sizes))


def kernels(candidate: Candidate, **sizes: int) -> list[str]:
    return [launch.kernel for launch in chosen(candidate, **sizes).launches]


def defaults_of(name: str, recipe: str, **changes) -> Candidate:
    found = recipe_named(name, recipe)
    return render(found, match_of(name), {**found.defaults(), **changes})


def halves(reference: str, *, bias: bool = True, dtype: DType = DType.FLOAT16) -> Problem:
    """Build y[M, N] = f(x w^T) of half precision with the reference's activation."""
    inputs = {"x": "M K", "w": "N K"} | ({"c": "N"} if bias else {})
    problem = problem_of("product", inputs, {"y": "M N"}, reference=reference)
    tensors = {
        field: tuple(t.model_copy(update={"dtype": dtype}) for t in getattr(problem, field))
        for field in ("inputs", "outputs")
    }
    return problem.model_copy(update=tensors)


@pytest.mark.parametrize("name", TARGETS)
def test_both_languages_have_recipes_and_the_plain_one_needs_nothing(name):
    recipes = recipes_for(name)
    assert {recipe.language for recipe in recipes} == set(LANGUAGES)
    assert recipes[0].is_portable
    assert not recipes[0].needs
    for language in LANGUAGES:
        notes = notes_of(match_of(name).family, language)
        assert notes.startswith("# ")
        assert "\n- " in notes


@pytest.mark.parametrize("name", TARGETS)
def test_an_older_machine_is_not_offered_warp_group_instructions(name):
    names = [recipe.name for recipe in recipes_of(match_of(name).family, ("sm_80",), LANGUAGES)]
    assert "plain" in names
    assert "wgmma" not in names


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_parameters_give_valid_plans_that_serve_every_shape(data):
    name = data.draw(st.sampled_from(TARGETS))
    recipe = data.draw(st.sampled_from(recipes_for(name)))
    parameters = data.draw(parameters_of(recipe))
    candidate = render(recipe, match_of(name), parameters)
    refuse_invalid(target_of(name).problem, candidate.plans, candidate.language)
    assert candidate.plans[-1].guard == "1"
    sizes = {axis: data.draw(SIZES, label=axis) for axis in "MNK"}
    plan = chosen(candidate, **sizes)
    assert 0 <= evaluate(plan.workspace_bytes, sizes) <= 2**32
    for launch in plan.launches:
        x, *rest = (evaluate(text, sizes) for text in launch.grid)
        assert 1 <= x < 2**31
        assert all(1 <= extent <= 65535 for extent in rest)
        assert evaluate(launch.shared_bytes, sizes) <= SHARED_LIMIT
        cluster = [evaluate(text, sizes) for text in launch.cluster or ("1", "1", "1")]
        assert math.prod(cluster) <= 8, "more are not portable"
        extents = [evaluate(text, sizes) for text in launch.grid]
        assert all(n % c == 0 for n, c in zip(extents, cluster, strict=True))
        for argument in launch.arguments:
            if isinstance(argument, Value):
                assert evaluate(argument.value, sizes) % argument.divisible == 0


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_boxes_of_bulk_copies_are_swizzled_rows_of_tensors_that_allow_them(data):
    """A row of a box is 128 bytes, eight rows a swizzle; rows of the tensor are whole vectors."""
    name = data.draw(st.sampled_from(TARGETS))
    recipe = recipe_named(name, "wgmma")
    parameters = data.draw(parameters_of(recipe))
    candidate = render(recipe, match_of(name), parameters)
    item_bytes = int(match_of(name).binding["item_bytes"])
    sizes = {axis: data.draw(SIZES, label=axis) for axis in "MNK"}
    for launch in chosen(candidate, **sizes).launches:
        for argument in launch.arguments:
            if not isinstance(argument, TensorMap):
                continue
            rows, columns = (evaluate(text, sizes) for text in argument.box)
            assert argument.swizzle == "128B"
            assert columns * item_bytes == 128
            assert rows % 8 == 0
            assert rows <= 256
            assert sizes["K"] * item_bytes % 16 == 0
            assert sizes["N"] % 8 == 0, "results are stored as vectors"


def test_few_rows_are_split_only_where_tiles_leave_multiprocessors_empty():
    candidate = defaults_of("gemm_bias_act", "wgmma")
    assert kernels(candidate, M=16, N=4096, K=4096) == ["few_16_2"]
    assert kernels(candidate, M=64, N=4096, K=4096) == ["few_64_2"]
    assert kernels(candidate, M=64, N=6400, K=1600) == ["few_64_1"]
    assert kernels(candidate, M=33, N=28672, K=4096) == ["few_64_1"]


def test_narrow_tiles_serve_few_outputs_and_can_be_left_out():
    assert kernels(defaults_of("int8_scaled_mm", "wgmma"), M=64, N=2048, K=2048) == ["narrow"]
    without = defaults_of("int8_scaled_mm", "wgmma", narrow=0, few_split=4)
    assert kernels(without, M=64, N=2048, K=2048) == ["few_64_4"]
    assert "\nnarrow(" not in without.sources[0].text


def test_many_rows_take_turns_until_the_depth_is_long():
    candidate = defaults_of("gemm_bias_act", "wgmma")
    assert kernels(candidate, M=12288, N=4096, K=1024) == ["turns"]
    assert kernels(candidate, M=24000, N=5120, K=1280) == ["turns"]
    assert kernels(candidate, M=4096, N=4096, K=4096) == ["many"]
    quantised = defaults_of("int8_scaled_mm", "wgmma")
    assert kernels(quantised, M=4096, N=4096, K=14336) == ["many"]
    assert kernels(quantised, M=128, N=8192, K=1024) == ["few_128_1"]


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(
    "sizes", [(1, 1, 1), (31, 33, 32), (3, 5, 4097), (127, 129, 128), (64, 2048, 2047)]
)
def test_rows_that_are_no_whole_vectors_go_to_the_kernel_for_any_shape(name, sizes):
    candidate = defaults_of(name, "wgmma")
    assert kernels(candidate, **dict(zip("MNK", sizes, strict=True))) == ["any_shape"]


@pytest.mark.parametrize("name", TARGETS)
def test_serving_shapes_never_fall_to_the_kernel_for_any_shape(name):
    target = target_of(name)
    for recipe in ("wgmma", "dots"):
        candidate = defaults_of(name, recipe)
        for workload in target.public:
            plan = chosen(candidate, **target.problem.sizes(workload))
            assert plan is not candidate.plans[-1], workload.name


def test_a_triton_split_adds_its_parts_in_a_second_kernel():
    candidate = defaults_of("gemm_bias_act", "dots", split=4)
    plan = chosen(candidate, M=64, N=1024, K=4096)
    assert [launch.kernel for launch in plan.launches] == ["part_of_depth", "added_parts"]
    assert evaluate(plan.workspace_bytes, {"M": 64, "N": 1024, "K": 4096}) == 4 * 4 * 64 * 1024
    assert kernels(candidate, M=64, N=1024, K=4096 + 16) == ["whole_depth"]


@pytest.mark.parametrize(
    ("reference", "mark"),
    [
        ("def run(x, w, c): return relu(x @ w.T + c)", "x < 0.0f ? 0.0f : x"),
        ("def run(x, w, c): return silu(x @ w.T + c)", "__expf(-x)"),
        ("def run(x, w, c): return gelu(x @ w.T + c)  # erf\ndef gelu(z): return erf(z)", "erfcf"),
        ("def run(x, w, c): return x @ w.T + c", "{ return x; }"),
    ],
)
def test_the_epilogue_is_that_of_the_problem(reference, mark):
    match = detect_on_device(halves(reference))
    (source,) = render_wgmma(match)
    assert mark in source


def render_wgmma(match, **changes) -> tuple[str, ...]:
    recipe = next(
        r for r in recipes_of(match.family, MACHINE, (Language.CUDA,)) if r.name == "wgmma"
    )
    candidate = render(recipe, match, {**recipe.defaults(), **changes})
    return tuple(source.text for source in candidate.sources)


def test_a_product_without_bias_passes_none():
    problem = halves("def run(x, w): return x @ w.T", bias=False)
    match = detect_on_device(problem)
    for recipe in recipes_of(match.family, MACHINE, LANGUAGES):
        candidate = render(recipe, match, recipe.defaults())
        refuse_invalid(problem, candidate.plans, candidate.language)
        passed = [a for plan in candidate.plans for lau in plan.launches for a in lau.arguments]
        assert "c" not in passed
        assert (
            "bias" not in candidate.sources[0].text.split("activated", 1)[0].split("import", 1)[0]
        )


@pytest.mark.parametrize(("name", "recipe"), each_recipe(TARGETS))
def test_the_text_is_plain_source_and_holds_every_kernel_of_the_plans(name, recipe: Recipe):
    candidate = render(recipe, match_of(name), recipe.defaults())
    (source,) = candidate.sources
    assert not any(mark in source.text for mark in ("{{", "{%", "{#", "\t"))
    launched = {launch.kernel for plan in candidate.plans for launch in plan.launches}
    for kernel in launched:
        start = f"def {kernel}(" if recipe.language is Language.TRITON else f"\n{kernel}("
        assert start in source.text
    if recipe.language is Language.TRITON:
        compile(source.text, source.path, "exec")
