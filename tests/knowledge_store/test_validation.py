import shutil
from dataclasses import replace

import pytest

from knowledge_store import operations
from knowledge_store.embedders import Choice
from knowledge_store.errors import StoreError
from knowledge_store.pulls import PullRequest
from knowledge_store.truth import Truth
from knowledge_store.validation import Held, of_pull, violations
from tests.knowledge_store.stores import PAGED, fill, make_pull

TODAY = "2026-01-01"
KEY = "maker/fastlib#2"


@pytest.fixture
def store(tmp_path):
    folder = fill(tmp_path / "store")
    operations.build(folder, [], Choice(None, "none"))
    return folder


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    folder = fill(tmp_path_factory.mktemp("held"))
    with Truth(folder, read_only=True) as truth:
        pull = truth.pull(KEY)
        assert pull is not None
        return Held(pull, truth.diff(KEY), truth.files(KEY), truth.chunks(KEY))


def pulls(held, **changes):
    return replace(held, pull=PullRequest.model_validate({**held.pull.model_dump(), **changes}))


def broken(held):
    return [rule for rule, _ in of_pull(held, TODAY)]


def rules(store):
    return sorted({one.rule for one in violations(store, today=TODAY)})


def test_a_store_that_was_built_breaks_no_rule(store):
    assert list(violations(store, today=TODAY)) == []


def test_a_pull_request_as_it_was_taken_in_breaks_no_rule(held):
    assert broken(held) == []


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"title": "  "}, "title"),
        ({"title": "two\nlines"}, "title"),
        ({"title": "x" * 1001}, "title"),
        ({"url": ""}, "url"),
        ({"url": "https://github.com/maker/fastlib/pull/3"}, "url"),
        ({"url": "https://github.com/other/fastlib/pull/2"}, "url"),
        ({"merged_at": "2026-01-02"}, "date"),
        ({"merged_at": "1999-12-31"}, "date"),
        ({"licence": "see the README, please"}, "licence"),
        ({"diff_sha256": ""}, "digest"),
        ({"origin": "git"}, "merge"),
    ],
)
def test_each_faulty_field_breaks_its_rule(held, changes, rule):
    assert broken(pulls(held, **changes)) == [rule]


def test_a_diff_that_is_missing_has_no_parts(held):
    found = broken(pulls(held, diff_state="missing", diff_sha256=""))
    assert found == ["derived"]


@pytest.mark.parametrize(
    "licence", ["MIT", "unknown", "Apache-2.0 WITH LLVM-exception", "MIT AND ISC"]
)
def test_licences_are_spdx_or_unknown(held, licence):
    assert broken(pulls(held, licence=licence)) == []


def with_chunk(held, **changes):
    return replace(held, chunks=(replace(held.chunks[0], **changes), *held.chunks[1:]))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"chunk_id": "other/lib#1:abc"}, "chunk id"),
        ({"path": "not/there.py"}, "reference"),
        ({"diff_line": 2}, "chunk"),
        ({"diff_line": 10_000}, "chunk"),
        ({"diff_line": 0}, "chunk"),
        ({"tags": ("made-up-tag",)}, "tags"),
    ],
)
def test_each_faulty_chunk_breaks_its_rule(held, changes, rule):
    assert broken(with_chunk(held, **changes)) == [rule]


@pytest.mark.parametrize(
    "changes",
    [{"index": 5}, {"first_line": 0}, {"last_line": 10_000}, {"first_line": 9, "last_line": 3}],
)
def test_each_faulty_file_breaks_its_rule(held, changes):
    files = (replace(held.files[0], **changes), *held.files[1:])
    assert set(broken(replace(held, files=files))) == {"files"}


def test_files_that_overlap_break_their_rule(held):
    first, second = held.files
    files = (first, replace(second, first_line=first.last_line))
    assert broken(replace(held, files=files)) == ["files"]


def test_an_index_that_is_behind_is_named(store):
    with Truth(store) as truth:
        truth.put(make_pull(30), PAGED.encode())
    found = {one.where: one.what for one in violations(store, today=TODAY)}
    assert set(found) == {"words", "exact"}
    assert "run an update" in found["words"]
    operations.build(store, [], Choice(None, "none"))
    assert rules(store) == []


@pytest.mark.parametrize("part", ["lexical", "exact"])
def test_an_index_that_is_gone_or_damaged_is_named(store, part):
    victims = [path for path in (store / part).rglob("*") if path.is_file()]
    for path in victims:
        path.write_bytes(b"\0" * path.stat().st_size)
    assert rules(store) == ["index"]
    shutil.rmtree(store / part)
    assert rules(store) == ["index"]
    operations.build(store, [], Choice(None, "none"))
    assert rules(store) == []


def test_a_store_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(StoreError):
        list(violations(tmp_path / "absent"))
