import pytest

from gpu_runner.candidate import Candidate, Language, Launch, LaunchPlan, Source
from gpu_runner.device import plants
from gpu_runner.device.health import HealthWatch, probe_launch
from gpu_runner.device.machine import device_environment, devices, identities
from gpu_runner.device.sanitizer import Tool
from gpu_runner.errors import SubjectFailed
from gpu_runner.host.machine import doctor_lines
from gpu_runner.jobs import Profile, Profiled, Reason, Sanitize, Sanitized
from gpu_runner.tasks.profile import profile
from gpu_runner.tasks.sanitize import sanitize
from tests.builders import make_problem, make_workload

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.processes,
    pytest.mark.skipif(not identities(), reason="no CUDA device"),
]

SOFTMAX = """
extern "C" __global__ void row_top(const float* x, float* top, long long n) {
  __shared__ float part[256];
  float most = -1e38f;
  for (long long i = threadIdx.x; i < n; i += 256) most = fmaxf(most, x[blockIdx.x * n + i]);
  part[threadIdx.x] = most;
  __syncthreads();
  for (int half = 128; half > 0; half /= 2) {
    if (threadIdx.x < half) part[threadIdx.x] = fmaxf(part[threadIdx.x], part[threadIdx.x + half]);
    __syncthreads();
  }
  if (threadIdx.x == 0) top[blockIdx.x] = part[0];
}

extern "C" __global__ void row_softmax(const float* x, const float* top, float* y, long long n) {
  __shared__ float part[256];
  const float most = top[blockIdx.x];
  const float* row = x + blockIdx.x * n;
  float sum = 0.0f;
  for (long long i = threadIdx.x; i < n; i += 256) sum += expf(row[i] - most);
  part[threadIdx.x] = sum;
  __syncthreads();
  for (int half = 128; half > 0; half /= 2) {
    if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
    __syncthreads();
  }
  float* out = y + blockIdx.x * n;
  for (long long i = threadIdx.x; i < n; i += 256) out[i] = expf(row[i] - most) / part[0];
}
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return tmp_path_factory.mktemp("workspace")


def softmax(text=SOFTMAX):
    def launch(kernel, *arguments):
        return Launch(
            kernel=kernel, grid=("B", "1", "1"), block=("256", "1", "1"), arguments=arguments
        )

    plan = LaunchPlan(
        launches=(
            launch("row_top", "x", "workspace", "N"),
            launch("row_softmax", "x", "workspace", "y", "N"),
        ),
        workspace_bytes="4 * B",
    )
    source = Source(path="kernel.cu", text=text)
    return Candidate(language=Language.CUDA, sources=(source,), plans=(plan,))


def test_devices_say_what_they_are_and_how_they_do():
    first = devices()[0]
    assert first.arch.startswith("sm_")
    assert first.multiprocessors > 0
    assert first.state is not None
    assert first.state.driver
    told = device_environment()
    assert told is not None
    assert (told.machine, told.arch) == (first.name, first.arch)
    assert f"driver {first.state.driver}" in told.kernel


def test_doctor_finds_the_device():
    lines = {line.name: line for line in doctor_lines()}
    assert lines["GPU 0"].is_ok
    assert lines["CUDA bindings"].is_ok


def test_profile_counts_events_of_each_launch_of_the_slowest_workload(workspace):
    large = make_workload(name="large", axes={"B": 1024, "N": 4096})
    problem = make_problem()
    job = Profile(
        job_id="p", problem=problem, candidate=softmax(), workloads=(make_workload(), large)
    )
    outcome = profile(job, workspace=workspace)
    assert isinstance(outcome, Profiled)
    facts = outcome.facts
    assert [roof.workload for roof in facts.roofline] == ["small", "large"]
    assert all(0 < roof.fraction_reached < 1.1 for roof in facts.roofline)
    assert [(k.kernel, k.workload) for k in facts.kernels] == [
        ("row_top", "large"),
        ("row_softmax", "large"),
    ]
    assert all(k.registers and k.occupancy_bound for k in facts.kernels)
    if all(k.source == "counters" for k in facts.kernels):
        assert sum(spot.share for spot in facts.hotspots) == pytest.approx(1)
        assert all(k.time_us and k.stalls for k in facts.kernels)
    else:
        assert any(text.startswith("counters: ") for text in facts.unavailable)


def test_clean_kernels_pass_every_tool(workspace):
    odd = make_workload(name="odd", axes={"B": 3, "N": 77})
    job = Sanitize(
        job_id="s", problem=make_problem(), candidate=softmax(), workloads=(odd,), timeout_s=300
    )
    outcome = sanitize(job, workspace=workspace)
    assert isinstance(outcome, Sanitized)
    assert [tool.split()[0] for tool in outcome.tools] == [tool.value for tool in Tool]


@pytest.mark.parametrize("tool", list(Tool))
def test_fault_is_found_with_kernel_and_line(workspace, tool):
    job = Sanitize(
        job_id="s",
        problem=plants.PROBLEM,
        candidate=plants.plant(tool),
        workloads=(plants.WORKLOAD,),
        timeout_s=300,
    )
    with pytest.raises(SubjectFailed) as failure:
        sanitize(job, workspace=workspace)
    assert failure.value.reason is Reason.SANITIZER_FINDING
    assert plants.SAYS[tool] in failure.value.message
    assert f"plant at {tool.value}.cu:" in failure.value.message


def test_fault_of_a_hidden_shape_tells_its_category_only(workspace):
    hidden = make_workload(name="odd", axes={"B": 3, "N": 77}, visibility="hidden")
    broken = softmax(SOFTMAX.replace("i < n; i += 256) out", "i <= n; i += 256) out"))
    job = Sanitize(
        job_id="s", problem=make_problem(), candidate=broken, workloads=(hidden,), timeout_s=300
    )
    with pytest.raises(SubjectFailed) as failure:
        sanitize(job, workspace=workspace)
    assert "hidden shape" in failure.value.message
    assert "odd" not in failure.value.message
    assert failure.value.log_tail == ""


def test_kernel_that_goes_astray_is_the_candidates_fault_on_a_healthy_device(workspace):
    astray = softmax(SOFTMAX.replace("out[i] =", "out[i + (1ll << 38)] ="))
    job = Profile(
        job_id="p", problem=make_problem(), candidate=astray, workloads=(make_workload(),)
    )
    with HealthWatch() as watch:
        with pytest.raises(SubjectFailed, match="CUDA_ERROR_ILLEGAL_ADDRESS") as failure:
            profile(job, workspace=workspace)
        watch.refuse_unhealthy(is_suspicious=True)
    assert failure.value.reason is Reason.CRASHED
    assert probe_launch().is_ok
