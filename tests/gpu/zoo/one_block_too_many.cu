extern "C" __global__ void one_block_too_many(const float* __restrict__ x, float* y, long long n) {
  extern __shared__ float tile[];
  tile[threadIdx.x] = 0.0f;
  float a = threadIdx.x, b = a + 1;
#pragma unroll 8
  for (int i = 0; i < n; i++) {
    a = fmaf(a, 1.0001f, 0.5f);
    b = fmaf(b, 1.0001f, 0.5f);
  }
  y[blockIdx.x * 1024 + threadIdx.x] = a + b + tile[threadIdx.x];
}
