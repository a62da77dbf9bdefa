/* Never ends: waits for a flag that nobody sets. */
#include "silu.cuh"

__device__ volatile int never;

extern "C" __global__ void silu(const kp_bf16* x, kp_bf16* y, int64_t M, int64_t D) {
  const int64_t row = blockIdx.x;
  silu_row(x + row * 2 * D, y + row * D, D);
  while (never == 0) {
  }
}
