extern "C" __global__ void local_array(const float* __restrict__ x, float* y, long long n) {
  float table[64];
  for (int k = 0; k < 64; k++) table[k] = x[threadIdx.x + k];
  unsigned at = threadIdx.x;
  float sum = 0.0f;
  for (int i = 0; i < n; i++) {
    at = at * 1664525u + 1013904223u;
    table[at >> 26] += 1.0f;
    sum += table[(at >> 20) & 63];
  }
  y[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
