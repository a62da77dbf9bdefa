/* Generated from the problem 'rich'; edits are lost. */
#ifndef KP_RICH_H
#define KP_RICH_H

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

#if defined(__cplusplus)
#define KP_STATIC_ASSERT(condition, text) static_assert(condition, text)
#define KP_EXTERN_C extern "C"
#else
#define KP_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#define KP_EXTERN_C
#endif

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

/* No two tensors overlap: pointers to them may be declared __restrict__. Inputs are
   read-only; every element of every output must be written. Row-major, contiguous. */
struct rich_args {
  const kp_bf16* x;      /* [B, N] */
  const kp_fp16* half;   /* [B, H] */
  const double* wide;    /* [N] */
  const int32_t* index;  /* [B] */
  const uint8_t* mask;   /* [N], 0 or 1 */
  const float* scale;    /* one element */
  int8_t* y;             /* [B, N] */
  int64_t* count;        /* [B] */
  int64_t B;
  int64_t N;             /* always 256 */
  int64_t H;             /* = N // 2 */
  double eps;
  int64_t groups;
  int64_t threads;       /* OpenMP threads this call may use */
};

KP_STATIC_ASSERT(sizeof(void*) == 8, "pointers have eight bytes");
KP_STATIC_ASSERT(sizeof(struct rich_args) == 112,
                 "rich_args is made of eight-byte words");

#ifndef __CUDACC__
/* Returns 0; any other value says that the call failed. */
KP_EXTERN_C __attribute__((visibility("default"))) int kp_run(const struct rich_args* args);
#endif

#endif
