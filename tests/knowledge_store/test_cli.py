import json
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from knowledge_store import embedders
from knowledge_store.cli import app
from knowledge_store.truth import Truth
from tests.knowledge_store.stores import PAGED, SWIZZLE


@pytest.fixture(autouse=True)
def no_model(monkeypatch):
    monkeypatch.setattr(embedders, "WHEEL", "no_such_wheel_at_all")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    patches = folder / "patches"
    patches.mkdir()
    (patches / "first.diff").write_text(SWIZZLE)
    (patches / "second.patch").write_text(PAGED)
    done = run("build", "--patches", patches, "--embedder", "none", store=folder / "store")
    assert done.exit_code == 0, done.output
    return folder / "store"


def run(command, *arguments, store):
    words = [*command.split(), *map(str, arguments), "--store", str(store)]
    return CliRunner().invoke(app, words)


def told(command, *arguments, store):
    done = run(command, *arguments, "--json", store=store)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_build_tells_what_it_did(store):
    again = told("build", "--patches", store.parent / "patches", store=store)
    assert not again["is_changed"]
    assert again["sources"][0]["unchanged"] == 2
    assert [stage["stage"] for stage in again["stages"]][-1] == "vectors"


def test_a_build_without_a_model_says_so_in_one_line(store):
    done = run("update", store=store)
    assert len(re.findall("words alone rank", done.stderr)) == 1


def test_a_path_that_does_not_exist_is_one_line(tmp_path):
    done = run("build", "--bundles", tmp_path / "absent", store=tmp_path / "store")
    assert done.exit_code == 2
    assert "absent does not exist" in done.stderr
    assert done.stderr.count("\n") == 1


def test_figures(store):
    assert told("stats", store=store)["pulls"] == 2
    assert "pulls  2" in run("stats", store=store).stdout


def test_search_by_meaning_and_by_lines(store):
    found = told("search", "bank conflicts of lanes", store=store)["found"]
    assert found[0]["path"] == "csrc/epilogue.cu"
    assert found[0]["why"][0]["ranker"] == "diff"
    lines = told("search", "gather_page_table", store=store)
    assert (lines["route"], lines["total_lines"]) == ("word", 2)
    assert "gather_page_table" in run("search", "gather_page_table", store=store).stdout


def test_grep_finds_lines_with_their_numbers(store):
    answer = told("grep", "gather_page_table", store=store)
    assert [hit["diff_line"] for hit in answer["hits"]] == [6, 16]
    text = run("grep", "page_table", "swizzle_bank", store=store).stdout
    assert "4 lines in 2 of 2 pull requests" in text


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (("-w", "page_table"), 2),
        (("-i", "PAGE_TABLE"), 3),
        (("-e", r"page_\w+, block"), 1),
        (("--all", "page_table", "block_size"), 2),
        (("page_table", "--path", "tests/*"), 1),
        (("page_table", "--kind", "test"), 1),
    ],
)
def test_grep_takes_the_options_of_grep(store, arguments, lines):
    assert told("grep", *arguments, store=store)["total_hits"] == lines


def test_a_grep_that_finds_nothing_ends_like_grep(store):
    done = run("grep", "no_such_thing", store=store)
    assert done.exit_code == 1
    assert "0 lines" in done.stdout


@pytest.mark.parametrize("pattern", ["(", "[", "(?<=x"])
def test_a_broken_pattern_is_one_line(store, pattern):
    done = run("grep", "-e", pattern, store=store)
    assert done.exit_code == 2
    assert done.stderr.startswith("kernelpilot knowledge: ")


def test_show_and_its_errors(store):
    slug = told("search", "gather_page_table", store=store)["found"][0]["slug"]
    page = told("show", slug, store=store)
    assert page["diff"] == PAGED
    shown = run("show", slug, "--file", "tests/test_paged.py", store=store).stdout
    assert "+def test_paged():" in shown
    assert "licence" in shown
    done = run("show", "../../etc/passwd", store=store)
    assert done.exit_code == 2
    assert "names no pull request" in done.stderr


