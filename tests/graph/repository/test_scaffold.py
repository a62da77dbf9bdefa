"""Which templates make which repository."""

from pathlib import Path

import pytest

from gpu_runner.candidate import Language
from graph import repository
from graph.repository.scaffold import device_of, templates
from graph.target import Hardware
from tests.builders import make_candidate
from tests.graph.synthetic_target import make_target

TEMPLATES = Path(repository.__file__).parent / "templates"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_template_is_there(device):
    found = templates("softmax", device)
    assert all((TEMPLATES / f"{template}.j2").is_file() for template in found.values())
    assert found["src/softmax/ops.py"] == "src/ops.py"
    assert found[".gitignore"] == "gitignore"


def test_no_template_is_left_over():
    by_layout = {"README.md", "profile-digest.md", "profile-readme.md"}
    used = {name for device in ("cpu", "cuda") for name in templates("x", device).values()}
    there = {str(p.relative_to(TEMPLATES).with_suffix("")) for p in TEMPLATES.rglob("*.j2")}
    assert {name for name in there - used if not name.startswith("ledgers/")} == by_layout


def test_a_repository_for_a_gpu_brings_its_launcher_and_no_compiler_flags_of_a_processor():
    found = templates("softmax", "cuda")
    assert found["src/softmax/device.py"] == "cuda/src/device.py"
    assert found["src/softmax/build.py"] == "cuda/src/build.py"
    assert found[".gitattributes"] == "cuda/gitattributes"
    assert "Makefile" in found
    assert "src/softmax/device.py" not in templates("softmax", "cpu")


def test_the_device_is_the_targets_or_that_of_a_kernel():
    on_gpu = make_target(hardware=Hardware(device="cuda"))
    python = make_candidate(language=Language.PYTHON)
    assert device_of(on_gpu, ()) == "cuda"
    assert device_of(on_gpu, (python,)) == "cuda"
    assert device_of(make_target(), (python, make_candidate())) == "cpu"
    assert device_of(make_target(), (make_candidate(language=Language.CUDA, text="x"),)) == "cuda"
