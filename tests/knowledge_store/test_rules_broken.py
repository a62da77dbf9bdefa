"""Each rule of bundles and of the store at its border, and on what is no bundle at all."""

import json
import os
from dataclasses import replace

import pytest
import yaml

from knowledge_store import bundle_rules
from knowledge_store.errors import SourceError
from knowledge_store.evaluation import read_questions, score
from knowledge_store.pulls import PullRequest
from knowledge_store.source_map import SourceMap, read_registry
from knowledge_store.truth import Truth
from knowledge_store.validation import Held, is_tag, of_pull
from tests.knowledge_store.stores import fill

TODAY = "2026-01-01"
ORIGIN = {
    "repo": "maker/lib",
    "pr_number": 5,
    "url": "https://github.com/maker/lib/pull/5",
    "state": "merged",
    "merged_at": "2025-01-01",
}


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "bundles" / "gh-5"
    folder.mkdir(parents=True)
    (folder / "upstream.json").write_text(json.dumps({"title": "T"}))
    (folder / "review.diff").write_text("diff --git a/x b/x\n")
    write(folder)
    return folder


def write(bundle, **changes):
    (bundle / "ORIGIN.yaml").write_text(yaml.safe_dump({**ORIGIN, **changes}))


def said(bundle):
    return [one.rule for one in bundle_rules.violations(bundle.parent)]


@pytest.mark.parametrize("name", ["ORIGIN.yaml", "upstream.json", "review.diff"])
def test_a_folder_in_place_of_a_file_is_said_and_ends_nothing(bundle, name):
    (bundle / name).unlink()
    (bundle / name).mkdir()
    assert said(bundle) == [f"bundle {name.partition('.')[0].lower().replace('review', 'diff')}"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read_is_said(bundle):
    (bundle / "ORIGIN.yaml").chmod(0)
    assert said(bundle) == ["bundle origin"]


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("upstream.json", b"[" * 100_000, "bundle upstream"),
        ("upstream.json", b"\xff\xfe", "bundle upstream"),
        ("upstream.json", b"", "bundle upstream"),
        ("upstream.json", b'{"pull": []}', "bundle title"),
        ("upstream.json", b'{"pull": 5}', "bundle title"),
        ("upstream.json", b'{"title": null}', "bundle title"),
        ("ORIGIN.yaml", b"[" * 1200, "bundle origin"),
        ("ORIGIN.yaml", b"\xff\xfe\xff", "bundle origin"),
        ("ORIGIN.yaml", b"", "bundle origin"),
        ("ORIGIN.yaml", b"!!python/object:os.system {}", "bundle origin"),
        ("ORIGIN.yaml", b"a: 2025-99-99", "bundle origin"),
    ],
)
def test_a_file_of_anything_else_is_one_fault(bundle, name, content, rule):
    (bundle / name).write_bytes(content)
    assert said(bundle) == [rule]


@pytest.mark.parametrize(
    ("changes", "rules"),
    [
        ({"repo": "maker"}, ["bundle repo"]),
        ({"repo": None, "upstream_repo": "maker/lib"}, []),
        ({"pr_number": "5"}, []),
        ({"pr_number": None}, []),
        ({"pr_number": 50}, ["bundle number"]),
        ({"url": ""}, ["bundle url"]),
        ({"url": "", "source_key": "x"}, []),
        ({"merged_at": "2025-1-1"}, ["bundle date"]),
        ({"merged_at": None, "state": "open"}, []),
        ({"state": "open"}, ["bundle state"]),
        ({"state": "MERGED"}, []),
        ({"state": None}, []),
        ({"files": "none"}, []),
        ({"files": [1, None, {}]}, []),
        ({"files": [{"local_path": "a\0b", "sha256": "0" * 64}]}, ["bundle path"]),
        ({"files": [{"local_path": ".", "sha256": "0" * 64}]}, ["bundle file"]),
        ({"files": [{"local_path": "x", "sha256": "A" * 64}]}, ["bundle digest"]),
        ({"files": [{"local_path": "x", "sha256": None}]}, ["bundle digest"]),
        ({"files": [{"local_path": "../gh-5x", "sha256": "0" * 64}]}, ["bundle path"]),
    ],
)
def test_each_rule_of_an_origin(bundle, changes, rules):
    write(bundle, **changes)
    assert said(bundle) == rules


@pytest.mark.parametrize("name", ["gh-", "gh-5a", "gh--5", "gh-5.bak"])
def test_a_bundle_is_named_by_its_number(bundle, name):
    bundle.rename(bundle.with_name(name))
    assert said(bundle.with_name(name)) == ["bundle name"]


def test_folders_of_other_names_are_no_bundles(bundle):
    (bundle.parent / "notes").mkdir()
    (bundle.parent / "gh-7").write_text("a file")
    assert said(bundle) == []


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("- a\n  b\n\n# c\n", []),
        ("", []),
        ("* a\n", ["bundle discussion"]),
        ("- a\nb\nc\n", ["bundle discussion"]),
        ("\n\n-a", ["bundle discussion"]),
    ],
)
def test_a_discussion_is_bullets_and_its_first_fault_is_told(bundle, text, rules):
    (bundle / "discussion.md").write_text(text)
    assert said(bundle) == rules


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    with Truth(fill(tmp_path_factory.mktemp("held")), read_only=True) as truth:
        key = "maker/fastlib#2"
        pull = truth.pull(key)
        assert pull is not None
        return Held(pull, truth.diff(key), truth.files(key), truth.chunks(key))


