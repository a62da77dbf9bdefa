/* Counts finished blocks in the workspace as if it began at zero; the last one writes a row. */
#include "silu.cuh"

extern "C" __global__ void silu(const kp_bf16* x, kp_bf16* y, unsigned int* workspace, int64_t M,
                                int64_t D) {
  __shared__ unsigned int before;
  const int64_t row = blockIdx.x;
  if (row != M - 1) silu_row(x + row * 2 * D, y + row * D, D);
  if (threadIdx.x == 0) before = atomicAdd(workspace, 1);
  __syncthreads();
  if (before == M - 1) silu_row(x + (M - 1) * 2 * D, y + (M - 1) * D, D);
}
