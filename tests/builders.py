"""Builders with overrides for the nouns that many tests need."""

from gpu_runner.candidate import Candidate, Language, Source
from gpu_runner.problem import Axis, DType, Problem, Tensor, Workload
from gpu_runner.records import Environment

SOFTMAX_REFERENCE = """
import numpy as np


def run(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def bound(x, expected):
    n = x.shape[-1]
    spread = np.abs(x - x.max(axis=-1, keepdims=True))
    return 2.0**-23 * (16 + 4 * spread + np.sqrt(n)) * expected + 1e-37
"""

SOFTMAX_CPP = """
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
"""

SOFTMAX_PYTHON = """
import torch


def run(x):
    e = (x - x.amax(-1, keepdim=True)).exp()
    return e / e.sum(-1, keepdim=True)
"""


def make_problem(**changes) -> Problem:
    """Softmax over the last dimension of float32 [B, N]."""
    values = {
        "name": "softmax",
        "axes": (Axis(name="B", kind="var"), Axis(name="N", kind="var")),
        "inputs": (Tensor(name="x", shape=("B", "N"), dtype=DType.FLOAT32),),
        "outputs": (Tensor(name="y", shape=("B", "N"), dtype=DType.FLOAT32),),
        "reference": SOFTMAX_REFERENCE,
        "library_ops": ("aten::_softmax",),
        "flops": "8 * B * N",
    }
    return Problem(**{**values, **changes})


def make_workload(**changes) -> Workload:
    """8 rows of 128."""
    return Workload(**{"name": "small", "axes": {"B": 8, "N": 128}, **changes})


def make_candidate(*, language: Language = Language.CPP, text: str = "", **changes) -> Candidate:
    """A right softmax in the language asked for."""
    default = {Language.CPP: SOFTMAX_CPP, Language.PYTHON: SOFTMAX_PYTHON}.get(language, "")
    path = {Language.CPP: "kernel.cpp", Language.PYTHON: "candidate.py"}.get(language, "kernel.cu")
    source = Source(path=path, text=text or default)
    return Candidate(**{"language": language, "sources": (source,), **changes})


def make_environment(**changes) -> Environment:
    """A small machine, the same wherever the test runs."""
    values = {
        "machine": "test processor",
        "arch": "x86_64",
        "cores": 2,
        "isa": ("avx2",),
        "memory_bytes": 8 << 30,
        "kernel": "6.1.0",
        "python": "3.11.7",
    }
    return Environment(**{**values, **changes})
