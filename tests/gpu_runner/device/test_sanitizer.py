import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.device import plants, sanitizer
from gpu_runner.device.sanitizer import (
    EXIT_FINDING,
    Finding,
    Tool,
    breakage,
    command,
    findings,
    has_only_warnings,
)
from gpu_runner.device.watched import find_tool
from gpu_runner.errors import ToolchainMissing
from tests.gpu_runner.device.tools import DATA, write_tool

BLOCK = """\
========= COMPUTE-SANITIZER
========= {head}
=========     at {place}
=========     by thread (0,0,0) in block (0,0,0)
=========
========= ERROR SUMMARY: 1 error
"""


@pytest.fixture
def on_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    sanitizer.version.cache_clear()
    yield tmp_path
    sanitizer.version.cache_clear()


def log(name):
    return (DATA / "sanitizer" / f"{name}.txt").read_text()


@pytest.mark.parametrize(
    ("tool", "what", "line"),
    [
        (Tool.MEMCHECK, "Invalid __global__ write of size 4 bytes", 3),
        (Tool.INITCHECK, "Uninitialized __global__ memory read of size 4 bytes", 3),
        (Tool.SYNCCHECK, "Barrier error detected. Invalid arguments", 7),
        (Tool.RACECHECK, "Race reported", 4),
    ],
)
def test_capture_of_a_planted_fault_names_kernel_and_line(tool, what, line):
    found = findings(log(tool.value))
    assert found[0] == Finding(what=what, kernel="plant", place=f"{tool.value}.cu:{line}")
    assert len(found) == 1
    assert found[0].what.startswith(plants.SAYS[tool])


def test_clean_capture_has_no_finding():
    assert findings(log("clean")) == ()
    assert breakage(log("clean")) is None


def test_line_named_is_that_of_the_planted_fault():
    for tool in Tool:
        text = plants.plant(tool).sources[0].text.splitlines()
        line = int(findings(log(tool.value))[0].place.partition(":")[2])
        assert text[line - 1].strip().startswith(("y[", "shared[", "__syncwarp")), tool


@pytest.mark.parametrize(
    ("head", "place", "finding"),
    [
        (
            "Invalid __shared__ read of size 16 bytes",
            "tile<128>(const __half *, int)+0x1f0 in /tmp/build/kernel.cu:40",
            Finding(
                what="Invalid __shared__ read of size 16 bytes",
                kernel="tile<128>",
                place="/tmp/build/kernel.cu:40",
            ),
        ),
        (
            "Invalid __global__ atomic of size 4 bytes",
            "reduce+0x40",
            Finding(what="Invalid __global__ atomic of size 4 bytes", kernel="reduce"),
        ),
        (
            "Misaligned address",
            "copy(float4 *)+0x10 in kernel.cu:3",
            Finding(what="Misaligned address", kernel="copy", place="kernel.cu:3"),
        ),
        (
            "Barrier error detected. Divergent thread(s) in block.",
            "k(int *)+0xa0 in kernel.cu:9",
            Finding(
                what="Barrier error detected. Divergent thread(s) in block",
                kernel="k",
                place="kernel.cu:9",
            ),
        ),
        (
            "Stack overflow",
            "deep+0x20 in kernel.cu:2",
            Finding(what="Stack overflow", kernel="deep", place="kernel.cu:2"),
        ),
    ],
)
def test_words_of_the_tools_are_understood(head, place, finding):
    assert findings(BLOCK.format(head=head, place=place)) == (finding,)


def test_fault_in_a_function_of_the_candidate_names_that_line_and_the_kernel():
    text = BLOCK.format(
        head="Invalid __global__ read of size 4 bytes",
        place="load(const float *)+0x8 in rows.cuh:5",
    ).replace(
        "=========     by",
        "=========         Device Frame: softmax+0x90 in kernel.cu:21\n=========     by",
    )
    (found,) = findings(text)
    assert (found.kernel, found.place) == ("softmax", "rows.cuh:5")


def test_fault_without_a_place_is_a_finding_still():
    text = "========= Invalid __global__ write of size 8 bytes\n=========     by thread (0,0,0)\n"
    assert findings(text) == (Finding(what="Invalid __global__ write of size 8 bytes"),)


