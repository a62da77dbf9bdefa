extern "C" __global__ void __launch_bounds__(1024, 2) register_spills(const float* __restrict__ x, float* y, long long n) {
  float r[96];
#pragma unroll
  for (int k = 0; k < 96; k++) r[k] = x[(blockIdx.x * 1024 + threadIdx.x + k * 4096) & 0xffffff];
  for (int i = 0; i < n; i++) {
#pragma unroll
    for (int k = 0; k < 96; k++) r[k] = fmaf(r[k], r[(k + 7) % 96], r[(k + 13) % 96]);
  }
  float sum = 0.0f;
#pragma unroll
  for (int k = 0; k < 96; k++) sum += r[k];
  y[blockIdx.x * 1024 + threadIdx.x] = sum;
}
