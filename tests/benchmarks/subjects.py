"""Candidates and targets that the benchmarks measure the product with."""

import asyncio
from pathlib import Path

import yaml

from gpu_runner.candidate import Candidate, Contender, Language, Source
from gpu_runner.client import JobPool
from graph.evaluate import Evaluation, Trial, evaluate
from graph.settings import CONFIGS, Settings
from graph.target import Target
from graph.targets import load_target

FAST_SOFTMAX = """
#include "problem.h"
#include <cmath>
#include <cstring>

static inline float exp_below_zero(float v) {
    v = v < -87.0f ? -87.0f : v;
    float k = std::nearbyint(v * 1.44269504f);
    float r = std::fma(k, -0.693145752f, v);
    r = std::fma(k, -1.42860677e-6f, r);
    float p = 1.3981999507e-3f;
    p = std::fma(p, r, 8.3334519073e-3f);
    p = std::fma(p, r, 4.1665795894e-2f);
    p = std::fma(p, r, 1.6666665459e-1f);
    p = std::fma(p, r, 5.0000001201e-1f);
    p = std::fma(p, r * r, r + 1.0f);
    int32_t bits = (static_cast<int32_t>(k) + 127) << 23;
    float scale;
    std::memcpy(&scale, &bits, 4);
    return p * scale;
}

static void softmax(const struct softmax_args* a) {
    for (int64_t b = 0; b < a->B; ++b) {
        const float* x = a->x + b * a->N;
        float* y = a->y + b * a->N;
        float top = -INFINITY;
        for (int64_t n = 0; n < a->N; ++n) top = x[n] > top ? x[n] : top;
        double sum = 0;
        for (int64_t first = 0; first < a->N; first += 256) {
            const int64_t end = first + 256 < a->N ? first + 256 : a->N;
            float part = 0;
            for (int64_t n = first; n < end; ++n) {
                y[n] = exp_below_zero(x[n] - top);
                part += y[n];
            }
            sum += part;
        }
        const float scale = static_cast<float>(1.0 / sum);
        for (int64_t n = 0; n < a->N; ++n) y[n] *= scale;
    }
}
"""

_PLAIN_ENTRY = """
extern "C" int kp_run(const struct softmax_args* a) {
    softmax(a);
    return 0;
}
"""

_SLOWED_ENTRY = """
#include <chrono>

extern "C" int kp_run(const struct softmax_args* a) {
    using clock = std::chrono::steady_clock;
    const auto began = clock::now();
    softmax(a);
    const auto ended = clock::now();
    const auto until = ended + (ended - began) * %d / 1000;
    while (clock::now() < until) {
    }
    return 0;
}
"""

_FLAGS = ("-ffast-math",)


def fast_softmax() -> Candidate:
    """Return a vectorised softmax."""
    return _candidate(FAST_SOFTMAX + _PLAIN_ENTRY)


def slowed_softmax(permille: int) -> Candidate:
    """Return the same, taking longer by so many thousandths of its own time."""
    return _candidate(FAST_SOFTMAX + _SLOWED_ENTRY % permille)


def _candidate(text: str) -> Candidate:
    source = Source(path="kernel.cpp", text=text)
    return Candidate(language=Language.CPP, sources=(source,), flags=_FLAGS)


def lean_softmax(folder: Path, rows: int, columns: int) -> Path:
    """Write a softmax target with one public shape and three hidden ones; return its path."""
    document = yaml.safe_load((CONFIGS / "targets" / "softmax.yaml").read_text())
    cpu = document["devices"]["cpu"]
    cpu["workloads"] = [{"name": "only", "axes": {"B": rows, "N": columns}, "weight": 1}]
    cpu["hidden"] = cpu["hidden"][:3]
    path = folder / "softmax_lean.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def trial(
    target: Target, candidate: Candidate, against: Candidate | None, settings: Settings
) -> Trial:
    """Return a claim against a candidate, or against the first baseline."""
    contender = (
        target.baselines[0] if against is None else Contender(name="other", candidate=against)
    )
    return Trial(target=target, candidate=candidate, against=contender, plan=settings.bench.claim)


def judged(pool: JobPool, one: Trial, settings: Settings) -> "asyncio.Future[Evaluation]":
    """Return the pending evaluation of a trial."""
    return asyncio.ensure_future(evaluate(one, pool, settings.jobs))


def shipped(name: str) -> Target:
    """Return a shipped target for this processor."""
    return load_target(name)
