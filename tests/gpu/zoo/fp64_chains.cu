extern "C" __global__ void fp64_chains(const float* __restrict__ x, float* y, long long n) {
  double a = threadIdx.x, b = a + 1, c = a + 2, d = a + 3;
#pragma unroll 8
  for (int i = 0; i < n; i++) {
    a = fma(a, 1.0001, 0.5);
    b = fma(b, 1.0001, 0.5);
    c = fma(c, 1.0001, 0.5);
    d = fma(d, 1.0001, 0.5);
  }
  y[blockIdx.x * blockDim.x + threadIdx.x] = (float)(a + b + c + d);
}
