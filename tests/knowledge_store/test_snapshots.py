"""Snapshots are searched where they lie, and every line says which pull request it is of."""

import json

import pytest
from typer.testing import CliRunner

from knowledge_store import snapshots
from knowledge_store.cli import app
from knowledge_store.errors import SourceError
from knowledge_store.routes import RouteLog
from tests.knowledge_store.diff_builders import write_bundle

HEAD = "ab" * 20


@pytest.fixture
def bundles(tmp_path):
    folder = tmp_path / "bundles"
    first = write_bundle(
        folder / "name" / "gh-7",
        diff=b"+ldmatrix in the diff\n",
        origin={"repo": "owner/name", "pr_number": 7, "head_ref_oid": HEAD, "license": "MIT"},
    )
    source = first / snapshots.FOLDER / "csrc" / snapshots.FOLDER
    source.mkdir(parents=True)
    (source / "copy.cu").write_text("// one\nldmatrix(a);\nldmatrix(b);\n")
    second = write_bundle(folder / "name" / "gh-8")
    (second / snapshots.FOLDER).mkdir()
    (second / snapshots.FOLDER / "x.py").write_bytes(b"\xff ldmatrix\n")
    (second / "ORIGIN.yaml").write_bytes(b"\xff: [")
    third = folder / "unnamed" / snapshots.FOLDER
    third.mkdir(parents=True)
    (third / "y.h").write_text("ldmatrix\n")
    return folder


def test_lines_of_snapshots_alone_are_found_with_their_pull_request(bundles):
    one, two, three, four = snapshots.search(bundles, "ldmatrix")
    assert (one.path, one.first_line, one.text) == (
        "csrc/source-snapshot/copy.cu",
        2,
        "ldmatrix(a);",
    )
    assert (one.repo, one.pr, one.commit, one.licence) == ("owner/name", 7, HEAD, "MIT")
    assert (two.first_line, two.last_line) == (3, 3)
    assert one.source == "https://github.com/owner/name/pull/7"
    assert (three.pr, three.commit, three.licence) == (8, "", "unknown")
    assert three.text == "� ldmatrix"
    assert (four.repo, four.pr, four.licence) == ("", None, "unknown")
    assert four.source == str(bundles / "unnamed")


def test_a_search_is_limited_and_logged(bundles, tmp_path):
    found = snapshots.search(bundles, r"ldmatrix\([a-b]", (True, 1), tmp_path / "routes")
    assert [one.first_line for one in found] == [2]
    (entry,) = RouteLog(tmp_path / "routes").entries()
    assert (entry.route, entry.query, entry.keys) == (
        "source",
        r"ldmatrix\([a-b]",
        ("owner/name#7",),
    )
    assert not entry.is_complete


def test_a_folder_without_snapshots_is_refused_rather_than_empty(tmp_path):
    with pytest.raises(SourceError, match="unpack an archive"):
        snapshots.search(tmp_path / "absent", "x")
    write_bundle(tmp_path / "bundles" / "gh-1")
    with pytest.raises(SourceError, match="came without sources"):
        snapshots.search(tmp_path / "bundles", "x")


def test_the_command_searches_snapshots_or_clones(bundles, tmp_path):
    words = ["source", "search", "ldmatrix", "--snapshots", str(bundles), "--store", str(tmp_path)]
    done = CliRunner().invoke(app, words)
    assert done.stdout.splitlines()[0] == "owner/name#7:csrc/source-snapshot/copy.cu:2:ldmatrix(a);"
    told = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert len(told["passages"]) == 4
    assert CliRunner().invoke(app, [*words, "--source", "x"]).exit_code == 2
