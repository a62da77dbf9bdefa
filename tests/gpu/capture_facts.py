"""Captures what ncu, compute-sanitizer, NVML and the driver say of a few small kernels of ours.

Usage: `python -m tests.gpu.capture_facts FOLDER [health|counters|caches|findings]...`. The files
it leaves are what the parsers are tested against on machines without a device
(`tests/data/ncu`, `tests/data/sanitizer`).
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from gpu_runner.candidate import Candidate, Language, Launch, LaunchPlan, Source
from gpu_runner.device import machine, ncu, plants
from gpu_runner.device.health import HealthWatch, probe_launch
from gpu_runner.device.kernel_index import CompiledKernel, write_index
from gpu_runner.device.ncu_facts import kernel_facts
from gpu_runner.device.replay import Replay
from gpu_runner.device.sanitizer import Tool, command, findings
from gpu_runner.device.watched import find_tool, replay_command, run_watched
from gpu_runner.problem import Problem, Workload
from tests.builders import make_problem

SOFTMAX = """
extern "C" __global__ void row_top(const float* x, float* y, long long n) {
  __shared__ float part[256];
  const float* row = x + blockIdx.x * n;
  float top = -1e38f;
  for (long long i = threadIdx.x; i < n; i += 256) top = fmaxf(top, row[i]);
  part[threadIdx.x] = top;
  __syncthreads();
  for (int half = 128; half > 0; half /= 2) {
    if (threadIdx.x < half) part[threadIdx.x] = fmaxf(part[threadIdx.x], part[threadIdx.x + half]);
    __syncthreads();
  }
  if (threadIdx.x == 0) y[blockIdx.x] = part[0];
}

extern "C" __global__ void row_softmax(const float* x, float* y, long long n) {
  __shared__ float part[256];
  const float* row = x + blockIdx.x * n;
  float* out = y + blockIdx.x * n;
  float sum = 0.0f;
  for (long long i = threadIdx.x; i < n; i += 256) sum += expf(row[i]);
  part[threadIdx.x] = sum;
  __syncthreads();
  for (int half = 128; half > 0; half /= 2) {
    if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
    __syncthreads();
  }
  for (long long i = threadIdx.x; i < n; i += 256) out[i] = expf(row[i]) / part[0];
}

