import datetime as dt
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_store.sources.reading import (
    Refused,
    clean,
    commit_of,
    day_of,
    file_bytes,
    fingerprint,
    json_mapping,
    mapping_at,
    names_of,
    number_at,
    text_at,
    yaml_mapping,
)


def test_a_regular_file_is_read_within_its_bound(tmp_path):
    path = tmp_path / "file"
    assert file_bytes(path, 10) is None
    path.write_bytes(b"0123456789")
    assert file_bytes(path, 10) == b"0123456789"
    with pytest.raises(Refused, match="too large"):
        file_bytes(path, 9)


def test_links_pipes_and_folders_are_refused(tmp_path):
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with pytest.raises(Refused, match="a link"):
        file_bytes(tmp_path / "link", 10_000)
    for name in ("pipe", "folder"):
        with pytest.raises(Refused, match="no regular file"):
            file_bytes(tmp_path / name, 10_000)
    with pytest.raises(Refused):
        file_bytes(tmp_path / ("n" * 300), 10)


PARTS = st.lists(st.one_of(st.none(), st.binary(max_size=5)), max_size=4)


@given(PARTS, PARTS)
def test_fingerprints_tell_contents_and_their_bounds_apart(one, other):
    assert (fingerprint(*one) == fingerprint(*other)) == (one == other)


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b'"x"', b"{", b"\xff", b"[" * 100_000, b'{"a":' * 100_000]
)
def test_what_is_no_json_object_is_refused(content):
    with pytest.raises(Refused, match="no JSON"):
        json_mapping(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no YAML mapping"),
        (b"- a", "no YAML mapping"),
        (b"a: [", "no YAML"),
        (b"a: !!python/object/apply:os.system [id]", "no YAML"),
        (b"a: &x {c: 1}\nb: {<<: *x}", "merges aliases"),
        (b"[" * 100_000, "too deeply"),
        (b"- " * 100_000, "too deeply"),
        (b"{a: " * 100_000, "too deeply"),
        (b"? " * 100_000, "too deeply"),
        (b"a: " + b"x" * (1024 * 1024), "too large"),
        (b"\x00\x01", "no YAML"),
        (b"a: 2024-99-99", "no YAML"),
    ],
)
def test_yaml_with_traps_is_refused(content, reason):
    with pytest.raises(Refused, match=reason):
        yaml_mapping(content)


@given(st.binary(max_size=100))
def test_no_bytes_do_worse_than_being_refused(content):
    for read in (json_mapping, yaml_mapping):
        try:
            assert isinstance(read(content), dict)
        except Refused:
            continue


def test_plain_records_are_read():
    assert yaml_mapping(b"a: 1\nb: [x, y]\n") == {"a": 1, "b": ["x", "y"]}
    assert yaml_mapping(b"a: &x [1]\nb: *x\n") == {"a": [1], "b": [1]}
    assert json_mapping(b'{"a": {"b": 2}}') == {"a": {"b": 2}}


@given(st.text(st.characters()))
def test_clean_text_can_be_stored_and_printed(text):
    cleaned = clean(text)
    cleaned.encode("utf-8")
    assert not any(ord(mark) < 32 and mark not in "\t\n\r" for mark in cleaned)
    assert clean(cleaned) == cleaned


def test_surrogates_and_escapes_are_replaced():
    assert clean("a\ud800b\x1b[31m\0") == "a?b\ufffd[31m\ufffd"


def test_fields_are_looked_for_under_each_name():
    record = {"a": "", "b": 5, "c": "text", "d": True, "e": -1, "f": 7}
    assert text_at(record, "a", "b", "c") == "text"
    assert text_at(record, "a", "missing") == ""
    assert number_at(record, "d", "e", "f") == 7
    assert number_at(record, "c") == 0
    assert mapping_at({"x": {"y": {"z": 1}}}, "x", "y") == {"z": 1}
    assert mapping_at({"x": []}, "x", "y") == mapping_at(None) == {}


@pytest.mark.parametrize(
    ("value", "day"),
    [
        ("2025-02-24T13:31:56Z", "2025-02-24"),
        ("2025-02-24 13:31:56", "2025-02-24"),
        ("2025-02-24", "2025-02-24"),
        (dt.date(2025, 2, 24), "2025-02-24"),
        (dt.datetime(2025, 2, 24, 13, tzinfo=dt.UTC), "2025-02-24"),
        ("24.2.2025", ""),
        ("2025-02-245", ""),
        (None, ""),
        (20250224, ""),
    ],
)
def test_days_are_read_in_any_form(value, day):
    assert day_of(value) == day


def test_only_full_object_names_are_commits():
    assert commit_of("a" * 40) == "a" * 40
    assert commit_of("a" * 64) == "a" * 64
    assert [commit_of(value) for value in ("ca4fdbea", "g" * 40, None, 5)] == [""] * 4


def test_labels_are_texts_or_objects():
    assert names_of([{"name": "perf"}, "kernels", {"id": 5}, 7, "", None]) == ("perf", "kernels")
    assert names_of("perf") == names_of(None) == ()
