"""What the doctor and the choice of processors say of machines that are not this one.

Each case is a process of its own: affinity is read when the module is imported.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpu_runner.host import machine, sandbox
from gpu_runner.host.machine import Diagnosis

ALLOWED = sorted(os.sched_getaffinity(0))


def told(code: str, *, cpus=None, **environment) -> object:
    """Return what a fresh process on these processors prints as JSON."""
    ahead = f"import json, os; os.sched_setaffinity(0, {set(cpus or ALLOWED)!r})\n"
    finished = subprocess.run(
        [sys.executable, "-c", ahead + "from gpu_runner.host import machine\n" + code],
        check=True,
        capture_output=True,
        env={**os.environ, **environment},
    )
    return json.loads(finished.stdout)


PICK = "print(json.dumps([[sorted(s) for s in machine.pick_cpus(n)] for n in (1, 2, 5)]))"


def test_on_one_processor_the_supervisor_shares_it():
    (only,) = ALLOWED[-1:]
    assert told(PICK, cpus=[only]) == [[[only], [only]]] * 3


@pytest.mark.skipif(len(ALLOWED) < 2, reason="needs two processors")
def test_on_two_processors_one_thread_has_its_own():
    first, last = ALLOWED[-2:]
    both = [first, last]
    assert told(PICK, cpus=both) == [[[first], [last]], [both, both], [both, both]]


def test_a_record_counts_the_processors_it_may_use():
    code = "print(json.dumps(machine.environment().cores))"
    assert told(code, cpus=ALLOWED[:1]) == 1


DOCTOR = (
    "print(json.dumps({d.name: [d.is_ok, d.detail, d.remedy] for d in machine.doctor_lines()}))"
)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    """What the doctor says where no program is on PATH."""
    found = told(DOCTOR, PATH=str(tmp_path_factory.mktemp("empty")))
    assert isinstance(found, dict)
    return found


def test_a_bare_machine_lacks_its_tools_by_name(bare):
    assert bare["C++ compiler"] == [
        False,
        "g++ is not on PATH",
        "install g++; candidates in C++ need it",
    ]
    assert bare["C compiler"][1] == "none of cc, gcc, clang is on PATH"
    assert bare["hardware counters"][0] is False
    assert str(bare["hardware counters"][1]).startswith("perf not on PATH, paranoid level ")
    assert bare["sandbox: bubblewrap"][0] is False
    assert "bubblewrap" in str(bare["sandbox: bubblewrap"][2])


def test_a_bare_machine_keeps_what_needs_no_program(bare):
    assert bare["torch"][0] is True
    assert bare["sandbox: rlimits"][0] is True
    assert bare["sandbox: user"][0] is False  # a user namespace comes with bubblewrap


def test_nothing_is_both_well_and_to_be_mended(bare):
    here = {line.name: [line.is_ok, line.detail, line.remedy] for line in machine.doctor_lines()}
    for lines in (bare, here):
        for name, (is_ok, detail, remedy) in lines.items():
            assert detail, name
            assert not (is_ok and remedy), name


def write_compiler(folder: Path, name: str, script: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("script", "version"),
    [
        ("printf 'g++ (Distro) 13.3.0\\nCopyright\\n'", "g++ (Distro) 13.3.0"),
        ("printf '  spaced 1.0  '", "spaced 1.0"),
        ("printf '\\377 odd 2.0\\n'", "\ufffd odd 2.0"),
        ("exit 1", ""),
        ("echo usage >&2", ""),
    ],
)
def test_a_version_is_the_first_line_a_compiler_prints(tmp_path, monkeypatch, script, version):
    write_compiler(tmp_path, "g++", script)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert machine._version(("g++",)) == version


def test_the_first_compiler_that_is_there_is_asked(tmp_path, monkeypatch):
    write_compiler(tmp_path, "clang++", "echo clang 17")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine._version(("g++", "c++", "clang++")) == "clang 17"
    assert machine._version(("g++", "c++")) == ""


def test_a_file_that_cannot_be_executed_has_no_version(tmp_path, monkeypatch):
    program = tmp_path / "g++"
    program.write_bytes(b"\x7fELF, but not really")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine._version(("g++",)) == ""


def test_a_kernel_file_that_is_not_there_is_empty(tmp_path):
    assert machine._read(str(tmp_path / "none")) == ""
    assert machine._read(str(tmp_path)) == ""  # a directory
    (tmp_path / "level").write_bytes(b" 2\xff\n")
    assert machine._read(str(tmp_path / "level")) == "2\ufffd"


def test_a_processor_has_a_name_and_unknown_fields_none():
    assert machine._cpu_field("no such field") == ""
    assert machine._cpu_field("processor") == "0"


LAYERS = ("bubblewrap", "user", "seccomp", "cgroup", "rlimits", "landlock")


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("is_active", [True, False])
def test_a_layer_is_mended_only_where_it_is_missing(name, is_active):
    layer = sandbox.Layer(name=name, is_active=is_active, detail="why")
    line = machine._of_layer(layer)
    assert isinstance(line, Diagnosis)
    assert (line.name, line.is_ok, line.detail) == (f"sandbox: {name}", is_active, "why")
    assert bool(line.remedy) == (not is_active and name not in {"rlimits", "landlock"})


def test_active_layers_are_the_probed_ones_that_work():
    layers = sandbox.probe()
    assert sandbox.active_layers() == tuple(layer.name for layer in layers if layer.is_active)
    assert {layer.name for layer in layers} <= set(LAYERS)
