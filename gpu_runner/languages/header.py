"""The generated header `problem.h`: named pointers and sizes, so nobody guesses argument order.

One text for C, C++ and CUDA. Pure. The layout of the struct is the calling convention of C and C++:
8-byte words, input pointers, output pointers, axes, scalars, threads, each group in declaration
order. A CUDA kernel is passed what its launch plan lists instead; to it the header gives integers
and the types of half precision with their conversions, with and without CUDA's own headers.
"""

import keyword
from collections.abc import Iterable

from gpu_runner.errors import DefinitionError
from gpu_runner.problem import DType, Problem, Scalar, Tensor

_C_TYPES = {
    DType.FLOAT64: "double",
    DType.FLOAT32: "float",
    DType.FLOAT16: "kp_fp16",
    DType.BFLOAT16: "kp_bf16",
    DType.INT64: "int64_t",
    DType.INT32: "int32_t",
    DType.INT8: "int8_t",
    DType.UINT8: "uint8_t",
    DType.BOOL: "uint8_t",
}
_WORD_BYTES = 8
# Keywords of C and C++, alternative tokens, macros of the C library and of GNU compilers, our own.
_RESERVED_WORDS = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t
    char8_t class co_await co_return co_yield compl concept const const_cast consteval constexpr
    constinit continue decltype default delete do double dynamic_cast else enum explicit export
    extern false float for friend goto if inline int long mutable namespace new noexcept not not_eq
    nullptr operator or or_eq private protected public register reinterpret_cast requires restrict
    return short signed sizeof static static_assert static_cast struct switch template this
    thread_local throw true try typedef typeid typename typeof union unsigned using virtual void
    volatile wchar_t while xor xor_eq
    EOF INFINITY NAN NULL errno linux stderr stdin stdout unix int8_t int32_t int64_t uint8_t
    uint16_t uint32_t threads kp_run kp_fp16 kp_bf16 kp_fp16_to_float kp_float_to_fp16
    kp_bf16_to_float kp_float_to_bf16
"""
_RESERVED = frozenset(_RESERVED_WORDS.split())

_INTEGERS = """\
#ifdef __CUDACC_RTC__
typedef signed char int8_t;
typedef int int32_t;
typedef long long int64_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
#else
#include <stdint.h>
#endif
"""

_ASSERTIONS = """\
#if defined(__cplusplus)
#define KP_STATIC_ASSERT(condition, text) static_assert(condition, text)
#define KP_EXTERN_C extern "C"
#else
#define KP_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#define KP_EXTERN_C
#endif
"""

_FP16 = """\
#if defined(__CUDACC__) && __has_include(<cuda_fp16.h>)
#include <cuda_fp16.h>
typedef __half kp_fp16;

static __device__ __forceinline__ float kp_fp16_to_float(kp_fp16 value) {
  return __half2float(value);
}

static __device__ __forceinline__ kp_fp16 kp_float_to_fp16(float value) {
  return __float2half_rn(value);
}
#elif defined(__CUDACC__)
/* A compiler without CUDA's headers. */
typedef struct {
  uint16_t bits;
} kp_fp16;

static __device__ __forceinline__ float kp_fp16_to_float(kp_fp16 value) {
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
  return result;
}

static __device__ __forceinline__ kp_fp16 kp_float_to_fp16(float value) {
  kp_fp16 result;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
  return result;
}
#elif defined(__FLT16_MAX__)
typedef _Float16 kp_fp16;
#else
#error "float16 tensors need a compiler with _Float16: GCC 12 or newer, Clang 15 or newer"
#endif
KP_STATIC_ASSERT(sizeof(kp_fp16) == 2, "an fp16 element has two bytes");
"""

_BF16 = """\
#if defined(__CUDACC__) && __has_include(<cuda_bf16.h>)
#include <cuda_bf16.h>
typedef __nv_bfloat16 kp_bf16;

static __device__ __forceinline__ float kp_bf16_to_float(kp_bf16 value) {
  return __bfloat162float(value);
}

static __device__ __forceinline__ kp_bf16 kp_float_to_bf16(float value) {
  return __float2bfloat16_rn(value);
}
#elif defined(__CUDACC__)
/* A compiler without CUDA's headers: the upper half of a float. */
typedef struct {
  uint16_t bits;
} kp_bf16;

static __device__ __forceinline__ float kp_bf16_to_float(kp_bf16 value) {
  return __uint_as_float((uint32_t)value.bits << 16);
}

static __device__ __forceinline__ kp_bf16 kp_float_to_bf16(float value) {
  kp_bf16 result;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
  return result;
}
#else
/* The upper half of a float. */
typedef struct {
  uint16_t bits;
} kp_bf16;

static inline float kp_bf16_to_float(kp_bf16 value) {
  uint32_t word = (uint32_t)value.bits << 16;
  float result;
  __builtin_memcpy(&result, &word, sizeof result);
  return result;
}

