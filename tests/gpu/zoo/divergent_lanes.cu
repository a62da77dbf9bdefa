extern "C" __global__ void divergent_lanes(const float* __restrict__ x, float* y, long long n) {
  float a = threadIdx.x;
  int lane = threadIdx.x & 7;
  for (int i = 0; i < n; i++) {
    switch (lane) {
      case 0: for (int j = 0; j < 8; j++) a = fmaf(a, 1.01f, 0.1f); break;
      case 1: for (int j = 0; j < 8; j++) a = fmaf(a, 1.02f, a); break;
      case 2: for (int j = 0; j < 8; j++) a = a * a + 0.3f; break;
      case 3: for (int j = 0; j < 8; j++) a = fmaf(a, 0.04f, 4.0f); break;
      case 4: for (int j = 0; j < 8; j++) a = 5.0f - a * 0.5f; break;
      case 5: for (int j = 0; j < 8; j++) a = fmaf(a, a, 6.0f); break;
      case 6: for (int j = 0; j < 8; j++) a = fmaf(a, 0.07f, a); break;
      default: for (int j = 0; j < 8; j++) a = a * 0.8f + 7.0f;
    }
  }
  y[blockIdx.x * blockDim.x + threadIdx.x] = a;
}
