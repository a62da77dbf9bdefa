// One thread waits with a group of its warp that it does not belong to.
extern "C" __global__ void plant(const float* x, float* y) {
  const unsigned lane = threadIdx.x % 32;
  const unsigned lower = __ballot_sync(0xffffffffu, lane < 16);
  y[threadIdx.x] = x[threadIdx.x];
  if (lane <= 16) {
    __syncwarp(lower);
  }
}