/* Rounds to nearest, ties to even; a NaN stays a NaN. */
static inline kp_bf16 kp_float_to_bf16(float value) {
  uint32_t word;
  __builtin_memcpy(&word, &value, sizeof word);
  uint32_t rounded = (word + 0x7fffu + ((word >> 16) & 1u)) >> 16;
  uint32_t quiet = (word >> 16) | 0x40u;
  kp_bf16 result;
  result.bits = (uint16_t)((word & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
  return result;
}
#endif
KP_STATIC_ASSERT(sizeof(kp_bf16) == 2, "a bf16 element has two bytes");
"""


def problem_header(problem: Problem) -> str:
    """Return the text of `problem.h`.

    Raises:
        DefinitionError: a tensor, axis or scalar has a name that C or C++ keeps for itself.
    """
    _refuse_reserved(problem)
    tag = f"{problem.name}_args"
    dtypes = {tensor.dtype for tensor in (*problem.inputs, *problem.outputs)}
    parts = [
        f"/* Generated from the problem {problem.name!r}; edits are lost. */",
        f"#ifndef KP_{problem.name.upper()}_H",
        f"#define KP_{problem.name.upper()}_H",
        "",
        _INTEGERS,
        _ASSERTIONS,
        *([_FP16] if DType.FLOAT16 in dtypes else []),
        *([_BF16] if DType.BFLOAT16 in dtypes else []),
        _struct(problem, tag),
        _checks(problem, tag),
        "#ifndef __CUDACC__",
        "/* Returns 0; any other value says that the call failed. */",
        f'KP_EXTERN_C __attribute__((visibility("default"))) int kp_run(const struct {tag}* args);',
        "#endif",
        "",
        "#endif",
    ]
    return "\n".join(parts) + "\n"


def argument_words(problem: Problem) -> int:
    """Return the number of 8-byte words in the struct."""
    pointers = len(problem.inputs) + len(problem.outputs)
    return pointers + len(problem.axes) + len(problem.scalars) + 1


def _refuse_reserved(problem: Problem) -> None:
    tensors = [t.name for t in (*problem.inputs, *problem.outputs)]
    names = [*tensors, *(a.name for a in problem.axes), *problem.scalar_names]
    for name in names:
        if name in _RESERVED or keyword.iskeyword(name) or "__" in name:
            raise DefinitionError(
                f"problem {problem.name!r}: the name {name!r} is reserved in C, C++ or Python; "
                f"rename the tensor, axis or scalar, for example to {name.strip('_')}_value"
            )


def _struct(problem: Problem, tag: str) -> str:
    axes = [
        (f"int64_t {axis.name};", _axis_comment(axis.kind, axis.value, axis.expression))
        for axis in problem.axes
    ]
    fields = [
        *((f"const {_C_TYPES[t.dtype]}* {t.name};", _tensor_comment(t)) for t in problem.inputs),
        *((f"{_C_TYPES[t.dtype]}* {t.name};", _tensor_comment(t)) for t in problem.outputs),
        *axes,
        *((f"{_scalar_type(s)} {s.name};", "") for s in problem.scalars),
        ("int64_t threads;", "OpenMP threads this call may use"),
    ]
    width = max(len(declaration) for declaration, _ in fields)
    lines = _aligned(fields, width)
    return (
        "/* No two tensors overlap: pointers to them may be declared __restrict__. Inputs are\n"
        "   read-only; every element of every output must be written. Row-major, contiguous. */\n"
        f"struct {tag} {{\n" + "\n".join(lines) + "\n};\n"
    )


def _aligned(fields: Iterable[tuple[str, str]], width: int) -> list[str]:
    return [
        f"  {declaration:<{width}}  /* {comment} */" if comment else f"  {declaration}"
        for declaration, comment in fields
    ]


def _tensor_comment(tensor: Tensor) -> str:
    shape = f"[{', '.join(tensor.shape)}]" if tensor.shape else "one element"
    values = ", 0 or 1" if tensor.dtype is DType.BOOL else ""
    return f"{shape}{values}"


def _axis_comment(kind: str, value: int | None, expression: str | None) -> str:
    if kind == "const":
        return f"always {value}"
    return f"= {expression}" if expression else ""


def _scalar_type(scalar: Scalar) -> str:
    return "int64_t" if scalar.kind == "int" else "double"


def _checks(problem: Problem, tag: str) -> str:
    return (
        f'KP_STATIC_ASSERT(sizeof(void*) == {_WORD_BYTES}, "pointers have eight bytes");\n'
        f"KP_STATIC_ASSERT(sizeof(struct {tag}) == {argument_words(problem) * _WORD_BYTES},\n"
        f'                 "{tag} is made of eight-byte words");\n'
    )
