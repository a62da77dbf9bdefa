import pytest

from gpu_runner.device import plants, sanitizer
from gpu_runner.device.machine import identities
from gpu_runner.device.replay import EXIT_CUDA, EXIT_UNABLE
from gpu_runner.device.sanitizer import EXIT_FINDING, Tool
from gpu_runner.device.watched import Ended
from gpu_runner.errors import RunnerError, SubjectFailed, ToolchainMissing
from gpu_runner.jobs import Reason, Sanitize
from gpu_runner.languages.toolchain import Deadline
from gpu_runner.tasks import device_sanitize
from gpu_runner.tasks.device_sanitize import TOOL_TIMEOUT_S, refuse_findings
from gpu_runner.tasks.sanitize import sanitize
from tests.builders import make_workload
from tests.gpu_runner.device.tools import DATA, make_facts, write_tool
from tests.gpu_runner.tasks.test_device_profile import make_artefact

VERSION = "if '--version' in sys.argv:\n    print('Version 2025.3.1.0 (build 1)')\n    sys.exit()\n"
SAYS = """
tool = sys.argv[sys.argv.index("--tool") + 1]
print(open({data!r} + "/" + {name} + ".txt").read())
sys.exit({code})
"""
HIDDEN = make_workload(name="odd", axes={"B": 3, "N": 31}, visibility="hidden")


