"""The commands `provision` for clusters, whose files are written and whose commands are said."""

import json
from importlib.util import find_spec

import pytest
from typer.testing import CliRunner

from gpu_runner.cli import app

AT = ("--endpoint", "tcp://broker.example:7766")


def run(*words):
    return CliRunner().invoke(app, ["provision", *map(str, words)])


@pytest.mark.parametrize(
    ("engine", "more", "name"),
    [("slurm", (), "gpu.sbatch"), ("kubernetes", ("--image", "i:1"), "gpu.yaml")],
)
def test_files_are_printed_or_written(tmp_path, engine, more, name):
    words = ("start", *AT, "--engine", engine, "--pool", "gpu", "--count", 3, *more)
    printed = run(*words)
    assert printed.exit_code == 0
    found = json.loads(run(*words, "--json").output)
    assert found["files"][0]["name"] == name
    assert found["files"][0]["content"] in printed.output
    assert found["commands"][0] in printed.output
    written = run(*words, "-o", tmp_path / "out")
    assert (tmp_path / "out" / name).read_text() == found["files"][0]["content"]
    assert str(tmp_path / "out" / name) in written.output


@pytest.mark.parametrize("deed", [("list",), ("drain", "gpu-1"), ("stop", "gpu-1")])
@pytest.mark.parametrize("engine", ["slurm", "kubernetes"])
def test_deeds_of_a_cluster_are_commands(deed, engine):
    said = run(*deed, "--engine", engine, "--pool", "gpu")
    assert said.exit_code == 0
    assert "# run where the cluster is reached:" in said.output


def test_without_workers_here_there_are_none(tmp_path):
    assert run("list", "--workspace", tmp_path).output == "no workers\n"
    assert json.loads(run("list", "--workspace", tmp_path, "--json").output)["workers"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--pool", "Not Allowed"), "--pool"),
        (("--keys", "a b"), "--keys"),
        (("--broker-key", "abc"), "--broker-key"),
        (("--count", 0), "--count"),
        (("--engine", "nomad"), "--engine"),
    ],
)
def test_what_cannot_be_is_a_usage_error(words, said):
    done = run("start", *AT, *words)
    assert done.exit_code == 2
    assert said in done.output


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_its_engine_says_what_to_install():
    done = run("start", *AT, "--engine", "ray")
    assert "pip install 'kernelpilot[ray]'" in str(done.exception)
