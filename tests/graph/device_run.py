"""A run on a GPU whose promoted kernels are real: rows of a softmax in CUDA C++ and in Triton."""

import json
from pathlib import Path

from pydantic import TypeAdapter

from gpu_runner.candidate import Candidate, Language, LaunchPlan, Source
from gpu_runner.jobs import Build, Built
from gpu_runner.tasks.build import build_job
from graph.ledger import RunManifest
from graph.repository import ship
from graph.target import Target
from graph.targets import load_target
from tests.graph.shipped_run import ShippedRun
from tests.graph.synthetic_target import make_environment, make_manifest

SOFTMAX_CU = """
#include "problem.h"

__device__ constexpr float kLowest = -3.4e38f;  // no logit is lower

// The maximum and the sum of a row, by one block; every thread gets both.
__device__ float2 statistics(const kp_bf16* x, int64_t columns) {
  __shared__ float2 parts[32];
  float top = kLowest, sum = 0.0f;
  for (int64_t n = threadIdx.x; n < columns; n += blockDim.x) {
    const float value = __bfloat162float(x[n]);
    const float higher = fmaxf(top, value);
    sum = sum * expf(top - higher) + expf(value - higher);
    top = higher;
  }
  for (int lane = 16; lane > 0; lane /= 2) {
    const float other = __shfl_xor_sync(~0u, top, lane);
    const float more = __shfl_xor_sync(~0u, sum, lane);
    const float higher = fmaxf(top, other);
    sum = top == other ? sum + more
                       : (top == kLowest ? 0.0f : sum * expf(top - higher)) +
                             (other == kLowest ? 0.0f : more * expf(other - higher));
    top = higher;
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = make_float2(top, sum);
  __syncthreads();
  float2 whole = parts[0];
  for (int warp = 1; warp < blockDim.x / 32; ++warp) {
    const float2 part = parts[warp];
    if (part.x == kLowest) continue;
    const float higher = fmaxf(whole.x, part.x);
    whole.y = whole.y * expf(whole.x - higher) + part.y * expf(part.x - higher);
    whole.x = higher;
  }
  return whole;
}

extern "C" __global__ void softmax_rows(const kp_bf16* x, kp_bf16* y, int columns) {
  extern __shared__ float row[];
  const int64_t start = int64_t(blockIdx.x) * columns;
  const float2 whole = statistics(x + start, columns);
  for (int n = threadIdx.x; n < columns; n += blockDim.x) {
    row[n] = expf(__bfloat162float(x[start + n]) - whole.x) / whole.y;
    y[start + n] = __float2bfloat16(row[n]);
  }
}

extern "C" __global__ void softmax_statistics(const kp_bf16* x, float2* found, int64_t columns) {
  const float2 whole = statistics(x + blockIdx.x * columns, columns);
  if (threadIdx.x == 0) found[blockIdx.x] = whole;
}

extern "C" __global__ void softmax_apply(const kp_bf16* x, kp_bf16* y, const float2* found,
                                         int64_t columns) {
  const float2 whole = found[blockIdx.y];
  const int64_t start = blockIdx.y * columns;
  const int64_t stride = int64_t(gridDim.x) * blockDim.x;
  for (int64_t n = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; n < columns; n += stride) {
    y[start + n] = __float2bfloat16(expf(__bfloat162float(x[start + n]) - whole.x) / whole.y);
  }
}
"""

TILES_CU = """
struct alignas(64) Map { char bytes[128]; };

// Eight rows of a tile that the bulk copy engine brings; a warp for each row.
extern "C" __global__ void softmax_tiles(const __grid_constant__ Map map, kp_bf16* y, int rows,
                                         int columns) {
  extern __shared__ __align__(128) kp_bf16 tile[];
  __shared__ __align__(8) unsigned long long arrived;
  const unsigned barrier = __cvta_generic_to_shared(&arrived);
  const unsigned target = __cvta_generic_to_shared(tile);
  const int first = blockIdx.x * 8;
  if (threadIdx.x == 0) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier));
    asm volatile("fence.mbarrier_init.release.cluster;");
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier),
                 "r"(8 * columns * 2));
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%2, %3}], [%4];" ::"r"(target),
        "l"(&map), "r"(0), "r"(first), "r"(barrier)
        : "memory");
  }
  __syncthreads();
  for (unsigned done = 0; !done;) {
    asm volatile(
        "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], 0; "
        "selp.u32 %0, 1, 0, p; }"
        : "=r"(done)
        : "r"(barrier)
        : "memory");
  }
  const int row = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (first + row >= rows) return;
  float top = kLowest, sum = 0.0f;
  for (int n = lane; n < columns; n += 32)
    top = fmaxf(top, __bfloat162float(tile[row * columns + n]));
  for (int other = 16; other > 0; other /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, other));
  for (int n = lane; n < columns; n += 32)
    sum += expf(__bfloat162float(tile[row * columns + n]) - top);
  for (int other = 16; other > 0; other /= 2) sum += __shfl_xor_sync(~0u, sum, other);
  for (int n = lane; n < columns; n += 32) {
    const float value = expf(__bfloat162float(tile[row * columns + n]) - top) / sum;
    y[int64_t(first + row) * columns + n] = __float2bfloat16(value);
  }
}
"""

