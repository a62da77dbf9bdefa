"""What kind of file a path is: what the change is about, or what comes along with it."""

import re

from knowledge_store.pulls import FileKind

_GENERATED_PATH = re.compile(
    r"""(^|/)(generated|autogen|_generated|gen)/ | KernelMetaInfo | _pb2(_grpc)?\.pyi?$
    | \.(lock|svg|csv|tsv|ipynb|min\.js|map|pb\.(h|cc))$ | (^|/)package-lock\.json$
    | (^|/)configs?/.*N=\d+.*\.json$ | (^|/)E=\d+,N=\d+.*\.json$ | cubin\.(cpp|cu|h)$
    | \.cubin(\.|$) | (^|/)(go\.sum|pnpm-lock\.yaml)$
    """,
    re.VERBOSE,
)
_GENERATED_TEXT = re.compile(
    r"@generated\b|\bdo not edit\b.{0,80}\bgenerat|\bgenerated\b.{0,80}\bdo not edit\b"
    r"|\bauto-?generated (file|code|by)\b|\bThis file (is|was) (auto(matically)?[- ])?generated\b",
    re.IGNORECASE | re.DOTALL,
)
_TEST = re.compile(r"(^|/)(tests?|testing|unittests?|unit_tests?|e2e|lit_tests|integration_tests)/")
_TEST_NAME = re.compile(r"(^|/)(test_[^/]*|[^/]*_test|[^/]*\.test|conftest|[^/]*Test)\.[a-z]+$")
_BENCH = re.compile(r"(^|/)(bench|benches|benchmarks?|perf|profiling)(s?)/|(^|/)[^/]*bench[^/]*$")
_DOC = re.compile(
    r"\.(md|mdx|rst|adoc|txt|png|jpe?g|gif|pdf)$|(^|/)(docs?|documentation|media)/"
    r"|(^|/)(LICENSE|LICENCE|NOTICE|README|CHANGELOG|AUTHORS)[^/]*$",
    re.IGNORECASE,
)
_CONFIG = re.compile(
    r"\.(ya?ml|toml|json|cfg|ini|cmake|bazel|bzl|mk|in|lock|env|sh|bat|ps1|dockerfile|groovy)$"
    r"|(^|/)(CMakeLists\.txt|Makefile|Dockerfile[^/]*|setup\.py|BUILD|WORKSPACE|CODEOWNERS)$"
    r"|(^|/)\.[^/]+(/|$)|(^|/)(ci|cmake|docker)/",
    re.IGNORECASE,
)
_DEVICE = re.compile(r"\.(cu|cuh|ptx|hip|metal|cl|mlir|td)(\.(j2|jinja|inc|in))?$")
_KERNEL_PATH = re.compile(
    r"(^|/)([^/]*kernels?[^/]*|csrc|ops?|cute|cutlass|cub|thrust|triton|fused[^/]*|quantization|gluon"
    r"|[^/]*(attention|attn)[^/]*|[^/]*gemm[^/]*|[^/]*moe[^/]*|tile_?lang|quack|collective|atom|nvgpu|mla)"
    r"(/|[^/]*\.[a-z]+$)",
    re.IGNORECASE,
)
_CODE = re.compile(
    r"\.(py|pyx|pyi|c|cc|cpp|cxx|h|hh|hpp|hxx|inl|inc|rs|go|jl|mojo)(\.(j2|jinja))?$"
)
_KERNEL_TEXT = re.compile(
    r"__global__|__device__|@(triton|gluon)\.jit|@cute\.(jit|kernel)|T\.prim_func|asm volatile"
)


def classify(path: str, head: str = "") -> FileKind:
    """Return the kind of a file.

    Args:
        path: as a diff spells it.
        head: its first lines, where they are known: a header may say that it is generated.
    """
    if _GENERATED_PATH.search(path) or _GENERATED_TEXT.search(head):
        return "generated"
    if _DEVICE.search(path):
        return _test_or_bench(path) or "kernel"
    if _DOC.search(path) and not path.endswith("CMakeLists.txt"):
        return "doc"
    if _CONFIG.search(path):
        return "config"
    return _test_or_bench(path) or _code(path, head)


def _code(path: str, head: str) -> FileKind:
    is_kernel = _KERNEL_PATH.search(path) or _KERNEL_TEXT.search(head)
    return "kernel" if is_kernel and _CODE.search(path) else "library"


def _test_or_bench(path: str) -> FileKind | None:
    if _TEST.search(path) or _TEST_NAME.search(path):
        return "test"
    return "bench" if _BENCH.search(path) else None
