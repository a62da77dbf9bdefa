extern "C" __global__ void shared_stream(const float* __restrict__ x, float* y, long long n) {
  __shared__ float tile[1024];
  for (int i = threadIdx.x; i < 1024; i += blockDim.x) tile[i] = i;
  __syncthreads();
  // Neighbouring threads read neighbouring words: no conflict, only bandwidth.
  volatile float* seen = tile + threadIdx.x;
  float a = 0.0f, b = 0.0f;
  for (int i = 0; i < n; i += 16) {
#pragma unroll
    for (int j = 0; j < 16; j += 2) {
      a += seen[j * 32];
      b += seen[j * 32 + 32];
    }
  }
  y[blockIdx.x * blockDim.x + threadIdx.x] = a + b;
}
