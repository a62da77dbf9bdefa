#include "problem.h"
#include <cmath>

extern "C" int kp_run(const struct softmax_args* a) {
  for (int64_t b = 0; b < a->B; ++b) {
    const float* x = a->x + b * a->N;
    float* y = a->y + b * a->N;
    float top = x[0];
    for (int64_t n = 1; n < a->N; ++n) top = x[n] > top || std::isnan(x[n]) ? x[n] : top;
    double sum = 0;
    for (int64_t n = 0; n < a->N; ++n) sum += y[n] = std::exp(x[n] - top);
    for (int64_t n = 0; n < a->N; ++n) y[n] = static_cast<float>(y[n] / sum);
  }
  return 0;
}
