extern "C" __global__ void one_chain(const float* __restrict__ x, float* y, long long n) {
  float a = threadIdx.x;
#pragma unroll 16
  for (int i = 0; i < n; i++) a = fmaf(a, 1.0001f, 0.5f);
  y[blockIdx.x * blockDim.x + threadIdx.x] = a;
}
