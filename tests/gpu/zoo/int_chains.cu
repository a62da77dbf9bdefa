extern "C" __global__ void int_chains(const float* __restrict__ x, float* y, long long n) {
  unsigned a = threadIdx.x, b = a + 1, c = a + 2, d = a + 3;
#pragma unroll 8
  for (int i = 0; i < n; i++) {
    a = (a ^ (a >> 3)) + b;
    b = (b ^ (b << 5)) + c;
    c = (c ^ (c >> 7)) + d;
    d = (d ^ (d << 2)) + a;
  }
  y[blockIdx.x * blockDim.x + threadIdx.x] = __uint_as_float(a ^ b ^ c ^ d);
}
