extern "C" __global__ void pointer_chase(const float* __restrict__ x, float* y, long long n) {
  unsigned long long at = (blockIdx.x * blockDim.x + threadIdx.x) * 2654435761ull;
  float sum = 0.0f;
  for (int i = 0; i < n; i++) {
    float v = x[at % (1ull << 26)];
    at = at * 6364136223846793005ull + 1442695040888963407ull + (unsigned long long)v;
    sum += v;
  }
  y[blockIdx.x * blockDim.x + threadIdx.x] = sum + at;
}
