// 16,384 instructions in a row, a quarter of a megabyte: no instruction cache holds them.
#define A1(k) a = fmaf(a, 1.0f + (k)*1e-6f, 0.25f * (k));
#define A4(k) A1(k) A1(k + 1) A1(k + 2) A1(k + 3)
#define A16(k) A4(k) A4(k + 4) A4(k + 8) A4(k + 12)
#define A64(k) A16(k) A16(k + 16) A16(k + 32) A16(k + 48)
#define A256(k) A64(k) A64(k + 64) A64(k + 128) A64(k + 192)
#define A1024(k) A256(k) A256(k + 256) A256(k + 512) A256(k + 768)
#define A4096(k) A1024(k) A1024(k + 1024) A1024(k + 2048) A1024(k + 3072)
#define BODY A4096(0) A4096(4096) A4096(8192) A4096(12288)

extern "C" __global__ void huge_code(const float* __restrict__ x, float* y, long long n) {
  float a = x[threadIdx.x];
#pragma unroll 1
  for (int i = 0; i < n; i++) { BODY }
  y[blockIdx.x * blockDim.x + threadIdx.x] = a;
}
