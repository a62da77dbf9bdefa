/* Reads behind the end of the input; the answer is right whatever lies there. */
#include "silu.cuh"

extern "C" __global__ void silu(const kp_bf16* x, kp_bf16* y, int64_t M, int64_t D) {
  const int64_t row = blockIdx.x;
  silu_row(x + row * 2 * D, y + row * D, D);
  if (row == M - 1) {
    unsigned short stray;
    asm volatile("ld.global.u16 %0, [%1];" : "=h"(stray) : "l"(x + M * 2 * D + 128 + threadIdx.x));
  }
}
