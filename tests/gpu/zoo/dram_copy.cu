extern "C" __global__ void dram_copy(const float* __restrict__ x, float* y, long long n) {
  long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  const float4* from = reinterpret_cast<const float4*>(x);
  float4* to = reinterpret_cast<float4*>(y);
  if (i < n / 4) {
    float4 v = from[i];
    v.x += 1.0f;
    to[i] = v;
  }
}
