extern "C" __global__ void shared_stream(const float* __restrict__ x, float* y, long long n) {
  __shared__ float4 tile[1024];
  for (int i = threadIdx.x; i < 1024; i += blockDim.x) tile[i] = make_float4(i, 1, 2, 3);
  __syncthreads();
  float4 a = make_float4(0, 0, 0, 0);
  volatile float4* seen = tile;
  for (int i = 0; i < n; i += 4) {
#pragma unroll
    for (int j = 0; j < 4; j++) {
      int at = (threadIdx.x + (i + j) * 32) & 1023;
      a.x += seen[at].x;
      a.y += seen[at].y;
      a.z += seen[at].z;
      a.w += seen[at].w;
    }
  }
  y[blockIdx.x * blockDim.x + threadIdx.x] = a.x + a.y + a.z + a.w;
}
