/* Writes far behind the workspace that its plan asks for. */
#include "silu.cuh"

extern "C" __global__ void silu(const kp_bf16* x, kp_bf16* y, char* workspace, int64_t M,
                                int64_t D) {
  const int64_t row = blockIdx.x;
  silu_row(x + row * 2 * D, y + row * D, D);
  if (threadIdx.x == 0) workspace[(64ll << 20) + row] = 1;
}
