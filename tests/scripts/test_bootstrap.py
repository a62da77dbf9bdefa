import hashlib
import shutil
import subprocess
import sys
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import pytest

from scripts import bootstrap

TAG = f"cp{sys.version_info.major}{sys.version_info.minor}"
LOCK = "# heading\nnumpy==2.4.6\ntorch==2.13.0\ntorch-extra==9\nuv==0.13.9\n"


@pytest.mark.parametrize(("name", "version"), [("torch", "2.13.0"), ("uv", "0.13.9")])
def test_a_pin_is_found_by_its_whole_name(name, version):
    assert bootstrap.pin_of(name, LOCK) == version


def test_a_missing_pin_says_how_to_write_the_lock():
    with pytest.raises(SystemExit, match="does not pin 'nothing'; write it with `make lock`"):
        bootstrap.pin_of("nothing", LOCK)


def test_a_cpu_wheel_is_found_in_the_folder_that_has_it(tmp_path):
    (tmp_path / "empty").mkdir()
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / f"torch-2.13.0+cpu-{TAG}-{TAG}-linux_x86_64.whl").touch()
    places = ["https://index.invalid/simple", str(tmp_path / "empty"), str(wheels)]
    assert bootstrap.cpu_wheel_folder(places, "2.13.0") == str(wheels)
    assert bootstrap.cpu_wheel_folder([f"file://{wheels}"], "2.13.0") == f"file://{wheels}"


@pytest.mark.parametrize(
    "wheel",
    [
        f"torch-2.13.0-{TAG}-{TAG}-linux_x86_64.whl",
        f"torch-2.12.0+cpu-{TAG}-{TAG}-linux_x86_64.whl",
        "torch-2.13.0+cpu-cp27-cp27-linux_x86_64.whl",
    ],
)
def test_another_build_version_or_python_does_not_count(tmp_path, wheel):
    (tmp_path / wheel).touch()
    assert bootstrap.cpu_wheel_folder([str(tmp_path)], "2.13.0") is None


def test_a_failed_command_is_named():
    with pytest.raises(SystemExit, match=r"this command failed, see above: .* -c"):
        bootstrap.run(sys.executable, "-c", "raise SystemExit(3)")


def test_a_failure_that_may_happen_is_told():
    assert not bootstrap.run(sys.executable, "-c", "raise SystemExit(3)", is_fatal=False)
    assert bootstrap.run(sys.executable, "-c", "pass")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of one module, where the set-up looks for what it compiles."""
    (tmp_path / "imported.py").write_text("answer = 42\n")
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "PYTHON", Path(sys.executable))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    return tmp_path


def test_bytecode_is_kept_where_the_environment_forbids_it_to_others(package, monkeypatch):
    monkeypatch.setattr(bootstrap, "IMPORTED", (("imported",),))
    bootstrap.compile_bytecode()
    assert list((package / "__pycache__").glob("imported.*.pyc"))


def test_an_import_that_fails_does_not_end_the_set_up(package, monkeypatch, capfd):
    monkeypatch.setattr(bootstrap, "IMPORTED", (("not_there",), ("imported",)))
    bootstrap.compile_bytecode()
    assert "No module named 'not_there'" in (said := capfd.readouterr().err)
    assert "it only takes longer to start" in said
    assert list((package / "__pycache__").glob("imported.*.pyc"))


def test_what_is_compiled_can_be_imported():
    for name in chain.from_iterable(bootstrap.IMPORTED):
        package, *rest = name.split(".")
        spec = find_spec(package)
        assert spec is not None, package
        assert spec.origin is not None, package
        place = Path(spec.origin).parent.joinpath(*rest)
        assert place.is_dir() or place.with_suffix(".py").is_file(), name


@pytest.fixture
def checkout(tmp_path):
    """A copy of what the set-up reads, with a venv that claims to be finished."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(bootstrap.__file__, tmp_path / "scripts" / "bootstrap.py")
    (tmp_path / "requirements.lock").write_text(LOCK)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "kernelpilot").touch()
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    stamp = hashlib.sha256(LOCK.encode()).hexdigest()
    (tmp_path / ".venv" / "lock.sha256").write_text(f"{stamp}\n")
    return tmp_path


def start(checkout: Path) -> subprocess.CompletedProcess[str]:
    script = checkout / "scripts" / "bootstrap.py"
    return subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)


def test_a_current_venv_is_left_as_it_is(checkout):
    before = sorted(path.name for path in (checkout / ".venv").rglob("*"))
    done = start(checkout)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(path.name for path in (checkout / ".venv").rglob("*")) == before


@pytest.mark.parametrize("lost", [".venv/lock.sha256", ".venv/bin/kernelpilot"])
def test_a_venv_that_was_not_finished_is_taken_up_again(checkout, lost):
    (checkout / lost).unlink()
    (checkout / "requirements.lock").write_text("numpy==2.4.6\n")
    (checkout / "scripts" / "system_packages.sh").write_text("exit 0\n")
    done = start(checkout)
    assert done.returncode == 1
    assert "does not pin 'uv'" in done.stderr
    assert not (checkout / ".venv" / "lock.sha256").exists()
