/* What this processor can do at most, measured: memory bandwidth at a working-set size, and
   arithmetic that nothing waits for. A program: ceilings BYTES THREADS CPU[,CPU...]
   It prints one line a figure: name, value. Bytes and operations are per second. */
#define _GNU_SOURCE
#include <omp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { SAMPLES = 5, LINE = 64 };
static const double SAMPLE_S = 0.004;

static double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- bandwidth: each thread owns a contiguous share of two arrays ---- */

typedef float lanes __attribute__((vector_size(LINE)));

static double read_share(char* from, char* to, size_t bytes) {
  const lanes* p = (const lanes*)from;
  const lanes* q = (const lanes*)to;
  lanes a = {0}, b = {0}, c = {0}, d = {0};
  size_t count = bytes / LINE / 2 * 2;
  for (size_t i = 0; i < count; i += 2) {
    a += p[i];
    b += p[i + 1];
    c += q[i];
    d += q[i + 1];
  }
  a += b + c + d;
  __asm__ volatile("" ::"m"(a) : "memory");
  return 2.0 * (double)(count * LINE);
}

static double copy_share(char* from, char* to, size_t bytes) {
  memcpy(to, from, bytes);
  __asm__ volatile("" ::: "memory");
  return 2.0 * (double)bytes;
}

static double stream_share(char* from, char* to, size_t bytes) {
#if defined(__AVX__)
  for (size_t i = 0; i + 32 <= bytes; i += 32)
    _mm256_stream_si256((__m256i*)(to + i), _mm256_load_si256((const __m256i*)(from + i)));
  _mm_sfence();
  return 2.0 * (double)(bytes / 32 * 32);
#else
  return copy_share(from, to, bytes);
#endif
}

typedef double (*share_function)(char* from, char* to, size_t bytes);

/* Best bytes a second over the samples; the barrier starts all threads together. */
static double bandwidth(share_function work, char* from, char* to, size_t half, int threads) {
  double best = 0;
  long repeats = 1;
  for (int sample = 0; sample < SAMPLES;) {
    double moved = 0, start = 0, end = 0;
#pragma omp parallel num_threads(threads) reduction(+ : moved)
    {
      size_t share = half / (size_t)threads / LINE * LINE;
      size_t offset = share * (size_t)omp_get_thread_num();
#pragma omp barrier
#pragma omp master
      start = now_s();
      for (long r = 0; r < repeats; ++r) moved += work(from + offset, to + offset, share);
#pragma omp barrier
#pragma omp master
      end = now_s();
    }
    if (end - start < SAMPLE_S && repeats < 1L << 40) {
      repeats *= 2;
      continue;
    }
    if (moved / (end - start) > best) best = moved / (end - start);
    ++sample;
  }
  return best;
}

/* ---- arithmetic: enough independent accumulators to hide the latency ---- */

#define CHAINS 14
#define PEAK(NAME, TYPE, BYTES)                                                  \
  typedef TYPE NAME##_lanes __attribute__((vector_size(BYTES)));                 \
  static double NAME(long rounds) {                                              \
    NAME##_lanes sum[CHAINS], x = {0}, y = {0};                                  \
    x += (TYPE)0.999;                                                            \
    y += (TYPE)1e-3;                                                             \
    __asm__ volatile("" : "+m"(x), "+m"(y));                                     \
    for (int c = 0; c < CHAINS; ++c) sum[c] = y;                                 \
    for (long r = 0; r < rounds; ++r)                                            \
      _Pragma("GCC unroll 14") for (int c = 0; c < CHAINS; ++c) sum[c] = sum[c] * x + y; \
    for (int c = 1; c < CHAINS; ++c) sum[0] += sum[c];                           \
    __asm__ volatile("" ::"m"(sum[0]));                                          \
    return 2.0 * CHAINS * (double)(BYTES / sizeof(TYPE)) * (double)rounds;       \
  }
PEAK(float_narrow, float, 32)
PEAK(float_wide, float, 64)
PEAK(double_narrow, double, 32)
PEAK(double_wide, double, 64)

#if defined(__AVX512VNNI__)
static double int8_dot(long rounds) {
  __m512i sum[CHAINS], x = _mm512_set1_epi8(3), y = _mm512_set1_epi8(-2);
  __asm__ volatile("" : "+m"(x), "+m"(y));
  for (int c = 0; c < CHAINS; ++c) sum[c] = _mm512_setzero_si512();
  for (long r = 0; r < rounds; ++r)
    _Pragma("GCC unroll 14") for (int c = 0; c < CHAINS; ++c) {
      sum[c] = _mm512_dpbusd_epi32(sum[c], x, y);
    }
  for (int c = 1; c < CHAINS; ++c) sum[0] = _mm512_add_epi32(sum[0], sum[c]);
  __asm__ volatile("" ::"m"(sum[0]));
  return 2.0 * CHAINS * 64 * (double)rounds;
}
#define HAS_INT8_DOT 1
#endif

typedef double (*peak_function)(long rounds);

static double peak(peak_function work, int threads) {
  double best = 0;
  long rounds = 1024;
  for (int sample = 0; sample < SAMPLES;) {
    double done = 0, start = 0, end = 0;
#pragma omp parallel num_threads(threads) reduction(+ : done)
    {
#pragma omp barrier
#pragma omp master
      start = now_s();
      done += work(rounds);
#pragma omp barrier
#pragma omp master
      end = now_s();
    }
    if (end - start < SAMPLE_S) {
      rounds *= 2;
      continue;
    }
    if (done / (end - start) > best) best = done / (end - start);
    ++sample;
  }
  return best;
}

static double larger(double a, double b) { return a > b ? a : b; }

static void pin(char* list) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  for (char* one = strtok(list, ","); one; one = strtok(NULL, ",")) CPU_SET(atoi(one), &cpus);
  if (sched_setaffinity(0, sizeof cpus, &cpus) != 0) perror("sched_setaffinity");
}

int main(int count, char** words) {
  if (count != 4) return 2;
  size_t half = strtoull(words[1], NULL, 10) / 2 / 4096 * 4096;
  int threads = atoi(words[2]);
  pin(words[3]);
  if (half < 4096) half = 4096;
  char* from = aligned_alloc(4096, half);
  char* to = aligned_alloc(4096, half);
  if (!from || !to) return 3;
  memset(from, 0, half);
  memset(to, 0, half);
  double bytes = bandwidth(read_share, from, to, half, threads);
  bytes = larger(bytes, bandwidth(copy_share, from, to, half, threads));
  bytes = larger(bytes, bandwidth(stream_share, from, to, half, threads));
  double single = larger(peak(float_narrow, threads), peak(float_wide, threads));
  double twice = larger(peak(double_narrow, threads), peak(double_wide, threads));
  printf("bandwidth %.17g\nfloat32 %.17g\nfloat64 %.17g\n", bytes, single, twice);
#if defined(HAS_INT8_DOT)
  printf("int8 %.17g\n", peak(int8_dot, threads));
#else
  printf("int8 %.17g\n", 4 * single);
#endif
  return 0;
}