TILES_PLAN = """
  {"guard": "N % 8 == 0 and N <= 256 and B < 2000000000",
   "launches": [{"kernel": "softmax_tiles", "grid": ["ceil_div(B, 128) * 16", "1", "1"],
     "block": ["256", "1", "1"], "cluster": ["16", "1", "1"], "shared_bytes": "16 * N",
     "arguments": [{"tensor": "x", "box": ["8", "N"], "l2_promotion": "128B"}, "y",
       {"value": "B", "type": "i32"}, {"value": "N", "type": "i32"}]}]}"""

RMSNORM_CU = """
#include "problem.h"

extern "C" __global__ void rmsnorm_rows(const kp_bf16* x, const kp_bf16* residual,
                                        const kp_bf16* weight, kp_bf16* y, kp_bf16* total,
                                        double wide_eps, float eps, int columns) {
  __shared__ float parts[8];
  const int64_t start = int64_t(blockIdx.x) * columns;
  float squares = 0.0f;
  for (int n = threadIdx.x; n < columns; n += 256) {
    const float sum = __bfloat162float(x[start + n]) + __bfloat162float(residual[start + n]);
    total[start + n] = __float2bfloat16(sum);
    squares += sum * sum;
  }
  for (int lane = 16; lane > 0; lane /= 2) squares += __shfl_xor_sync(~0u, squares, lane);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = squares;
  __syncthreads();
  squares = 0.0f;
  for (int warp = 0; warp < 8; ++warp) squares += parts[warp];
  const float both = 0.5f * (eps + static_cast<float>(wide_eps));
  const float scale = rsqrtf(squares / columns + both);
  for (int n = threadIdx.x; n < columns; n += 256) {
    const float sum = __bfloat162float(x[start + n]) + __bfloat162float(residual[start + n]);
    y[start + n] = __float2bfloat16(sum * scale * __bfloat162float(weight[n]));
  }
}
"""

RMSNORM_PLANS = """[
  {"launches": [{"kernel": "rmsnorm_rows", "grid": ["M", "1", "1"], "block": ["256", "1", "1"],
     "arguments": ["x", "residual", "weight", "y", "residual_out", "eps",
       {"value": "eps", "type": "f32"}, {"value": "H", "type": "i32"}]}]}
]"""

SOFTMAX_PLANS = """[
  {"guard": "N % 8 == 0 and N <= 16384",
   "launches": [{"kernel": "softmax_rows", "grid": ["B", "1", "1"],
     "block": ["min(256, max(32, ceil_div(N, 256) * 32))", "1", "1"], "shared_bytes": "4 * N",
     "arguments": ["x", "y", {"value": "N", "type": "i32"}]}]},
  {"guard": "B <= 65535",
   "workspace_bytes": "16 * ceil_div(B, 2)",
   "launches": [
     {"kernel": "softmax_statistics", "grid": ["B", "1", "1"], "block": ["256", "1", "1"],
      "arguments": ["x", {"workspace": "0"}, "N"]},
     {"kernel": "softmax_apply", "grid": ["ceil_div(N, 4096)", "B", "1"],
      "block": ["256", "1", "1"], "arguments": ["x", "y", "workspace", "N"]}]}
]"""

SOFTMAX_TRITON = """
import triton
import triton.language as tl


@triton.jit
def softmax_rows(x, y, columns, WIDTH: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * columns
    offsets = tl.arange(0, WIDTH)
    inside = offsets < columns
    row = tl.load(x + start + offsets, mask=inside, other=-float("inf")).to(tl.float32)
    row = tl.exp(row - tl.max(row, axis=0))
    row = row / tl.sum(row, axis=0)
    tl.store(y + start + offsets, row.to(y.dtype.element_ty), mask=inside)
"""

