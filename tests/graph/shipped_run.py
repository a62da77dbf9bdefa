"""A run over shipped targets whose promoted kernels are real: what a repository is made from."""

from pathlib import Path

from agents.replies import Citation, Digest, Edit, Movement
from gpu_runner.candidate import Candidate, Language, Source
from graph.autotune import tune
from graph.ledger import AttemptOutcome, MapPoint, RunManifest, RunResult, Tuning
from graph.target import Target
from graph.targets import load_target
from tests.builders import SOFTMAX_CPP
from tests.graph.synthetic_run import SyntheticRun
from tests.graph.synthetic_target import make_manifest

UNROLLED_CPP = SOFTMAX_CPP.replace(
    "for (int64_t n = 0; n < a->N; ++n) sum += y[n] = std::exp(x[n] - top);",
    "int64_t n = 0;\n"
    "        for (; n + 1 < a->N; n += 2) {\n"
    "            sum += y[n] = std::exp(x[n] - top);\n"
    "            sum += y[n + 1] = std::exp(x[n + 1] - top);\n"
    "        }\n"
    "        for (; n < a->N; ++n) sum += y[n] = std::exp(x[n] - top);",
)

SILU_CPP = """
#include "problem.h"
#include <cmath>

extern "C" int kp_run(const struct silu_and_mul_args* a) {
    for (int64_t m = 0; m < a->M; ++m) {
        const float* gate = a->x + m * a->D2;
        const float* value = gate + a->D;
        float* y = a->y + m * a->D;
        for (int64_t d = 0; d < a->D; ++d) y[d] = gate[d] / (1.0f + std::exp(-gate[d])) * value[d];
    }
    return 0;
}
"""

RMSNORM_CPP = """
#include "problem.h"
#include <cmath>

extern "C" int kp_run(const struct rmsnorm_args* a) {
    for (int64_t m = 0; m < a->M; ++m) {
        const float* x = a->x + m * a->H;
        const float* residual = a->residual + m * a->H;
        float* total = a->residual_out + m * a->H;
        double squares = 0;
        for (int64_t h = 0; h < a->H; ++h) {
            total[h] = x[h] + residual[h];
            squares += static_cast<double>(total[h]) * total[h];
        }
        const double scale = 1 / std::sqrt(squares / a->H + a->eps);
        float* y = a->y + m * a->H;
        for (int64_t h = 0; h < a->H; ++h) {
            y[h] = static_cast<float>(total[h] * scale * a->weight[h]);
        }
    }
    return 0;
}
"""


def small(target: Target) -> Target:
    """Keep workloads that are checked in milliseconds."""
    size = target.problem.required_bytes
    least = min(map(size, target.public))
    kept = tuple(w for w in target.workloads if size(w) <= max(least, 1_200_000))
    return target.model_copy(update={"workloads": kept})


class ShippedRun(SyntheticRun):
    """A synthetic run of a shipped target; every candidate is a source that works."""

    def __init__(self, root: Path, name: str, texts: tuple[str, ...], **target) -> None:
        super().__init__(root)
        chosen = small(load_target(name)).model_copy(update=target)
        self.manifest: RunManifest = make_manifest(target=chosen)
        self.files.write_manifest(self.manifest)
        self.texts = texts

    def candidate(self, text: str = "") -> Candidate:
        source = text or self.texts[min(len(self.attempts), len(self.texts) - 1)]
        lines = f"// attempt {len(self.attempts)}\n{source}"
        return Candidate(
            language=Language.CPP,
            sources=(Source(path="kernel.cpp", text=lines),),
            flags=("-fno-math-errno",),
        )

    def digest(self, round_: int) -> None:
        self.files.save_reply(
            f"r{round_:03}",
            Digest(
                bottleneck="calls_in_loop",
                confidence=0.8,
                evidence=("expf called from a loop",),
                inference=("a call hinders vectorisation",),
                next_edit=Edit(
                    path="kernel.cpp",
                    symbol="kp_run",
                    change="inline a polynomial | no call",
                    why_others_are_weaker="bandwidth is not reached",
                    expected=Movement(metric="speedup", direction="up", factor=1.5),
                    validation="bench",
                ),
            ),
        )

    def tuned(self, *speedups: dict[str, float]) -> Tuning:
        """Tune over the promoted attempts, whose speed-ups are given by workload; saved."""
        promoted = [a for a in self.attempts if a.outcome is AttemptOutcome.PROMOTED]
        points = tuple(
            MapPoint(
                workload=name,
                attempt_id=attempt.attempt_id,
                speedup=speedup,
                low=speedup * 0.98,
                high=speedup * 1.02,
                candidate_us=90.0 / speedup,
                record_id=attempt.claims[0].record_id,
            )
            for attempt, row in zip(promoted, speedups, strict=True)
            for name, speedup in row.items()
        )
        tuning = tune(points, self.workloads, tuple(a.attempt_id for a in promoted))
        self.files.save_tuning(tuning)
        return tuning

    @property
    def shipped(self) -> tuple[object, ...]:
        return self.files, self.manifest, self.files.attempts()


def softmax_run(root: Path) -> tuple[ShippedRun, Tuning, RunResult]:
    """Two promotions, a rejection, two regimes."""
    run = ShippedRun(root, "softmax", (SOFTMAX_CPP, SOFTMAX_CPP, SOFTMAX_CPP, UNROLLED_CPP))
    run.rejected()
    run.promoted(1.4, provenance=(Citation(source="agents/recipes/softmax", licence="Apache-2.0"),))
    run.digest(1)
    run.measured(0.97, motivation="Blocks of rows | shared `constants`.")
    run.promoted(1.2)
    run.replies()
    names = [w.name for w in run.workloads]
    tuning = run.tuned(
        {name: 2.0 if i == 0 else 1.2 for i, name in enumerate(names)},
        {name: 1.3 if i == 0 else 1.9 for i, name in enumerate(names)},
    )
    return run, tuning, run.finish()
