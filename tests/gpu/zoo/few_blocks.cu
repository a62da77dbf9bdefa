extern "C" __global__ void few_blocks(const float* __restrict__ x, float* y, long long n) {
  float a = threadIdx.x, b = a + 1, c = a + 2, d = a + 3;
#pragma unroll 8
  for (int i = 0; i < n; i++) {
    a = fmaf(a, 1.0001f, 0.5f);
    b = fmaf(b, 1.0001f, 0.5f);
    c = fmaf(c, 1.0001f, 0.5f);
    d = fmaf(d, 1.0001f, 0.5f);
  }
  y[blockIdx.x * blockDim.x + threadIdx.x] = a + b + c + d;
}
