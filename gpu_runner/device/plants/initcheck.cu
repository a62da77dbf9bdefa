// Reads its output before anybody has written it.
extern "C" __global__ void plant(const float* x, float* y) {
  y[threadIdx.x] += x[threadIdx.x];
}