def test_two_faults_with_no_blank_line_between_are_two():
    text = log("memcheck") + log("initcheck")
    assert [found.place for found in findings(text)] == ["memcheck.cu:3", "initcheck.cu:3"]


def test_a_fault_seen_by_many_threads_is_told_once():
    assert log("synccheck").count("Barrier error detected") > 1
    assert len(findings(log("synccheck"))) == 1


@pytest.mark.parametrize(
    ("finding", "sentence"),
    [
        (Finding(what="Race reported", kernel="k", place="k.cu:4"), "Race reported in k at k.cu:4"),
        (Finding(what="Race reported", kernel="k"), "Race reported in k"),
        (Finding(what="Race reported"), "Race reported"),
    ],
)
def test_finding_is_one_sentence(finding, sentence):
    assert str(finding) == sentence


@pytest.mark.parametrize(
    "line",
    [
        "========= Error: Target application terminated before first instrumented API call",
        "========= Device not supported. Please refer to the documentation",
        "========= Internal Sanitizer Error: Failed to initialize",
        "========= Unable to find injection library libsanitizer-collection.so",
    ],
)
def test_tool_that_does_not_work_says_so(line):
    text = f"========= COMPUTE-SANITIZER\n{line}\n========= ERROR SUMMARY: 0 errors\n"
    assert breakage(text) == line.removeprefix("========= ")
    assert findings(text) == ()


@pytest.mark.parametrize(
    ("summary", "is_harmless"),
    [
        ("1 hazard displayed (0 errors, 1 warning)", True),
        ("2 hazards displayed (1 error, 1 warning)", False),
        ("0 hazards displayed (0 errors, 0 warnings)", True),
    ],
)
def test_warnings_of_racecheck_are_no_fault(summary, is_harmless):
    warning = "========= Warning: Race reported between Write access at k+0x10 in k.cu:3\n"
    text = f"{warning}=========     and Write access at k+0x20 in k.cu:4\n=========\n"
    assert findings(text) == ()
    assert has_only_warnings(f"{text}========= RACECHECK SUMMARY: {summary}\n") == is_harmless


def test_errors_of_racecheck_are_no_warnings():
    assert not has_only_warnings(log("racecheck"))


@given(st.text(max_size=300))
def test_any_text_is_read(text):
    for found in findings(text):
        assert found.what


@given(st.lists(st.sampled_from([*log("synccheck").splitlines(), *log("racecheck").splitlines()])))
def test_any_order_of_lines_gives_places_that_are_in_it(lines):
    text = "\n".join(lines)
    for found in findings(text):
        assert found.what in text
        assert found.place in text


def test_command_names_tool_and_exit_code(on_path):
    path = write_tool(on_path, "compute-sanitizer", "")
    line = command(Tool.RACECHECK, ["program", "--job", "x"])
    assert line[:3] == [str(path), "--tool", "racecheck"]
    assert line[line.index("--error-exitcode") + 1] == str(EXIT_FINDING)
    assert line[-3:] == ["program", "--job", "x"]


def test_only_memcheck_pads_allocations(on_path):
    write_tool(on_path, "compute-sanitizer", "")
    padded = [tool for tool in Tool if "--padding" in command(tool, ["program"])]
    assert padded == [Tool.MEMCHECK]


def test_version_is_asked_of_the_tool(on_path):
    write_tool(on_path, "compute-sanitizer", "print('NVIDIA (R)\\nVersion 2025.3.1.0 (build 1)')\n")
    assert sanitizer.version() == "2025.3.1.0"


@pytest.mark.parametrize("body", ["", "sys.exit(1)\n", "print('no number')\n"])
def test_tool_that_has_no_version_is_missing(on_path, body):
    write_tool(on_path, "compute-sanitizer", body)
    with pytest.raises(ToolchainMissing, match="reinstall the CUDA toolkit"):
        sanitizer.version()


@pytest.mark.skipif(find_tool("compute-sanitizer") is not None, reason="it is installed")
def test_missing_tool_has_a_remedy(on_path):
    with pytest.raises(ToolchainMissing, match="install the CUDA toolkit"):
        sanitizer.version()
    with pytest.raises(ToolchainMissing, match="not installed"):
        command(Tool.MEMCHECK, ["program"])
