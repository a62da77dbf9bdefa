import subprocess
import sys

import pytest

from gpu_runner.device import probe
from gpu_runner.device.machine import PROBE, identities

has_no_driver = pytest.mark.skipif(bool(identities()), reason="there is a CUDA device")


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-I", "-B", str(PROBE), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_uuid_reads_as_the_driver_writes_it():
    content = bytes.fromhex("56282d2d29943e2e736e1d4fffc485b1")
    assert probe._uuid(content) == "GPU-56282d2d-2994-3e2e-736e-1d4fffc485b1"


@has_no_driver
@pytest.mark.parametrize("arguments", [(), ("--launch", "0")])
def test_without_a_driver_the_reason_is_one_line(arguments):
    ended = run(*arguments)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert "Traceback" not in ended.stderr


@has_no_driver
def test_main_says_why_and_fails(capsys):
    assert probe.main([]) == 1
    assert capsys.readouterr().err


def test_program_imports_nothing_of_this_package():
    text = PROBE.read_text()
    assert "gpu_runner" not in text
    assert "import torch" not in text
