extern "C" __global__ void one_works_all_wait(const float* __restrict__ x, float* y, long long n) {
  __shared__ float shared;
  float sum = 0.0f;
  for (int i = 0; i < n; i++) {
    if (threadIdx.x == 0) {
      float v = sum;
      for (int j = 0; j < 200; j++) v = fmaf(v, 1.001f, 0.5f);
      shared = v;
    }
    __syncthreads();
    sum += shared;
    __syncthreads();
  }
  y[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
