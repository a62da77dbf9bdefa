import hashlib
import json

import pytest

from knowledge_store.bundle_rules import violations
from knowledge_store.errors import SourceError

ORIGIN = (
    "repo: maker/lib\npr_number: 5\nurl: https://github.com/maker/lib/pull/5\n"
    "state: closed\nmerged_at: '2025-01-01T00:00:00Z'\n"
)


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "bundles" / "lib" / "gh-5"
    folder.mkdir(parents=True)
    (folder / "ORIGIN.yaml").write_text(ORIGIN)
    (folder / "upstream.json").write_text(json.dumps({"pull": {"title": "T"}}))
    (folder / "review.diff").write_text("diff --git a/x b/x\n")
    return folder


def broken(bundle):
    found = list(violations(bundle.parent.parent))
    assert all(one.where.startswith("lib/gh-") for one in found)
    return {one.rule for one in found}


def with_files(bundle, **row):
    (bundle / "ORIGIN.yaml").write_text(ORIGIN + "files: " + json.dumps([row]) + "\n")


def test_a_whole_bundle_breaks_no_rule(bundle):
    assert broken(bundle) == set()


def test_a_flat_record_of_metadata_is_whole_as_well(bundle):
    (bundle / "upstream.json").write_text(json.dumps({"title": "T", "number": 5}))
    assert broken(bundle) == set()


@pytest.mark.parametrize(
    ("file", "content", "rule"),
    [
        ("ORIGIN.yaml", None, "bundle origin"),
        ("ORIGIN.yaml", "a: [", "bundle origin"),
        ("ORIGIN.yaml", "- a\n- b\n", "bundle origin"),
        ("ORIGIN.yaml", ORIGIN.replace("maker/lib\n", "''\n", 1), "bundle repo"),
        ("ORIGIN.yaml", ORIGIN.replace("pr_number: 5", "pr_number: 6"), "bundle number"),
        ("ORIGIN.yaml", ORIGIN.replace("url: https", "link: https"), "bundle url"),
        ("ORIGIN.yaml", ORIGIN.replace("2025-01-01T", "last week "), "bundle date"),
        ("ORIGIN.yaml", ORIGIN.replace("state: closed", "state: open"), "bundle state"),
        ("upstream.json", None, "bundle upstream"),
        ("upstream.json", "{", "bundle upstream"),
        ("upstream.json", "[]", "bundle upstream"),
        ("upstream.json", '{"pull": {"title": " "}}', "bundle title"),
        ("review.diff", None, "bundle diff"),
        ("review.diff", "", "bundle diff"),
        ("discussion.md", "# Talk\n- a point\nprose\n", "bundle discussion"),
    ],
)
def test_each_fault_breaks_its_rule_and_no_other(bundle, file, content, rule):
    if content is None:
        (bundle / file).unlink()
    else:
        (bundle / file).write_text(content)
    assert broken(bundle) == {rule}


def test_a_discussion_of_bullets_is_right(bundle):
    (bundle / "discussion.md").write_text("# Talk\n\n- a point\n  that goes on\n")
    assert broken(bundle) == set()


def test_digests_that_are_kept_are_checked(bundle):
    right = hashlib.sha256((bundle / "review.diff").read_bytes()).hexdigest()
    with_files(bundle, local_path="review.diff", sha256=right)
    assert broken(bundle) == set()
    with_files(bundle, local_path="review.diff", sha256="0" * 64)
    assert broken(bundle) == {"bundle digest"}
    with_files(bundle, local_path="review.diff", sha256="short")
    assert broken(bundle) == {"bundle digest"}
    with_files(bundle, local_path="absent", sha256=right)
    assert broken(bundle) == {"bundle file"}


@pytest.mark.parametrize("path", ["../../../outside", "/etc/passwd", ""])
def test_a_listed_file_outside_is_not_read(bundle, path):
    with_files(bundle, local_path=path, sha256="0" * 64)
    assert broken(bundle) == {"bundle path"}


def test_links_and_odd_names_are_said(bundle):
    (bundle / "link").symlink_to("/etc/passwd")
    bundle.rename(bundle.with_name("gh-five"))
    assert broken(bundle) == {"bundle link", "bundle name"}


def test_two_bundles_of_one_pull_request_are_said(bundle):
    other = bundle.parent.parent / "copy" / "gh-5"
    other.parent.mkdir()
    other.mkdir()
    for path in bundle.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    found = list(violations(bundle.parent.parent))
    assert [one.rule for one in found] == ["bundle identity"]


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(SourceError, match="not a folder"):
        list(violations(tmp_path / "absent"))
