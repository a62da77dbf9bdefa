"""The shipped repository, read and run as its owner would: without this program."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gpu_runner.candidate import Candidate, Language
from gpu_runner.records import BenchRecord
from graph.errors import RunDamaged, ShipFailed
from graph.ledger import Tuning
from graph.repository import ship
from tests.builders import make_candidate
from tests.graph.isolation import isolated
from tests.graph.shipped_run import RMSNORM_CPP, SILU_CPP, ShippedRun, softmax_run


class Shipped(NamedTuple):
    run: ShippedRun
    root: Path


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> Shipped:
    run, tuning, result = softmax_run(tmp_path_factory.mktemp("run"))
    root = ship(run.files, run.manifest, run.files.attempts(), tuning, result)
    return Shipped(run, root)


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def texts(root: Path) -> dict[str, str]:
    return {name: (root / name).read_text() for name in git(root, "ls-files").splitlines()}


def one_kernel(root: Path, name: str, text: str) -> Path:
    """Ship a run of a shipped target with one promoted kernel."""
    run = ShippedRun(root, name, (text,))
    run.promoted(1.3)
    tuning = run.tuned({w.name: 1.3 for w in run.workloads})
    return ship(run.files, run.manifest, run.files.attempts(), tuning, run.finish())


def test_this_program_is_out_of_reach_of_the_isolated_runs(tmp_path):
    (tmp_path / "probe.py").write_text("import gpu_runner\n")
    done = isolated(tmp_path, "probe.py", how="run_path")
    assert "ModuleNotFoundError: No module named 'gpu_runner'" in done.stderr


def test_its_tests_pass_without_this_program(shipped):
    done = isolated(shipped.root, "pytest", "-q", "-p", "no:cacheprovider", how="run_module")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"\d{2,} passed", done.stdout)


@pytest.mark.processes
def test_its_benchmark_prints_both_times_with_intervals(shipped):
    done = isolated(shipped.root, "benchmarks/bench.py", "--quick", "--json", how="run_path")
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout)
    assert (found["problem"], found["against"], found["sittings"]) == ("softmax", "torch eager", 1)
    assert list(found["workloads"]) == [w.name for w in shipped.run.workloads]
    for one in (found, *found["workloads"].values()):
        for kind in ("kernel", "operator"):
            assert one[kind]["low"] <= one[kind]["speedup"] <= one[kind]["high"]
            assert one[kind]["verdict"] in {"FASTER", "SAME", "SLOWER", "AMBIGUOUS"}
    served = {one["serves"] for one in found["workloads"].values()}
    assert served == {"v001", "v002"}


def test_a_kernel_of_two_outputs_and_a_scalar_passes_its_tests(tmp_path):
    root = one_kernel(tmp_path, "rmsnorm", RMSNORM_CPP)
    chosen = ("-k", "operator or contiguous or element_types or refused")
    done = isolated(root, "pytest", "-q", "-p", "no:cacheprovider", *chosen, how="run_module")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_kernels_can_be_built_ahead(shipped):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "softmax"],
        cwd=shipped.root / "src",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    built = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert list(built) == ["v001", "v002"]
    assert all(Path(library).is_file() for library in built.values())


def test_a_wrong_kernel_fails_its_tests(tmp_path):
    wrong = SILU_CPP.replace("d < a->D; ++d", "d + 1 < a->D; ++d")
    root = one_kernel(tmp_path, "silu_and_mul", wrong)
    chosen = ("tests/test_correctness.py", "-k", "every_kernel and columns_33")
    done = isolated(root, "pytest", "-q", "-p", "no:cacheprovider", *chosen, how="run_module")
    assert done.returncode == 1
    assert "y: 3 elements wrong, up to inf bounds" in done.stdout


def test_it_becomes_a_wheel_that_holds_kernels_and_dispatcher(shipped, tmp_path):
    pytest.importorskip("setuptools", "77")
    shutil.copytree(shipped.root, tmp_path / "repo", ignore=shutil.ignore_patterns("build"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
    ]
    command += ["--disable-pip-version-check", "--target", str(tmp_path / "site"), "./repo"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (tmp_path / "probe.py").write_text(
        "import sys, os\n"
        f"sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        f"os.environ['SOFTMAX_KERNELS_CACHE'] = {str(tmp_path / 'cache')!r}\n"
        "import softmax, torch\n"
        "x = torch.randn(3, 5)\n"
        "torch.testing.assert_close(softmax.softmax(x), x.softmax(-1))\n"
        "print(softmax.__file__)\n"
    )
    done = isolated(tmp_path, "probe.py", how="run_path")
    assert done.returncode == 0, done.stderr[-3000:]
    assert Path(done.stdout.strip()).is_relative_to(tmp_path / "site")
    assert list((tmp_path / "cache").glob("v001/*/kernel.so"))


def test_every_promoted_attempt_is_a_commit_that_says_what_was_measured(shipped):
    subjects = git(shipped.root, "log", "--reverse", "--format=%s").splitlines()
    assert subjects == [
        "softmax: state the problem, its tests and its benchmark",
        "softmax: v001, 1.40x torch eager",
        "softmax: v002, 1.68x torch eager",
        "softmax: tune the dispatcher and write the ledgers",
    ]
    promoted = [a for a in shipped.run.attempts if a.version]
    body = git(shipped.root, "log", "-1", "--format=%b", "HEAD~2")
    assert promoted[0].motivation in body
    for claim in promoted[0].claims:
        assert f"`{claim.record_id}`" in body
    assert set(git(shipped.root, "log", "--format=%an <%ae>").splitlines()) == {
        "KernelPilot <kernelpilot@localhost>"
    }


def test_every_commit_serves_with_what_it_has(shipped):
    served = []
    for commit in ("HEAD~3", "HEAD~2", "HEAD~1", "HEAD"):
        module: dict[str, Any] = {}
        exec(git(shipped.root, "show", f"{commit}:dispatch/dispatcher.py"), module)
        served.append((module["choose"](B=8, N=128), module["choose"](B=4096, N=4096)))
    assert served == [
        ("baseline", "baseline"),
        ("v001", "v001"),
        ("v002", "v002"),
        ("v001", "v002"),
    ]


def test_nothing_is_left_uncommitted_after_its_tests(shipped):
    assert git(shipped.root, "status", "--porcelain") == ""


def test_it_has_the_layout_that_is_promised(shipped):
    names = set(texts(shipped.root))
    assert {
        "README.md",
        "LICENSE",
        "NOTICE",
        "pyproject.toml",
        "src/softmax/ops.py",
        "src/softmax/kernels/problem.h",
        "src/softmax/kernels/v001/kernel.cpp",
        "src/softmax/kernels/v002/build.json",
        "dispatch/dispatcher.py",
        "dispatch/dispatch.h",
        "dispatch/table.json",
        "workloads/problem.json",
        "workloads/public.json",
        "workloads/hidden.json",
        "tests/reference.py",
        "tests/test_correctness.py",
        "tests/test_dispatcher.py",
        "benchmarks/bench.py",
        "benchmarks/performance-map.json",
        "benchmarks/baselines/torch_eager.py",
        "profile-artifacts/v001/facts.json",
        "profile-artifacts/v001/digest.md",
        "ledgers/attempt-ledger.md",
        "ledgers/optimization-ledger.md",
        "ledgers/lineage.jsonl",
        "ledgers/research-digest.md",
        "ledgers/tuning-decisions.md",
    } <= names


def test_no_file_imports_this_program_or_names_a_place_on_this_machine(shipped):
    pattern = re.compile(
        r"^\s*(import|from) (graph|agents|gpu_runner|knowledge_store)\b", re.MULTILINE
    )
    for name, text in texts(shipped.root).items():
        assert not pattern.search(text), name
        assert str(shipped.run.files.root) not in text, name
        assert str(Path(__file__).parents[2]) not in text, name


def test_every_figure_cites_a_record_that_is_there_and_is_itself(shipped):
    evidence = {p.stem: p for p in (shipped.root / "evidence" / "records").glob("*.json")}
    for stem, path in evidence.items():
        assert BenchRecord.model_validate_json(path.read_text()).record_id == stem
    ledgers = (
        "README.md",
        "ledgers/attempt-ledger.md",
        "ledgers/optimization-ledger.md",
        "ledgers/tuning-decisions.md",
    )
    for name in ledgers:
        cited = set(re.findall(r"`([0-9a-f]{16})`", (shipped.root / name).read_text()))
        assert cited, name
        assert cited <= set(evidence), name
    for line in (shipped.root / "ledgers" / "lineage.jsonl").read_text().splitlines():
        assert set(json.loads(line)["records"]) <= set(evidence)


def test_the_headline_is_the_claim_made_after_the_selection(shipped):
    readme = (shipped.root / "README.md").read_text()
    result = shipped.run.files.result()
    assert result is not None
    for claim in result.best:
        one = claim.overall
        assert f"**{one.speedup:.3f}x [{one.low:.3f}, {one.high:.3f}]** | {one.verdict}" in readme
        assert f"`{claim.record_id}`" in readme
    assert "after the kernel was selected" in readme


def test_the_readme_names_versions_not_attempts(shipped):
    readme = (shipped.root / "README.md").read_text()
    assert not re.search(r"\ba\d{4}\b", readme)
    assert "| `B <= 90` | v001 |" in readme


def test_the_optimisation_ledger_has_seven_columns_and_the_selected_rows(shipped):
    lines = (shipped.root / "ledgers" / "optimization-ledger.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert rows[0] == (
        "| Round | Version | Core idea | Candidate p50 | Baseline p50 | vs baseline | Outcome |"
    )
    cells = [[c.strip() for c in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows[2:]]
    assert [(row[1], row[6]) for row in cells] == [
        ("v001", "Selected"),
        ("v002", "Selected, current best"),
        ("v002", "Selected, measured again"),
    ]


def test_the_attempt_ledger_has_every_attempt_with_its_reason(shipped):
    ledger = (shipped.root / "ledgers" / "attempt-ledger.md").read_text()
    for attempt in shipped.run.attempts:
        assert f"| {attempt.attempt_id} |" in ledger
    assert "wrong_result: output y differs" in ledger
    assert "Blocks of rows \\| shared 'constants'." in ledger


def test_lineage_names_parents_and_the_best(shipped):
    lines = (shipped.root / "ledgers" / "lineage.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [r["attempt"] for r in rows] == [a.attempt_id for a in shipped.run.attempts]
    best = [r for r in rows if r["is_best"]]
    assert [r["version"] for r in best] == ["v002"]
    assert best[0]["parent"] == "a0002"


def test_sources_of_a_kernel_are_named_in_the_notice(shipped):
    notice = (shipped.root / "NOTICE").read_text()
    assert "agents/recipes/softmax (Apache-2.0)" in notice


def test_shipping_again_changes_nothing(shipped):
    run = shipped.run
    before = git(shipped.root, "rev-parse", "HEAD")
    (shipped.root / "notes.txt").write_text("the owner's own\n")
    tuning, result = run.files.tuning(), run.files.result()
    assert tuning is not None
    assert result is not None
    again = ship(run.files, run.manifest, run.files.attempts(), tuning, result)
    assert again == shipped.root
    assert git(again, "rev-parse", "HEAD") == before
    assert (again / "notes.txt").exists()
    (again / "notes.txt").unlink()
    assert [p.name for p in run.files.root.glob(".repo-*")] == []


def test_another_result_keeps_the_repository_that_was_there(tmp_path):
    run, tuning, result = softmax_run(tmp_path)
    first = ship(run.files, run.manifest, run.files.attempts(), tuning, result)
    head = git(first, "rev-parse", "HEAD")
    other = result.model_copy(update={"best": result.best[:1]})
    second = ship(run.files, run.manifest, run.files.attempts(), tuning, other)
    assert second == first
    assert git(second, "rev-parse", "HEAD") != head
    assert git(tmp_path / f"repo-{head[:12]}", "rev-parse", "HEAD") == head


def test_without_a_promotion_the_baseline_is_shipped(tmp_path):
    run = ShippedRun(tmp_path, "gelu_tanh", ("",))
    run.rejected()
    tuning = Tuning(points=(), regimes=(), is_trivial=True, reason="nothing was promoted")
    root = ship(run.files, run.manifest, run.files.attempts(), tuning, run.finish())
    readme = (root / "README.md").read_text()
    assert "# gelu_tanh: no faster kernel yet" in readme
    assert "the baseline serves" in readme
    module: dict[str, Any] = {}
    exec((root / "dispatch" / "dispatcher.py").read_text(), module)
    assert module["choose"](M=3, D=4) == "baseline"


def test_a_kernel_that_cannot_be_shipped_leaves_nothing_behind(tmp_path):
    class DeviceRun(ShippedRun):
        def candidate(self, text: str = "") -> Candidate:
            return make_candidate(language=Language.CUDA, text=text or "x")

    run = DeviceRun(tmp_path, "softmax", ("",))
    run.promoted(1.3, language="cuda")
    tuning = Tuning(points=(), regimes=(), is_trivial=True, reason="nothing was measured")
    with pytest.raises(ShipFailed, match="v001 has no launch plan"):
        ship(run.files, run.manifest, run.files.attempts(), tuning, run.finish())
    assert not (tmp_path / "repo").exists()
    assert list(tmp_path.glob(".repo-*")) == []


def test_a_cited_record_that_is_missing_stops_the_shipping(tmp_path):
    run, tuning, result = softmax_run(tmp_path)
    (tmp_path / "records" / f"{result.best[0].record_id}.json").unlink()
    with pytest.raises(RunDamaged, match=result.best[0].record_id):
        ship(run.files, run.manifest, run.files.attempts(), tuning, result)
