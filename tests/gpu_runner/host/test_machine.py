"""What is said of the machine."""

import os
import platform

import pytest

from gpu_runner.host import machine, sandbox


def test_environment_says_what_can_be_read():
    found = machine.environment()
    assert found.arch == platform.machine()
    assert found.kernel == platform.release()
    assert found.python == platform.python_version()
    assert found.cores == len(os.sched_getaffinity(0))
    assert found.memory_bytes > 1 << 28
    assert found.machine
    assert found.sandbox == sandbox.active_layers()


def test_environment_names_torch_without_importing_it():
    assert machine.environment().torch.split("+")[0].count(".") == 2


def test_vector_extensions_are_known_words():
    assert set(machine.environment().isa) <= set(machine._ISA)


def test_pressure_is_a_percentage():
    assert 0 <= machine.cpu_pressure_percent() <= 100


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_one_thread_gets_the_last_processor_and_the_supervisor_the_others():
    supervisor, subject = machine.pick_cpus(1)
    assert subject == {max(os.sched_getaffinity(0))}
    assert supervisor == os.sched_getaffinity(0) - subject


@pytest.mark.parametrize("threads", [1, 2, 3, 1000])
def test_both_always_have_a_processor(threads):
    supervisor, subject = machine.pick_cpus(threads)
    allowed = os.sched_getaffinity(0)
    assert supervisor
    assert len(subject) == min(threads, len(allowed))
    assert supervisor | subject == allowed


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_pinning_the_supervisor_does_not_change_the_choice():
    before = os.sched_getaffinity(0)
    chosen = machine.pick_cpus(1)
    try:
        os.sched_setaffinity(0, chosen[0])
        assert machine.pick_cpus(1) == chosen
    finally:
        os.sched_setaffinity(0, before)


def test_doctor_names_each_thing_once_and_how_to_mend_it():
    lines = machine.doctor_lines()
    names = [line.name for line in lines]
    assert len(set(names)) == len(names)
    for line in lines:
        assert line.detail
        assert line.is_ok == (line.remedy == "")
    for wanted in ("C++ compiler", "C compiler", "torch", "hardware counters"):
        assert wanted in names
    assert {f"sandbox: {layer.name}" for layer in sandbox.probe()} <= set(names)


def test_doctor_misses_a_compiler_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    lines = {line.name: line for line in machine.doctor_lines()}
    for name in ("C++ compiler", "C compiler"):
        assert not lines[name].is_ok
        assert "install" in lines[name].remedy


@pytest.mark.parametrize(
    ("text", "word"),
    [("always [madvise] never", "madvise"), ("[always] never", "always"), ("", ""), ("on", "on")],
)
def test_chosen_setting_is_the_word_in_brackets(text, word):
    assert machine._chosen(text) == word
