import subprocess
import sys

import pytest

from gpu_runner.languages import import_check


def run(folder, text, name="candidate.py"):
    path = folder / name
    path.write_text(text)
    return subprocess.run(
        [sys.executable, "-I", "-B", import_check.__file__, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_module_with_run_passes(tmp_path):
    finished = run(tmp_path, "def run(x): return x\n")
    assert (finished.returncode, finished.stdout) == (0, f"{import_check.DONE}\n")


def test_any_callable_is_a_run(tmp_path):
    assert run(tmp_path, "class Run:\n  def __call__(self, x): return x\nrun = Run()\n").stdout


def test_module_finds_its_neighbours_and_itself(tmp_path):
    (tmp_path / "helper.py").write_text("value = 3\n")
    text = "import helper, sys\nassert sys.modules['candidate'].helper is helper\nrun = print\n"
    assert run(tmp_path, text).returncode == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("run = 1\n", "candidate.py defines no function run"),
        ("raise RuntimeError('why')\n", "RuntimeError: why"),
        ("def run(:\n", "SyntaxError"),
    ],
)
def test_failure_is_told_on_stderr(tmp_path, text, said):
    finished = run(tmp_path, text)
    assert finished.returncode == 1
    assert said in finished.stderr
    assert import_check.DONE not in finished.stdout


def test_file_that_is_no_module_is_told_by_name(tmp_path):
    finished = run(tmp_path, "", name="candidate.txt")
    assert finished.returncode == 1
    assert "candidate.txt is not a Python module" in finished.stderr


def test_nothing_is_left_beside_the_module(tmp_path):
    run(tmp_path, "def run(x): return x\n")
    assert [p.name for p in tmp_path.iterdir()] == ["candidate.py"]
