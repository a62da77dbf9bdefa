extern "C" __global__ void tensor_loop(const float* __restrict__ x, float* y, long long n) {
  unsigned a[4] = {threadIdx.x, 1, 2, 3}, b[2] = {4, 5};
  float c[4][4] = {};
  for (int i = 0; i < n; i++) {
#pragma unroll
    for (int j = 0; j < 4; j++)
      asm volatile(
          "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
          "{%0,%1,%2,%3};"
          : "+f"(c[j][0]), "+f"(c[j][1]), "+f"(c[j][2]), "+f"(c[j][3])
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
  float sum = 0.0f;
  for (int j = 0; j < 4; j++) sum += c[j][0] + c[j][1] + c[j][2] + c[j][3];
  y[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
