// Writes one element past the end of its output.
extern "C" __global__ void plant(const float* x, float* y) {
  y[threadIdx.x + 1] = x[threadIdx.x];
}