TRITON_PLANS = """[
  {"guard": "N <= 128",
   "launches": [{"kernel": "softmax_rows", "grid": ["B", "1", "1"], "block": ["32", "1", "1"],
     "arguments": ["x", "y", "N"], "constants": {"WIDTH": 128}}]},
  {"guard": "N <= 1024",
   "launches": [{"kernel": "softmax_rows", "grid": ["B", "1", "1"], "block": ["256", "1", "1"],
     "arguments": ["x", "y", {"value": "N", "type": "i32"}], "constants": {"WIDTH": 1024}}]}
]"""

_PLANS: TypeAdapter[tuple[LaunchPlan, ...]] = TypeAdapter(tuple[LaunchPlan, ...])
_SMALL_BYTES = 1 << 22


def cuda_softmax(text: str = SOFTMAX_CU, plans: str = SOFTMAX_PLANS) -> Candidate:
    return Candidate(
        language=Language.CUDA,
        sources=(Source(path="kernel.cu", text=text),),
        plans=_PLANS.validate_json(plans),
        flags=("--gpu-architecture=sm_90a",),
    )


def tiled_softmax() -> Candidate:
    """Tensor maps, clusters of a size that has to be asked for, and the plans of the other."""
    return cuda_softmax(SOFTMAX_CU + TILES_CU, SOFTMAX_PLANS.replace("[", f"[{TILES_PLAN},", 1))


def cuda_rmsnorm() -> Candidate:
    """Two outputs, and a scalar passed in two types."""
    return cuda_softmax(RMSNORM_CU, RMSNORM_PLANS)


def triton_softmax() -> Candidate:
    return Candidate(
        language=Language.TRITON,
        sources=(Source(path="candidate.py", text=SOFTMAX_TRITON),),
        plans=_PLANS.validate_json(TRITON_PLANS),
        flags=("--gpu-architecture=sm_90a",),
    )


def small(target: Target) -> Target:
    """Keep shapes that a processor checks in a moment."""
    size = target.problem.required_bytes
    kept = tuple(w for w in target.workloads if size(w) <= _SMALL_BYTES)
    return target.model_copy(update={"workloads": kept})


class DeviceRun(ShippedRun):
    """A synthetic run of a target for a GPU; candidates are given."""

    def __init__(self, root: Path, *candidates: Candidate, target: Target | None = None) -> None:
        chosen = target or small(load_target("softmax", "cuda"))
        super().__init__(root, chosen.name, ("",))
        environment = make_environment(machine="NVIDIA H200", arch="sm_90a", compiler="")
        self.manifest: RunManifest = make_manifest(target=chosen, environment=environment)
        self.files.write_manifest(self.manifest)
        self.candidates = candidates

    def candidate(self, text: str = "") -> Candidate:
        assert not text, "candidates are given"
        return self.candidates[min(len(self.attempts), len(self.candidates) - 1)]

    def built(self, cache: Path) -> dict[str, Built]:
        """What the runner hands over of every promoted candidate."""
        return {
            attempt.attempt_id: build_job(
                Build(
                    job_id=f"ship-{attempt.attempt_id}",
                    problem=self.manifest.target.problem,
                    candidate=self.files.candidate(attempt.candidate_digest),
                    returns_files=True,
                ),
                workspace=cache,
            )
            for attempt in self.files.attempts()
            if attempt.version
        }


def device_repository(root: Path, *candidates: Candidate, target: Target | None = None) -> Path:
    """Ship a run in which every candidate was promoted; the last one serves."""
    run = DeviceRun(root / "run", *candidates, target=target)
    for _ in candidates:
        run.promoted(1.3)
    speedups = [{w.name: 1.3 + 0.2 * i for w in run.workloads} for i in range(len(candidates))]
    tuning = run.tuned(*speedups)
    attempts = run.files.attempts()
    return ship(run.files, run.manifest, attempts, tuning, run.finish(), run.built(root / "work"))


def plan_json(candidate: Candidate) -> list[dict[str, object]]:
    """The candidate's plans as `plan.json` holds them."""
    plans = [plan.model_dump(mode="json", exclude_defaults=True) for plan in candidate.plans]
    return list(json.loads(json.dumps(plans)))
