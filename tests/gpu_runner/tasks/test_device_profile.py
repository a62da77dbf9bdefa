import pytest

from gpu_runner.candidate import Candidate, Language, Source
from gpu_runner.device import ncu
from gpu_runner.device.concrete import ConcreteLaunch, Lowered
from gpu_runner.device.kernel_index import read_index, write_index
from gpu_runner.device.machine import identities
from gpu_runner.device.occupancy import occupancy
from gpu_runner.device.replay import Replay, Replayed
from gpu_runner.errors import RunnerError, SubjectFailed, ToolchainMissing
from gpu_runner.facts import Facts, KernelFacts
from gpu_runner.jobs import Profile, Reason
from gpu_runner.languages.artefact import Artefact
from gpu_runner.languages.toolchain import Deadline
from gpu_runner.problem import DType, Tensor
from gpu_runner.tasks.device_profile import (
    _Bench,
    assemble,
    device_ceilings,
    first_device,
    lowered_for,
    static_kernels,
)
from gpu_runner.tasks.profile import profile
from tests.builders import make_problem, make_workload
from tests.gpu_runner.device.plans import compiled, index_of, make_launch, make_plan
from tests.gpu_runner.device.tools import DATA, make_facts, make_state, write_tool

COPY_BYTES_PER_S = 4.0e12
has_no_driver = pytest.mark.skipif(bool(identities()), reason="there is a CUDA device")


def make_artefact(path, **counters):
    return Artefact(
        path=path,
        digest="a" * 64,
        language=Language.CUDA,
        calling="returning",
        compiler="nvrtc 13.0",
        log_tail="",
        seconds=0.1,
        is_cached=False,
        counters=counters,
    )


def problem_of(dtype, flops="8 * B * N"):
    return make_problem(
        inputs=(Tensor(name="x", shape=("B", "N"), dtype=dtype),),
        outputs=(Tensor(name="y", shape=("B", "N"), dtype=dtype),),
        flops=flops,
    )


def replayed(*times_us):
    return Replayed(times_us=times_us, copy_bytes_per_s=COPY_BYTES_PER_S)


def kernel(name, time_us=None, **changes):
    return KernelFacts(workload="large", kernel=name, source="counters", time_us=time_us, **changes)


def candidate_with(*plans):
    return Candidate(language=Language.CUDA, sources=(Source(path="k.cu", text="x"),), plans=plans)


@pytest.mark.parametrize(
    ("dtype", "peak"),
    [
        (DType.BFLOAT16, 4096),
        (DType.FLOAT16, 4096),
        (DType.INT8, 8192),
        (DType.FLOAT32, 256),
        (DType.FLOAT64, 256),
    ],
)
def test_arithmetic_ceiling_is_that_of_the_type(dtype, peak):
    ceilings = device_ceilings(make_facts(), COPY_BYTES_PER_S)
    assert ceilings is not None
    assert ceilings.peak(problem_of(dtype)) == pytest.approx(132 * 1.98e9 * peak)


def test_half_beside_a_wider_type_is_computed_in_the_wider():
    ceilings = device_ceilings(make_facts(), COPY_BYTES_PER_S)
    assert ceilings is not None
    mixed = make_problem(
        inputs=(
            Tensor(name="x", shape=("B", "N"), dtype=DType.BFLOAT16),
            Tensor(name="w", shape=("N",), dtype=DType.FLOAT32),
        )
    )
    assert ceilings.peak(mixed) == ceilings.float32_flops_per_s


@pytest.mark.parametrize(
    "facts",
    [
        make_facts(arch="sm_120a"),
        make_facts(state=None),
        make_facts(state=make_state(max_sm_mhz=None)),
    ],
)
def test_ceilings_that_are_not_known_are_none(facts):
    assert device_ceilings(facts, COPY_BYTES_PER_S) is None
    loads = [make_workload()]
    found = assemble(make_problem(), loads, {"small": replayed(9.0)}, facts, ())
    assert found.roofline == ()


def test_roofline_takes_the_least_time_and_the_measured_copy():
    load = make_workload(name="large", axes={"B": 4096, "N": 8192})
    problem = problem_of(DType.BFLOAT16)
    found = assemble(problem, [load], {"large": replayed(40.0, 36.0, 90.0)}, make_facts(), ())
    (roof,) = found.roofline
    assert roof.time_us == 36.0
    assert roof.bandwidth_bytes_per_s == COPY_BYTES_PER_S
    assert roof.floor_us == pytest.approx(2 * 2 * 4096 * 8192 / 4.0e6)
    assert roof.bound == "memory"
    assert found.tier == "gpu"


def test_matrix_work_is_bound_by_arithmetic():
    load = make_workload(name="large", axes={"B": 4096, "N": 4096})
    problem = problem_of(DType.BFLOAT16, flops="B * N * 4096 * 2")
    found = assemble(problem, [load], {"large": replayed(180.0)}, make_facts(), ())
    assert found.roofline[0].bound == "compute"


