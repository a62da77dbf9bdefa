extern "C" __global__ void bank_conflicts(const float* __restrict__ x, float* y, long long n) {
  __shared__ float tile[32 * 32 * 4];
  for (int i = threadIdx.x; i < 32 * 32 * 4; i += blockDim.x) tile[i] = i;
  __syncthreads();
  int at = (threadIdx.x % 32) * 32 + threadIdx.x / 32;
  float sum = 0.0f;
  for (int i = 0; i < n; i++) {
    sum += tile[(at + i * 32) % 4096];
    tile[at] = sum;
  }
  y[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
