// 16,384 instructions in a row, a quarter of a megabyte: no instruction cache holds them.
#define A1(k)                         \
  a = fmaf(a, 1.0f + (k) * 1e-6f, b); \
  b = fmaf(b, 1.1f + (k) * 1e-6f, c); \
  c = fmaf(c, 1.2f + (k) * 1e-6f, d); \
  d = fmaf(d, 1.3f + (k) * 1e-6f, a);
#define A4(k) A1(k) A1(k + 1) A1(k + 2) A1(k + 3)
#define A16(k) A4(k) A4(k + 4) A4(k + 8) A4(k + 12)
#define A64(k) A16(k) A16(k + 16) A16(k + 32) A16(k + 48)
#define A256(k) A64(k) A64(k + 64) A64(k + 128) A64(k + 192)
#define A1024(k) A256(k) A256(k + 256) A256(k + 512) A256(k + 768)
#define A4096(k) A1024(k) A1024(k + 1024) A1024(k + 2048) A1024(k + 3072)

extern "C" __global__ void huge_code(const float* __restrict__ x, float* y, long long n) {
  float a = x[threadIdx.x], b = a + 1, c = a + 2, d = a + 3;
#pragma unroll 1
  for (int i = 0; i < n; i++) {
    A4096(0)
  }
  y[blockIdx.x * blockDim.x + threadIdx.x] = a + b + c + d;
}
