"""Facts of kernels compiled here: what the patterns of remarks and machine code are for."""

import platform
from pathlib import Path

import pytest

from gpu_runner.languages import build
from gpu_runner.profiling.static import static_facts
from tests.builders import make_candidate, make_problem
from tests.gpu_runner.languages.outcomes import built

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="reads x86-64 code only")


def cpu_has(flag):
    return flag in Path("/proc/cpuinfo").read_text().split()


needs_avx2 = pytest.mark.skipif(not cpu_has("avx2"), reason="no AVX2 here")
needs_avx512 = pytest.mark.skipif(not cpu_has("avx512f"), reason="no AVX-512 here")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def facts_of(cache, tmp_path):
    def compiled(body, *, before="", flags=()):
        text = (
            '#include "problem.h"\n#include <cmath>\n#if defined(__AVX__)\n'
            f"#include <immintrin.h>\n#endif\n{before}\n"
            'extern "C" int kp_run(const struct softmax_args* a) {\n'
            "  const float* __restrict x = a->x;\n  float* __restrict y = a->y;\n"
            "  const int64_t size = a->B * a->N;\n"
            f"{body}\n  return 0;\n}}\n"
        )
        outcome = build(
            make_problem(), make_candidate(text=text, flags=flags), cache=cache, timeout_s=60.0
        )
        return static_facts(built(outcome), scratch=tmp_path)

    return compiled


def kinds(facts):
    return {remark.kind for remark in facts.remarks}


@needs_avx2
def test_scaled_copy_is_vectorised(facts_of):
    facts = facts_of("  for (int64_t i = 0; i < size; ++i) y[i] = 3 * x[i];")
    assert kinds(facts) == {"vectorised"}
    assert max(int(bits) for bits in facts.instructions.vector_bits) >= 256
    assert facts.instructions.calls_in_loops == ()


@needs_avx512
@pytest.mark.parametrize("bits", ["256", "512"])
def test_vector_width_follows_the_flag(facts_of, bits):
    facts = facts_of(
        "  for (int64_t i = 0; i < size; ++i) y[i] = 3 * x[i];",
        flags=(f"-mprefer-vector-width={bits}",),
    )
    assert max(facts.instructions.vector_bits, key=int) == bits


def test_ordered_sum_is_scalar_until_it_may_be_reassociated(facts_of):
    body = "  float s = 0;\n  for (int64_t i = 0; i < size; ++i) s += x[i];\n  y[0] = s;"
    ordered = facts_of(body)
    free = facts_of(body, flags=("-ffast-math",))
    assert free.instructions.vector_arithmetic > 0
    assert ordered.instructions.scalar_arithmetic > free.instructions.scalar_arithmetic


@needs_avx2
def test_multiply_add_is_fused(facts_of):
    facts = facts_of("  for (int64_t i = 0; i < size; ++i) y[i] += 3.5f * x[i];")
    assert facts.instructions.fma > 0


@pytest.mark.parametrize("name", ["expf", "tanhf", "erff", "sinf"])
def test_math_call_in_a_loop_is_named_by_compiler_and_code(facts_of, name):
    facts = facts_of(f"  for (int64_t i = 0; i < size; ++i) y[i] = {name}(x[i]);")
    assert facts.instructions.calls_in_loops == (name,)
    assert [(r.line, r.kind) for r in facts.remarks] == [(11, "missed")]
    assert "call" in facts.remarks[0].text
    assert any(f"calls {name}" in spot.detail for spot in facts.hotspots)


def test_call_outside_loops_is_not_in_them(facts_of):
    facts = facts_of("  y[0] = expf(x[0]);\n  for (int64_t i = 1; i < size; ++i) y[i] = x[i] + 1;")
    assert facts.instructions.calls_in_loops == ()


def test_call_through_a_helper_that_is_not_inlined_is_found(facts_of):
    facts = facts_of(
        "  for (int64_t i = 0; i < size; ++i) y[i] = helper(x[i]);",
        before="__attribute__((noinline)) static float helper(float v) { return expf(v) + 1; }",
    )
    assert "expf" in facts.instructions.calls_in_loops


def test_division_and_square_root_count(facts_of):
    facts = facts_of("  for (int64_t i = 0; i < size; ++i) y[i] = 1 / (x[i] + 2);")
    root = facts_of(
        "  for (int64_t i = 0; i < size; ++i) y[i] = std::sqrt(x[i]);", flags=("-fno-math-errno",)
    )
    assert facts.instructions.division > 0
    assert root.instructions.division > 0


@needs_avx2
def test_gathers_count(facts_of):
    facts = facts_of(
        "  for (int64_t i = 0; i + 8 <= size; i += 8)\n"
        "    _mm256_storeu_ps(y + i, _mm256_i32gather_ps(x, _mm256_set1_epi32((int)i), 4));"
    )
    assert facts.instructions.gathers == 1


@needs_avx2
def test_non_temporal_stores_count(facts_of):
    facts = facts_of(
        "  for (int64_t i = 0; i + 8 <= size; i += 8)\n"
        "    _mm256_stream_ps(y + i, _mm256_loadu_ps(x + i));"
    )
    assert facts.instructions.non_temporal_stores == 1


@needs_avx2
def test_too_many_accumulators_spill(facts_of):
    count = 40
    body = "\n".join(
        [
            f"  __m256 s[{count}];",
            f"  for (int j = 0; j < {count}; ++j) s[j] = _mm256_setzero_ps();",
            "  for (int64_t i = 0; i + 8 <= size; i += 8) {",
            "    __m256 v = _mm256_loadu_ps(x + i);",
            *(
                f"    s[{j}] = _mm256_fmadd_ps(v, _mm256_loadu_ps(y + {j} * 8), s[{j}]);"
                for j in range(count)
            ),
            "  }",
            f"  for (int j = 0; j < {count}; ++j) _mm256_storeu_ps(y + 8 * j, s[j]);",
        ]
    )
    facts = facts_of(body)
    assert facts.instructions.spills > 0
    assert facts.instructions.fma >= count


def test_parallel_region_is_looked_into(facts_of):
    facts = facts_of(
        "#pragma omp parallel for num_threads(a->threads)\n"
        "  for (int64_t i = 0; i < size; ++i) y[i] = expf(x[i]);"
    )
    assert facts.instructions.calls_in_loops == ("expf",)
    assert any("_omp_fn" in spot.symbol for spot in facts.hotspots)


def test_value_carried_through_memory_is_a_missed_loop(facts_of):
    facts = facts_of("  for (int64_t i = 1; i < size; ++i) a->y[i] = a->y[i - 1] + a->x[i];")
    assert "missed" in kinds(facts)


def test_kernel_without_loops_has_counts_of_its_whole_code(facts_of):
    facts = facts_of("  y[0] = x[0] * 2;")
    assert facts.instructions.scalar_arithmetic >= 1
    assert facts.hotspots == ()
    assert facts.remarks == ()
