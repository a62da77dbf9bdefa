"""The habits of this project, held by the machine: sizes, packages, imports, reasons, pins."""

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import agents
from scripts.size import EVERYTHING, PRODUCT, oversized
from tests.conftest import DEVICE, SLOWEST

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("agents", "gpu_runner", "graph", "knowledge_store")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SOURCES = [path for folder in EVERYTHING for path in sorted((ROOT / folder).rglob("*.py"))]
TEXTS = [
    path
    for pattern in (
        "*.md",
        "*.toml",
        "Makefile",
        "requirements.*",
        ".ci/run",
        "*.yaml",
        "docs/*.md",
    )
    for path in ROOT.glob(pattern)
]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_no_file_is_longer_than_the_limit():
    assert oversized() == []


def test_every_folder_of_tests_is_a_package():
    folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
    parents = {p for f in folders for p in f.parents if ROOT / "tests" in (p, *p.parents)}
    bare = [named(f) for f in folders | parents if not (f / "__init__.py").is_file()]
    assert bare == []


def test_the_files_that_run_first_or_need_the_gpu_tier_are_there():
    places = ROOT / "tests"
    assert [name for name in (*SLOWEST, *DEVICE) if not any(places.glob(name))] == []


def test_our_agents_package_is_the_one_imported():
    assert Path(str(agents.__file__)).is_relative_to(ROOT)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_exports_what_it_says(name):
    package = importlib.import_module(name)
    exported = getattr(package, "__all__", [])
    assert sorted(set(exported)) == sorted(exported)
    assert [word for word in exported if not hasattr(package, word)] == []


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after a statement."""
    script = f"import sys; {statement}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.split())


HEAVY = {"torch", "chromadb", "anthropic", "langchain_openai", "openai", "onnxruntime", "ray"}


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import gpu_runner.client", {*HEAVY, "langgraph", "optuna"}),
        ("import gpu_runner.worker, gpu_runner.broker", {*HEAVY, "langgraph", "optuna"}),
        ("import gpu_runner.cli", {*HEAVY, "langgraph", "optuna"}),
        ("import agents.roles, agents.contexts", {*HEAVY, "langgraph", "zmq", "optuna"}),
        ("import graph.cli", {*HEAVY, "langgraph", "optuna"}),
        ("import graph.report", {*HEAVY, "langgraph", "zmq", "optuna"}),
    ],
)
def test_an_import_brings_nothing_heavy(statement, absent):
    assert modules_after(statement) & absent == set()


def test_no_source_names_a_place_of_one_machine():
    own = re.compile(r"(?<![\w.])/(?:ro" r"ot|wo" r"rk|home/\w+)/\w")
    found = [
        f"{named(path)}:{number}"
        for path in (*SOURCES, *TEXTS)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if own.search(line)
    ]
    assert found == []


def test_every_suppression_has_a_code_and_a_reason():
    marks = re.compile(r"# (?:noqa|type: ignore)(?P<rest>.*)")
    good = re.compile(r"(?:: [A-Z]+\d+(?:, ?[A-Z]+\d+)*|\[[a-z-, ]+\]).{5,}")
    bare = []
    for path in SOURCES:
        if path == Path(__file__).resolve():
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            found = marks.search(line)
            if found and not good.fullmatch(found["rest"]):
                bare.append(f"{named(path)}:{number}: {line.strip()}")
    assert bare == []


def test_every_ignored_rule_says_why():
    text = (ROOT / "pyproject.toml").read_text()
    rules = [line for line in text.splitlines() if re.match(r'\s+"[A-Z]+\d*",', line)]
    assert len(rules) > 10
    assert [line.strip() for line in rules if "#" not in line] == []


def test_broad_catches_are_where_the_conventions_allow_them():
    caught = re.compile(r"except Exception\b|except:")
    found = {
        named(path)
        for folder in PRODUCT
        for path in (ROOT / folder).rglob("*.py")
        if caught.search(path.read_text(encoding="utf-8"))
    }
    # The hosts of foreign code may meet anything, as may the two programs.
    allowed = {
        "gpu_runner/child.py",
        "gpu_runner/device/serving.py",
        "gpu_runner/host/python_host.py",
    }
    assert found - allowed - {"gpu_runner/cli.py", "graph/cli.py"} == set()


def test_no_task_is_left_in_the_code():
    words = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK)\b")
    found = [named(path) for path in SOURCES if words.search(path.read_text(encoding="utf-8"))]
    assert found == []


class TestMakefile:
    TEXT = (ROOT / "Makefile").read_text()

    def targets(self) -> dict[str, list[str]]:
        """Target to the lines of its body."""
        found: dict[str, list[str]] = {}
        name = ""
        for line in self.TEXT.splitlines():
            if match := re.match(r"([a-z-]+):(?!=)", line):
                name = match[1]
                found[name] = []
            elif line.startswith("\t") and name:
                found[name].append(line)
            else:
                name = ""
        return found

    def test_help_names_every_target(self):
        said = subprocess.run(
            ["make", "-s", "help"], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout
        assert {line.split()[0] for line in said.splitlines()} == set(self.targets())

    def test_help_is_the_default(self):
        assert ".DEFAULT_GOAL := help" in self.TEXT

    def test_bodies_have_at_most_three_lines(self):
        assert {n: len(body) for n, body in self.targets().items() if len(body) > 3} == {}

    def test_every_target_is_phony(self):
        (phony,) = re.findall(r"^\.PHONY: (.*)$", self.TEXT.replace("\\\n", ""), re.MULTILINE)
        assert set(phony.split()) == set(self.targets())

    def test_what_needs_the_environment_sets_it_up(self):
        bare = [
            line.split(":")[0]
            for line in self.TEXT.splitlines()
            if re.match(r"[a-z-]+:.*## ", line) and "install" not in line.split("##")[0]
        ]
        assert bare == ["help", "check"]


PINS = dict(
    line.split("==")
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if line and not line.startswith("#")
)


class TestLock:
    def asked(self) -> list[Requirement]:
        project = PYPROJECT["project"]
        extras = [project["optional-dependencies"][name] for name in self.locked_extras()]
        return [Requirement(text) for texts in (project["dependencies"], *extras) for text in texts]

    def locked_extras(self) -> list[str]:
        """The extras that a checkout has, and the lock with it."""
        text = (ROOT / "requirements.in").read_text()
        (named,) = re.findall(r"^\.\[([a-z,]+)\]$", text, re.MULTILINE)
        return str(named).split(",")

    def test_every_extra_is_locked_but_ray(self):
        """It is for machines of a cluster, and large; it goes with any version of the rest."""
        extras = PYPROJECT["project"]["optional-dependencies"]
        assert extras.keys() - set(self.locked_extras()) == {"ray"}

    def test_every_dependency_is_pinned_within_its_range(self):
        for requirement in self.asked():
            pin = PINS[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(pin), f"{requirement} is locked to {pin}"

    def test_versions_are_exact_and_carry_no_local_part(self):
        assert [pin for pin in PINS.values() if not re.fullmatch(r"\d[\w.]*", pin)] == []

    def test_names_are_normalised_and_sorted(self):
        assert list(PINS) == sorted(canonicalize_name(name) for name in PINS)

    def test_the_installer_and_the_build_backend_are_locked(self):
        assert {"uv", "setuptools"} <= set(PINS)


def test_the_licence_is_the_whole_apache_text():
    text = (ROOT / "LICENSE").read_text()
    assert PYPROJECT["project"]["license"] == "Apache-2.0"
    for part in ("Version 2.0, January 2004", "9. Accepting Warranty", "APPENDIX: How to apply"):
        assert part in text


def test_the_changelog_knows_the_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{PYPROJECT['project']['version']}]" in text or "## [Unreleased]" in text