@pytest.fixture
def on_path(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    sanitizer.version.cache_clear()
    yield folder
    sanitizer.version.cache_clear()


def log(name):
    return (DATA / "sanitizer" / f"{name}.txt").read_text()


def ended(text="", code=0, errors=""):
    return Ended(returncode=code, output=text, errors=errors)


def refuse(said, tmp_path, workload=None, tool=Tool.MEMCHECK):
    refuse_findings(tool, said, workload or make_workload(), make_artefact(tmp_path))


def bench_of(tmp_path):
    (tmp_path / "folder").mkdir(exist_ok=True)
    return device_sanitize._Bench(tmp_path, tmp_path / "folder", make_facts(), Deadline(60))


def test_every_tool_has_a_limit():
    assert set(TOOL_TIMEOUT_S) == set(Tool)


@pytest.mark.parametrize("tool", list(Tool))
def test_finding_is_the_candidates_fault_with_kernel_and_line(tmp_path, tool):
    said = ended(log(tool.value), EXIT_FINDING)
    with pytest.raises(SubjectFailed) as failure:
        refuse(said, tmp_path, tool=tool)
    assert failure.value.reason is Reason.SANITIZER_FINDING
    assert f"plant at {tool.value}.cu:" in failure.value.message
    assert failure.value.message.endswith(f"{tool}, workload 'small'")
    assert "plant" in failure.value.log_tail


def test_more_than_one_finding_is_counted(tmp_path):
    with pytest.raises(SubjectFailed, match=r"\(and 1 more\)"):
        refuse(ended(log("memcheck") + log("initcheck"), EXIT_FINDING), tmp_path)


def test_finding_of_a_hidden_shape_tells_its_category_only(tmp_path):
    with pytest.raises(SubjectFailed, match="hidden shape") as failure:
        refuse(ended(log("memcheck"), EXIT_FINDING), tmp_path, HIDDEN)
    assert "odd" not in failure.value.message
    assert failure.value.log_tail == ""


@pytest.mark.parametrize("workload", [make_workload(), HIDDEN])
def test_exit_code_of_a_finding_counts_without_words(tmp_path, workload):
    with pytest.raises(SubjectFailed, match="a fault without a place"):
        refuse(ended("=========", EXIT_FINDING), tmp_path, workload)


def test_silence_is_clean(tmp_path):
    refuse(ended(log("clean")), tmp_path)


def test_harmless_races_are_clean(tmp_path):
    text = "========= RACECHECK SUMMARY: 1 hazard displayed (0 errors, 1 warning)\n"
    refuse(ended(text, EXIT_FINDING), tmp_path, tool=Tool.RACECHECK)


def test_tool_that_does_not_work_is_our_fault(tmp_path):
    text = "========= Device not supported. Please refer to the documentation\n"
    with pytest.raises(ToolchainMissing, match="Device not supported"):
        refuse(ended(text, EXIT_CUDA, "replay: cuMemAlloc: CUDA_ERROR_UNKNOWN"), tmp_path)


def test_kernel_that_fails_unseen_by_the_tool_is_refused_still(tmp_path):
    with pytest.raises(SubjectFailed, match="CUDA_ERROR_ILLEGAL_INSTRUCTION") as failure:
        refuse(
            ended(
                log("clean"), EXIT_CUDA, "replay: cuCtxSynchronize: CUDA_ERROR_ILLEGAL_INSTRUCTION"
            ),
            tmp_path,
        )
    assert failure.value.reason is Reason.CRASHED


def test_program_that_cannot_run_is_our_fault(tmp_path):
    with pytest.raises(RunnerError, match="no device can be used"):
        refuse(ended("", EXIT_UNABLE, "replay: no device can be used"), tmp_path)


def test_paths_of_ours_are_not_told(tmp_path):
    text = log("memcheck").replace("memcheck.cu:3", f"{tmp_path}/memcheck.cu:3")
    with pytest.raises(SubjectFailed) as failure:
        refuse(ended(text, EXIT_FINDING), tmp_path)
    assert str(tmp_path) not in failure.value.log_tail


@pytest.mark.parametrize("tool", list(Tool))
def test_tool_that_finds_its_plant_is_proven_once(on_path, tmp_path, tool):
    told = tmp_path / "told"
    says = SAYS.format(data=str(DATA / "sanitizer"), name="tool", code=EXIT_FINDING)
    write_tool(
        on_path, "compute-sanitizer", f"{VERSION}open({str(told)!r}, 'a').write('x')\n{says}"
    )
    bench = bench_of(tmp_path)
    bench.prove(tool)
    bench.prove(tool)
    assert told.read_text() == "x"


def test_proof_is_of_one_version_of_the_tool(on_path, tmp_path):
    told = tmp_path / "told"
    says = SAYS.format(data=str(DATA / "sanitizer"), name="tool", code=EXIT_FINDING)
    body = f"open({str(told)!r}, 'a').write('x')\n{says}"
    for version in ("2025.3", "2025.4"):
        write_tool(on_path, "compute-sanitizer", VERSION.replace("2025.3.1.0", version) + body)
        sanitizer.version.cache_clear()
        bench_of(tmp_path).prove(Tool.MEMCHECK)
    assert told.read_text() == "xx"


@pytest.mark.parametrize("name", ["'clean'", "'racecheck'"])
def test_tool_that_misses_its_plant_proves_nothing(on_path, tmp_path, name):
    says = SAYS.format(data=str(DATA / "sanitizer"), name=name, code=0)
    write_tool(on_path, "compute-sanitizer", f"{VERSION}{says}")
    for _ in range(2):
        with pytest.raises(ToolchainMissing, match="memcheck misses a planted fault here"):
            bench_of(tmp_path).prove(Tool.MEMCHECK)


def test_tool_that_cannot_work_here_says_why(on_path, tmp_path):
    write_tool(on_path, "compute-sanitizer", f"{VERSION}print('========= Device not supported')\n")
    with pytest.raises(ToolchainMissing, match="Device not supported"):
        bench_of(tmp_path).prove(Tool.RACECHECK)


def test_too_slow_names_tool_and_workload():
    said = device_sanitize._too_slow("j", Tool.RACECHECK, make_workload())
    assert (said.cause, said.is_retryable) == ("timed_out", False)
    assert "workload 'small' did not end in time under racecheck" in said.message
    hidden = device_sanitize._too_slow("j", Tool.RACECHECK, HIDDEN)
    assert "a hidden shape" in hidden.message
    assert "odd" not in hidden.message


@pytest.mark.skipif(bool(identities()), reason="there is a CUDA device")
def test_machine_without_a_device_sanitizes_nothing(tmp_path):
    job = Sanitize(
        job_id="s",
        problem=plants.PROBLEM,
        candidate=plants.plant(Tool.MEMCHECK),
        workloads=(plants.WORKLOAD,),
    )
    with pytest.raises(ToolchainMissing, match="no GPU answers here"):
        sanitize(job, workspace=tmp_path)
