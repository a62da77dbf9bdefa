/* What every kernel here shares: SiLU of the gates times the values, one row at a time. */
#pragma once
#include "problem.h"

__device__ __forceinline__ kp_bf16 gated(kp_bf16 gate, kp_bf16 value) {
  const float g = __bfloat162float(gate);
  return __float2bfloat16(g / (1.0f + __expf(-g)) * __bfloat162float(value));
}

union Eight {
  uint4 word;
  kp_bf16 element[8];
};

__device__ __forceinline__ Eight gated(const Eight& gates, const Eight& values) {
  Eight result;
#pragma unroll
  for (int i = 0; i < 8; ++i) result.element[i] = gated(gates.element[i], values.element[i]);
  return result;
}

/* One row by one block; wide accesses where rows begin at multiples of 16 bytes. */
__device__ __forceinline__ void silu_row(const kp_bf16* row, kp_bf16* out, int64_t D) {
  if (D % 8 == 0) {
    const uint4* gates = reinterpret_cast<const uint4*>(row);
    const uint4* values = reinterpret_cast<const uint4*>(row + D);
    for (int64_t i = threadIdx.x; i < D / 8; i += blockDim.x) {
      const Eight g{gates[i]}, v{values[i]};
      reinterpret_cast<uint4*>(out)[i] = gated(g, v).word;
    }
  } else {
    for (int64_t i = threadIdx.x; i < D; i += blockDim.x) out[i] = gated(row[i], row[D + i]);
  }
}