def test_hotspots_are_shares_of_the_call():
    kernels = (
        kernel("top", 10.0, dram_fraction=0.78, stalls={"long_scoreboard": 0.6, "wait": 0.4}),
        kernel("softmax", 30.0, occupancy_fraction=0.5),
    )
    found = assemble(make_problem(), [], {}, make_facts(), kernels)
    assert [(spot.symbol, spot.share) for spot in found.hotspots] == [
        ("top", 0.25),
        ("softmax", 0.75),
    ]
    assert found.hotspots[0].detail == "DRAM 78%, stalled by long_scoreboard 60%"
    assert found.hotspots[1].detail == "occupancy 50%"
    assert found.kernels == kernels
    assert Facts.model_validate_json(found.model_dump_json()) == found


def test_kernels_without_times_have_no_share():
    found = assemble(make_problem(), [], {}, make_facts(), (kernel("k"),))
    assert found.hotspots == ()


def test_one_kernel_must_move_what_the_call_must():
    problem = make_problem()
    load = make_workload(name="large")
    timed = {"large": replayed(9.0)}
    (alone,) = assemble(problem, [load], timed, make_facts(), (kernel("k"),)).kernels
    assert alone.workload == "large"
    assert alone.required_bytes == problem.required_bytes(load)
    two = assemble(problem, [load], timed, make_facts(), (kernel("k"), kernel("j"))).kernels
    assert [one.required_bytes for one in two] == [None, None]


def test_without_counters_there_is_arithmetic(tmp_path):
    launch = ConcreteLaunch(
        kernel="reduce",
        entry="kernel.cubin",
        symbol="reduce",
        grid=(8, 1, 1),
        block=(128, 2, 1),
        cluster=None,
        shared_bytes=65536,
        arguments=(),
    )
    lowered = Lowered(plan=0, launches=(launch,), workspace_bytes=0)
    plans = (make_plan(),)
    artefact = make_artefact(
        tmp_path, **{"reduce.spill_store_bytes": 8.0, "reduce.spill_load_bytes": 12.0}
    )
    index = index_of(plans, compiled(shared_bytes=1024, registers=40))
    (found,) = static_kernels(lowered, index, artefact, "sm_90a", "large")
    bound = occupancy("sm_90a", threads=256, registers=40, shared_bytes=66560)
    assert found == KernelFacts(
        workload="large",
        kernel="reduce",
        source="arithmetic",
        occupancy_bound=bound.fraction,
        occupancy_limiters=bound.limiters,
        registers=40,
        shared_bytes=66560,
        spill_bytes=20,
    )


def test_shared_memory_that_the_compiler_chose_is_counted_once(tmp_path):
    launch = ConcreteLaunch(
        kernel="k",
        entry="0.cubin",
        symbol="reduce",
        grid=(1, 1, 1),
        block=(128, 1, 1),
        cluster=None,
        shared_bytes=4096,
        arguments=(),
    )
    lowered = Lowered(plan=0, launches=(launch,), workspace_bytes=0)
    dynamic = compiled(shared_bytes=4096, is_dynamic_shared=True, registers=0)
    index = index_of((make_plan(),), dynamic)
    (found,) = static_kernels(lowered, index, make_artefact(tmp_path), "sm_90a", "large")
    assert found.shared_bytes == 4096
    assert found.registers is None
    assert found.spill_bytes is None


def test_plan_that_serves_no_shape_is_the_candidates_fault():
    plans = (make_plan(make_launch(), guard="N % 2"),)
    candidate = candidate_with(*plans)
    with pytest.raises(SubjectFailed, match="no plan serves the workload 'small'") as failure:
        lowered_for(make_problem(), candidate, index_of(plans), make_workload())
    assert failure.value.reason is Reason.LANGUAGE_MISMATCH


def test_plan_that_serves_no_hidden_shape_hears_no_size():
    plans = (make_plan(guard="N % 2"),)
    hidden = make_workload(name="odd", axes={"B": 77, "N": 1234}, visibility="hidden")
    with pytest.raises(SubjectFailed, match="hidden shape") as failure:
        lowered_for(make_problem(), candidate_with(*plans), index_of(plans), hidden)
    for secret in ("odd", "77", "1234"):
        assert secret not in failure.value.message


def test_plan_that_serves_is_lowered():
    plans = (make_plan(),)
    lowered = lowered_for(make_problem(), candidate_with(*plans), index_of(plans), make_workload())
    assert [launch.grid for launch in lowered.launches] == [(8, 1, 1)]


@has_no_driver
def test_machine_without_a_device_serves_no_profile(tmp_path):
    with pytest.raises(ToolchainMissing, match="send the job to a GPU worker"):
        first_device()
    job = Profile(
        job_id="p",
        problem=make_problem(),
        candidate=candidate_with(make_plan()),
        workloads=(make_workload(),),
    )
    with pytest.raises(ToolchainMissing, match="no GPU answers here"):
        profile(job, workspace=tmp_path)