def broken(held, **changes):
    pull = PullRequest.model_validate({**held.pull.model_dump(), **changes})
    return [rule for rule, _ in of_pull(replace(held, pull=pull), TODAY)]


@pytest.mark.parametrize(
    ("changes", "rules"),
    [
        ({"title": "x" * 1000}, []),
        ({"merged_at": "2005-01-01"}, []),
        ({"merged_at": "2004-12-31"}, ["date"]),
        ({"merged_at": TODAY}, []),
        ({"merged_at": ""}, []),
        ({"origin": "github", "url": ""}, ["url"]),
        ({"origin": "patch", "url": ""}, []),
        ({"origin": "git", "merge_commit": "a" * 40}, []),
        ({"origin": "git", "merge_commit": "a" * 40, "merged_at": ""}, ["merge"]),
        ({"url": "https://github.com/maker/fastlib/pull/2/"}, []),
        ({"url": "https://github.com/MAKER/FastLib/pull/02"}, []),
        ({"url": "https://github.com/maker/fastlib/pull/" + "2" * 5000}, ["url"]),
        ({"url": "https://github.com/maker/fastlib/pull/22"}, ["url"]),
        ({"url": "https://github.com/maker/fastlib/commit/abc"}, []),
        ({"licence": "MIT OR (Apache-2.0)"}, []),
        ({"licence": "MIT or Apache-2.0"}, ["licence"]),
        ({"licence": ""}, ["licence"]),
        ({"licence": " MIT"}, ["licence"]),
        ({"licence": "NOASSERTION"}, []),
        ({"diff_state": "too_large", "diff_sha256": ""}, ["derived"]),
        ({"diff_state": "missing"}, ["digest", "derived"]),
    ],
)
def test_each_rule_of_a_pull_request_at_its_border(held, changes, rules):
    assert broken(held, **changes) == rules


def test_a_diff_without_a_last_line_end_has_that_line(held):
    cut = replace(held, diff=held.diff.rstrip(b"\n"))
    assert list(of_pull(cut, TODAY)) == []
    shorter = replace(held, diff=held.diff.rstrip(b"\n").rpartition(b"\n")[0])
    assert "files" in {rule for rule, _ in of_pull(shorter, TODAY)}


def test_chunks_of_a_diff_with_windows_line_ends_begin_where_they_say(held):
    windows = replace(held, diff=held.diff.replace(b"\n", b"\r\n"))
    assert list(of_pull(windows, TODAY)) == []


@pytest.mark.parametrize(("tag", "is_one"), [("cuda", True), ("attention", True), ("", False)])
def test_tags_are_those_of_the_vocabulary_and_of_suffixes(tag, is_one):
    assert is_tag(tag) == is_one


@pytest.mark.parametrize(
    "content", [b"\xff", b"sources: [" * 20, b"sources:\n", b"- a\n", b"", b"sources: {a: 1}\n"]
)
def test_a_registry_of_anything_else_is_an_error_that_names_it(tmp_path, content):
    path = tmp_path / "map.yaml"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"map\.yaml is not a registry"):
        read_registry(path)


@pytest.mark.parametrize("content", ["[]", "null", '{"a": {}}', '{"a": {"url": 1}}', ""])
def test_pins_of_anything_else_are_an_error(tmp_path, content):
    (tmp_path / "pins.json").write_text(content)
    with pytest.raises(SourceError, match=r"pins\.json is damaged"):
        SourceMap(tmp_path, ()).table()


def question(**changes):
    return json.dumps({"query": "q", "kind": "k", **changes}, ensure_ascii=False)


def test_a_question_may_hold_what_ends_lines_elsewhere(tmp_path):
    path = tmp_path / "q.jsonl"
    texts = ["a\u2028b", "a\x85b", "a\u2029b", "a\x0cb"]
    path.write_text("\n\n".join(question(query=text) for text in texts) + "\r\n", "utf-8")
    assert [one.query for one in read_questions(path)] == texts


@pytest.mark.parametrize("row", ["{", "[]", question(rubric_all_regex_i=["("]), question(query=1)])
def test_a_line_that_is_no_question_is_named(tmp_path, row):
    path = tmp_path / "q.jsonl"
    path.write_text(f"{question()}\n\n{row}\n")
    with pytest.raises(SourceError, match="line 3, is not a question"):
        read_questions(path)


@pytest.mark.parametrize("name", ["absent", "."])
def test_questions_that_cannot_be_read_are_an_error(tmp_path, name):
    with pytest.raises(SourceError, match="cannot be read as questions"):
        read_questions(tmp_path / name)


@pytest.mark.parametrize(
    ("found", "wanted", "recall", "rank"),
    [
        ("abc", "a", 1.0, 1.0),
        ("abc", "c", 1.0, 1 / 3),
        ("abc", "cd", 0.5, 1 / 3),
        ("abc", "d", 0.0, 0.0),
        ("", "d", 0.0, 0.0),
        ("abcdefghijk", "k", 0.0, 0.0),
        ("abcdefghij", "j", 1.0, 0.1),
        ("aaaaaaaaaaab", "b", 1.0, 0.5),
        ("abcdefghij", "abcdefghijklmnopqrst", 1.0, 1.0),
    ],
)
def test_a_score_is_of_ten_answers_at_most(found, wanted, recall, rank):
    scored = score(list(found), set(wanted))
    assert scored.recall == recall
    assert scored.reciprocal_rank == pytest.approx(rank)