def test_why_names_place_and_reasons(store):
    slug = told("search", "swizzle_bank", store=store)["found"][0]["slug"]
    answer = told("why", "swizzle bank", slug, store=store)
    assert answer["place"] == 1
    assert "is #1" in run("why", "swizzle bank", slug, store=store).stdout


def test_claims_need_their_entries_in_the_log(store, tmp_path):
    log = tmp_path / "routes.jsonl"
    claim = ["claim", str(log), "--searched", "page_table"]
    assert CliRunner().invoke(app, claim).exit_code == 2
    assert run("grep", "page_table", "--log", log, store=store).exit_code == 0
    assert CliRunner().invoke(app, claim).exit_code == 0
    found = told("search", "gather_page_table", "--log", log, store=store)["found"][0]
    borrow = ["claim", str(log), "--borrowed", found["key"]]
    refused = CliRunner().invoke(app, borrow)
    assert refused.exit_code == 2
    assert "its diff was not opened" in refused.stderr
    assert run("show", found["slug"], "--log", log, store=store).exit_code == 0
    assert CliRunner().invoke(app, borrow).exit_code == 0


def test_validate_ends_with_one_where_a_rule_is_broken(store, tmp_path):
    assert told("validate", store=store)["is_valid"]
    (tmp_path / "bundles" / "gh-1").mkdir(parents=True)
    done = run("validate", "--bundles", tmp_path / "bundles", "--json", store=store)
    assert done.exit_code == 1
    rules = {one["rule"] for one in json.loads(done.stdout)["violations"]}
    assert rules == {"bundle origin", "bundle upstream", "bundle diff"}


def test_eval_tells_recall_by_kind(store, tmp_path):
    path = tmp_path / "questions.jsonl"
    name, number = told("search", "gather_page_table", store=store)["found"][0]["key"].split("#")
    row = {
        "query": "gather_page_table",
        "kind": "identifier",
        "relevant": [{"repo": name, "pr": int(number)}],
    }
    path.write_text(json.dumps(row))
    kinds = told("eval", path, store=store)["kinds"]
    assert kinds["identifier"] == {"recall_at_10": 1.0, "mrr": 1.0, "queries": 1}


def test_a_store_that_is_not_there_says_how_to_make_one(tmp_path):
    for command in ("search x", "grep x", "update", "stats", "validate", "show a/b#1"):
        done = run(command, store=tmp_path / "absent")
        assert done.exit_code == 2, command
        assert done.stderr.count("\n") == 1, done.stderr
    assert "make knowledge BUNDLES=path" in run("search x", store=tmp_path / "absent").stderr


def test_an_error_as_json_is_one_object(tmp_path):
    done = run("search", "x", "--json", store=tmp_path / "absent")
    assert json.loads(done.stdout)["exit_code"] == 2


def test_sources_are_listed_and_refused_before_they_are_cloned(store):
    assert len(told("source list", store=store)["sources"]) >= 5
    done = run("source search", "wgmma", store=store)
    assert done.exit_code == 2
    assert "knowledge source clone" in done.stderr


def test_the_web_is_off_unless_it_is_turned_on():
    done = CliRunner().invoke(app, ["web", "https://docs.nvidia.com/"])
    assert done.exit_code == 2
    assert "off" in done.stderr
    refused = CliRunner().invoke(app, ["web", "https://127.0.0.1/", "--web"])
    assert "not among the allowed hosts" in refused.stderr


def test_help_loads_nothing_heavy():
    script = (
        "import sys\nfrom knowledge_store.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'chromadb', 'tantivy', 'onnxruntime', 'numpy', 'unidiff', 'zstandard'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "LOADED []" in done.stdout


def test_the_ledger_of_candidates_says_why(tmp_path, store):
    assert told("candidates", store=store)["candidates"] == []
    with Truth(tmp_path / "store") as truth, truth.batch() as batch:
        batch.decide("owner/name#1", "include", "touches a kernel")
        batch.decide("owner/name#2", "defer", "touches no path of kernels")
    rows = told("candidates", store=tmp_path / "store")["candidates"]
    assert [row["decision"] for row in rows] == ["include", "defer"]
    shown = run("candidates", "--deferred", store=tmp_path / "store").stdout.splitlines()
    assert shown == ["   defer  owner/name#2  touches no path of kernels"]