def test_missing_index_names_the_remedy(tmp_path):
    with pytest.raises(Exception, match="build it again"):
        read_index(tmp_path)


# -- counters, from a double of ncu that prints what the real one printed ------------------------

TWO_LAUNCHES = Lowered(
    plan=0,
    launches=tuple(
        ConcreteLaunch(
            kernel=name,
            entry="kernel.cubin",
            symbol=name,
            grid=(4096, 1, 1),
            block=(256, 1, 1),
            cluster=None,
            shared_bytes=0,
            arguments=(),
        )
        for name in ("row_top", "row_softmax")
    ),
    workspace_bytes=0,
)
LARGE = make_workload(name="large", axes={"B": 4096, "N": 4096})


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """Count events of the plan of two launches, with a tool that does what a program text says."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(ncu, "_DRIVER_PARAMETERS", tmp_path / "none")

    def run(body, *, timeout_s=60.0):
        version = "if '--version' in sys.argv:\n    print('Version 2025.3.1')\n    sys.exit()\n"
        write_tool(tmp_path / "bin", "ncu", f"{version}{body}")
        ncu.capability.cache_clear()
        plans = (make_plan(make_launch(kernel="row_top"), make_launch(kernel="row_softmax")),)
        job = Profile(
            job_id="p",
            problem=make_problem(),
            candidate=candidate_with(*plans),
            workloads=(LARGE,),
        )
        artefact = make_artefact(
            tmp_path, **{"row_top.spill_store_bytes": 4.0, "row_top.spill_load_bytes": 4.0}
        )
        names = ("row_top", "row_softmax")
        index = {f"0.{i}": compiled(symbol=name) for i, name in enumerate(names)}
        static = static_kernels(TWO_LAUNCHES, index, artefact, "sm_90a", "large")
        bench = _Bench(job, artefact, make_facts(), tmp_path, Deadline(timeout_s))
        return static, *bench.counted(LARGE, TWO_LAUNCHES, static)

    yield run
    ncu.capability.cache_clear()


def printing(name):
    return f"sys.stdout.write(open({str(DATA / 'ncu' / name)!r}).read())\n"


def test_counters_come_launch_by_launch_with_the_compilers_spills(counted):
    _, kernels, missing = counted(printing("two.csv"))
    assert [k.kernel for k in kernels] == ["row_top", "row_softmax"]
    assert {k.source for k in kernels} == {"counters"}
    assert {k.workload for k in kernels} == {"large"}
    assert [k.spill_bytes for k in kernels] == [8, None]
    assert all(k.time_us and k.dram_bytes for k in kernels)
    assert missing == []


def test_tool_runs_the_replay_of_the_workload_once(counted, tmp_path):
    told = tmp_path / "told"
    body = f"open({str(told)!r}, 'w').write('\\n'.join(sys.argv[1:]))\n{printing('two.csv')}"
    counted(body)
    words = told.read_text().splitlines()
    assert "gpu_runner.device.replay" in words
    assert words[words.index("--repeat") + 1] == "1"
    assert words[words.index("--cache-control") + 1] == "none"
    assert "--time" not in words
    replay = Replay.model_validate_json((tmp_path / words[words.index("--job") + 1]).read_bytes())
    assert replay.workload == LARGE


def test_more_or_fewer_launches_than_the_plan_has_are_told(counted):
    _, kernels, missing = counted(printing("one.csv"))
    assert [k.kernel for k in kernels] == ["row_softmax"]
    assert missing == ["counters: 1 launches were profiled, the plan has 2"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("print('==ERROR== ERR_NVGPUCTRPERM - no permission')\n", "CAP_SYS_ADMIN"),
        ("print('==PROF== No kernels were profiled.')\n", "No kernels were profiled"),
        ("sys.exit(1)\n", "no launch was profiled"),
    ],
)
def test_without_counters_the_arithmetic_stays_and_the_reason_is_told(counted, body, said):
    static, kernels, missing = counted(body)
    assert kernels == static
    assert {k.source for k in kernels} == {"arithmetic"}
    (text,) = missing
    assert text.startswith("counters: ")
    assert said in text
    assert text.endswith("occupancy is arithmetic")


def test_late_profile_asks_for_no_counters(counted):
    static, kernels, missing = counted(printing("two.csv"), timeout_s=1.0)
    assert kernels == static
    assert missing == ["counters: no time was left for ncu"]


@has_no_driver
def test_replay_that_finds_no_device_is_our_fault(tmp_path):
    plans = (make_plan(),)
    write_index(tmp_path, index_of(plans))
    job = Profile(
        job_id="p",
        problem=make_problem(),
        candidate=candidate_with(*plans),
        workloads=(make_workload(),),
    )
    bench = _Bench(job, make_artefact(tmp_path), make_facts(), tmp_path, Deadline(60))
    with pytest.raises(RunnerError, match=r"no device can be used.*workload 'small'") as failure:
        bench.time(make_workload())
    assert not isinstance(failure.value, SubjectFailed)
