import json

import pytest

from gpu_runner.device.kernel_index import write_index
from gpu_runner.device.machine import identities
from gpu_runner.device.replay import EXIT_CUDA, EXIT_UNABLE, Replay, Replayed, main
from tests.builders import make_problem, make_workload
from tests.gpu_runner.device.plans import index_of, make_plan

has_no_driver = pytest.mark.skipif(bool(identities()), reason="there is a CUDA device")


@pytest.fixture
def job(tmp_path):
    """An artefact that looks whole, and a job file for it."""
    plans = (make_plan(),)
    write_index(tmp_path, index_of(plans))
    (tmp_path / "kernel.cubin").write_bytes(b"no cubin")
    replay = Replay(problem=make_problem(), plans=plans, workload=make_workload())
    path = tmp_path / "job.json"
    path.write_text(replay.model_dump_json())
    return path


def run(folder, job):
    return main(["--artefact", str(folder), "--job", str(job)])


def test_job_file_travels():
    replay = Replay(problem=make_problem(), plans=(make_plan(),), workload=make_workload())
    assert Replay.model_validate_json(replay.model_dump_json()) == replay


def test_job_without_a_plan_is_none():
    with pytest.raises(ValueError, match="plans"):
        Replay(problem=make_problem(), plans=(), workload=make_workload())


def test_times_are_one_line_of_json():
    replayed = Replayed(times_us=(1.5, 2.5), copy_bytes_per_s=4e12)
    line = json.dumps(replayed.model_dump())
    assert "\n" not in line
    assert Replayed.model_validate_json(line) == replayed


def test_missing_job_file_is_said(tmp_path, capsys):
    assert run(tmp_path, tmp_path / "none.json") == EXIT_UNABLE
    assert "none.json" in capsys.readouterr().err


def test_damaged_job_file_is_said(tmp_path, capsys):
    job = tmp_path / "job.json"
    job.write_text('{"problem": 1}')
    assert run(tmp_path, job) == EXIT_UNABLE
    assert capsys.readouterr().err.startswith("replay: ")


def test_damaged_artefact_is_said(tmp_path, job, capsys):
    (tmp_path / "kernels.json").write_text("{")
    assert run(tmp_path, job) == EXIT_UNABLE
    assert "is no kernel index" in capsys.readouterr().err


def test_workload_that_no_plan_serves_is_said(tmp_path, capsys):
    plans = (make_plan(guard="N % 2"),)
    write_index(tmp_path, index_of(plans))
    replay = Replay(problem=make_problem(), plans=plans, workload=make_workload())
    job = tmp_path / "job.json"
    job.write_text(replay.model_dump_json())
    assert run(tmp_path, job) == EXIT_UNABLE
    assert "no plan serves the workload 'small'" in capsys.readouterr().err


@has_no_driver
def test_machine_without_a_driver_is_said_and_is_no_fault_of_a_kernel(tmp_path, job, capsys):
    assert run(tmp_path, job) == EXIT_UNABLE
    said = capsys.readouterr()
    assert "driver" in said.err
    assert said.out == ""


def test_exit_codes_tell_whose_fault_it_is():
    assert len({0, EXIT_UNABLE, EXIT_CUDA}) == 3
