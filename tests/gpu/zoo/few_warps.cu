extern "C" __global__ void few_warps(const float* __restrict__ x, float* y, long long n) {
  extern __shared__ float tile[];
  tile[threadIdx.x] = 0.0f;
  for (long long i = blockIdx.x * 64ll + threadIdx.x; i < n; i += gridDim.x * 64ll)
    y[i] = x[i] * 2.0f + tile[threadIdx.x];
}
