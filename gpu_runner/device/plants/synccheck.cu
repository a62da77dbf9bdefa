// Half of the block waits at one barrier, the other half at another one that comes later.
extern "C" __global__ void plant(const float* x, float* y) {
  if (x[threadIdx.x] > -1e30f && threadIdx.x % 2 == 0) {
    __syncthreads();
  }
  y[threadIdx.x] = x[threadIdx.x];
}
