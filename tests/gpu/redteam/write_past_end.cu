/* Also writes behind the end of the output, where another tensor may lie. */
#include "silu.cuh"

extern "C" __global__ void silu(const kp_bf16* x, kp_bf16* y, int64_t M, int64_t D) {
  const int64_t row = blockIdx.x;
  silu_row(x + row * 2 * D, y + row * D, D);
  if (row == M - 1 && threadIdx.x < 128) y[M * D + threadIdx.x] = __float2bfloat16(1.0f);
}