extern "C" __global__ void astray(const float* x, float* y, long long n) {
  y[(threadIdx.x + 1) * (1ll << 36)] = x[0];
}
"""


def launch(kernel: str, *arguments: str) -> Launch:
    return Launch(
        kernel=kernel,
        grid=("B", "1", "1"),
        block=("256", "1", "1"),
        arguments=arguments or ("x", "y", "N"),
    )


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


@dataclass
class Made:
    """A candidate compiled by hand: what a builder would leave."""

    problem: Problem
    candidate: Candidate
    artefact: Path

    def replay(self, workload: Workload) -> Replay:
        return Replay(problem=self.problem, plans=self.candidate.plans, workload=workload)


def make(folder: Path, name: str, problem: Problem, candidate: Candidate) -> Made:
    artefact = folder / name
    artefact.mkdir(parents=True)
    source = artefact / candidate.sources[0].path
    source.write_text(candidate.sources[0].text)
    nvcc = find_tool("nvcc")
    assert nvcc
    target = artefact / "kernel.cubin"
    flags = ["-cubin", "-arch=sm_90a", "--generate-line-info", "--ptxas-options=-v"]
    argv = [nvcc, *flags, source.name, "-o", str(target)]
    subprocess.run(argv, check=True, cwd=artefact, capture_output=True)
    index = {
        f"0.{number}": CompiledKernel(
            cubin="kernel.cubin",
            symbol=one.kernel,
            shared_bytes=0,
            is_dynamic_shared=False,
            parameters=("u64",) * len(one.arguments),
            hidden=0,
        )
        for number, one in enumerate(candidate.plans[0].launches)
    }
    write_index(artefact, index)
    return Made(problem, candidate, artefact)


def softmax(*launches: Launch) -> Candidate:
    return Candidate(
        language=Language.CUDA,
        sources=(Source(path="kernel.cu", text=SOFTMAX),),
        plans=(LaunchPlan(launches=launches),),
    )


def program(made: Made, workload: Workload, folder: Path, *, is_timed: bool = False) -> list[str]:
    return replay_command(
        made.replay(workload),
        made.artefact,
        folder=folder,
        repeat=5 if is_timed else 1,
        warmups=1,
        is_timed=is_timed,
    )


def capture_counters(folder: Path, out: Path) -> None:
    problem = make_problem()
    large = Workload(name="large", axes={"B": 4096, "N": 4096})
    one = make(folder, "one", problem, softmax(launch("row_softmax")))
    two = make(folder, "two", problem, softmax(launch("row_top"), launch("row_softmax")))
    timed = run_watched(program(one, large, folder, is_timed=True), timeout_s=60, folder=folder)
    say("timed", timed.returncode, timed.output.strip()[:400], timed.errors.strip()[-300:])
    tool = ncu.capability()
    say("ncu", tool)
    for name, made, launches, uses_ranges in (
        ("one_cold", one, 1, True),
        ("two_warm", two, 2, True),
    ):
        line = ncu.command(
            tool.path, program(made, large, folder), launches=launches, uses_ranges=uses_ranges
        )
        started = time.monotonic()
        ended = run_watched(line, timeout_s=60, folder=folder)
        (out / f"ncu_{name}.csv").write_text(ended.output + ended.errors)
        took = time.monotonic() - started
        say(f"{name} rc {ended.returncode} {took:.1f} s, {len(ended.output)} characters")
        for found in ncu.read(ended, timeout_s=60):
            say("   ", kernel_facts(found, workload="large").model_dump_json()[:700])


def compare_cache_controls(folder: Path, _out: Path) -> None:
    """Print what the caches' state does to the counters where all data fit into the L2."""
    one = make(folder, "fits", make_problem(), softmax(launch("row_softmax")))
    fits = Workload(name="fits", axes={"B": 1024, "N": 4096})
    timed = run_watched(program(one, fits, folder, is_timed=True), timeout_s=60, folder=folder)
    say("cold, by events", timed.output.strip())
    for launches in (1, 2):
        line = ncu.command(ncu.capability().path, program(one, fits, folder), launches=launches)
        ended = run_watched(line, timeout_s=60, folder=folder)
        found = kernel_facts(ncu.read(ended, timeout_s=60)[0], workload="fits")
        control = line[line.index("--cache-control") + 1]
        say(f"cache control {control}: {found.time_us} us, {found.dram_bytes} bytes of DRAM")


def capture_findings(folder: Path, out: Path) -> None:
    for tool in Tool:
        planted = make(folder, tool.value, plants.PROBLEM, plants.plant(tool))
        line = command(tool, program(planted, plants.WORKLOAD, folder))
        ended = run_watched(line, timeout_s=20, folder=folder)
        log = ended.output + ended.errors
        (out / f"{tool}.txt").write_text(log)
        say(f"{tool} rc {ended.returncode}", [str(one) for one in findings(log)])


def capture_health(folder: Path, out: Path) -> None:
    for facts in machine.devices():
        say(facts.model_dump_json())
    say(machine.device_environment())
    smi = find_tool("nvidia-smi")
    if smi:
        query = f"--query-gpu={','.join(machine._SMI_FIELDS)}"
        said = subprocess.run(
            [smi, query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            check=False,
        )
        (out / "smi.csv").write_text(said.stdout)
        say("smi", said.returncode, said.stdout, said.stderr, machine.smi_states(said.stdout))
    astray = make(folder, "astray", make_problem(), softmax(launch("astray")))
    with HealthWatch() as watch:
        workload = Workload(name="small", axes={"B": 1, "N": 300})
        ended = run_watched(program(astray, workload, folder), timeout_s=60, folder=folder)
        say("astray", ended.returncode, ended.errors.strip()[-300:])
        time.sleep(0.5)
        xids = watch._events.take()
        started = time.monotonic()
        say("xids", xids, "probe", probe_launch(), f"{time.monotonic() - started:.2f} s")
        started = time.monotonic()
        watch.refuse_unhealthy()
        say(f"healthy after, {1e3 * (time.monotonic() - started):.0f} ms")
    (out / "devices.json").write_text(
        json.dumps([facts.model_dump() for facts in machine.devices()], indent=1)
    )


PARTS = {
    "health": capture_health,
    "counters": capture_counters,
    "caches": compare_cache_controls,
    "findings": capture_findings,
}


def main(out: Path, *parts: str) -> int:
    out.mkdir(parents=True, exist_ok=True)
    for name in parts or PARTS:
        folder = out / "scratch" / name
        folder.mkdir(parents=True)
        PARTS[name](folder, out)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
