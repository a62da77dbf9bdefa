import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_store.diffs import parse, raw_lines
from tests.knowledge_store.diff_builders import CHANGES, KERNEL, KEY, applied, make_diff

unidiff = pytest.importorskip("unidiff")


def only_file(diff: bytes):
    (file,) = parse(KEY, diff).files
    return file


def test_a_change_of_a_kernel_is_read_with_its_lines_and_context():
    parsed = parse(KEY, KERNEL.encode())
    (file,), (hunk,) = parsed.files, parsed.hunks
    assert (file.path, file.old_path, file.status, file.kind) == (
        "csrc/attention.cu",
        "csrc/attention.cu",
        "modified",
        "kernel",
    )
    assert (file.first_line, file.last_line) == (1, 14)
    assert hunk.heading == "__global__ void attend(const float* q, float* out)"
    assert (hunk.diff_line, hunk.old_start, hunk.new_start) == (5, 10, 10)
    assert (hunk.old_count, hunk.new_count) == (6, 8)
    assert (parsed.added, parsed.removed, parsed.problems) == (3, 1, ())
    assert hunk.lines[2] == "-  for (int i = lane; i < n; i += 32) sum += q[i];"


@given(CHANGES)
def test_hunks_turn_the_old_file_into_the_new_one(changes):
    parsed = parse(KEY, make_diff(changes))
    assert parsed.problems == ()
    assert [file.path for file in parsed.files] == list(changes)
    for file in parsed.files:
        old, new = changes[file.path]
        hunks = [hunk for hunk in parsed.hunks if hunk.file == file.index]
        assert applied(old, hunks) == new


@given(CHANGES)
def test_lines_of_hunks_stand_where_they_say(changes):
    diff = make_diff(changes)
    lines = raw_lines(diff)
    for hunk in parse(KEY, diff).hunks:
        assert lines[hunk.diff_line - 1].startswith(b"@@ -")
        body = lines[hunk.diff_line : hunk.diff_line + len(hunk.lines)]
        assert tuple(line.decode() for line in body) == hunk.lines


def without_odd_ends(changes):
    """The other parser ends lines as Python does, and refuses names with blanks."""
    odd = set("\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")
    lines = [line for sides in changes.values() for side in sides for line in side]
    return not any(odd & set(line) for line in lines) and not any(" " in path for path in changes)


@given(CHANGES.filter(without_odd_ends))
def test_another_parser_counts_the_same(changes):
    diff = make_diff(changes)
    parsed = parse(KEY, diff)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = unidiff.PatchSet(diff.decode())
    assert len(parsed.files) == len(other)
    assert len(parsed.hunks) == sum(len(file) for file in other)
    assert parsed.added == sum(file.added for file in other)
    assert parsed.removed == sum(file.removed for file in other)
    starts = [(h.source_start, h.target_start) for file in other for h in file]
    assert [(hunk.old_start, hunk.new_start) for hunk in parsed.hunks] == starts


@given(st.binary(max_size=400))
def test_no_bytes_raise(content):
    parse(KEY, content)


@given(CHANGES, st.data())
def test_damaged_diffs_never_raise_and_keep_the_sections_before_the_damage(changes, data):
    diff = make_diff(changes)
    at = data.draw(st.integers(0, len(diff)))
    damage = data.draw(st.binary(max_size=20))
    before = parse(KEY, diff)
    after = parse(KEY, diff[:at] + damage + diff[at:])
    line = diff[:at].count(b"\n") + 1
    whole = [file for file in before.files if file.last_line < line - 1]
    assert after.files[: len(whole)] == tuple(whole)


SECTIONS = {
    "added": (
        (
            b"diff --git a/new.py b/new.py\nnew file mode 100644\n--- /dev/null\n+++ b/new.py\n"
            b"@@ -0,0 +1 @@\n+x = 1\n"
        ),
        ("new.py", "", "added"),
    ),
    "deleted": (
        (
            b"diff --git a/old.py b/old.py\ndeleted file mode 100644\n--- a/old.py\n+++ /dev/null\n"
            b"@@ -1 +0,0 @@\n-x = 1\n"
        ),
        ("old.py", "old.py", "deleted"),
    ),
    "renamed, changed": (
        (
            b"diff --git a/a.py b/b.py\nsimilarity index 90%\nrename from a.py\nrename to b.py\n"
            b"--- a/a.py\n+++ b/b.py\n@@ -1 +1 @@\n-x\n+y\n"
        ),
        ("b.py", "a.py", "renamed"),
    ),
    "renamed only": (
        b"diff --git a/a.py b/b.py\nsimilarity index 100%\nrename from a.py\nrename to b.py\n",
        ("b.py", "a.py", "renamed"),
    ),
    "copied": (
        b"diff --git a/a.py b/b.py\nsimilarity index 100%\ncopy from a.py\ncopy to b.py\n",
        ("b.py", "", "added"),
    ),
    "binary": (
        b"diff --git a/a.png b/a.png\nindex 1..2\nBinary files a/a.png and b/a.png differ\n",
        ("a.png", "a.png", "binary"),
    ),
    "binary patch": (
        b"diff --git a/a.bin b/a.bin\nGIT binary patch\nliteral 3\nKcmZQz\n\nliteral 0\nHc\n",
        ("a.bin", "a.bin", "binary"),
    ),
    "mode only": (
        b"diff --git a/run.sh b/run.sh\nold mode 100644\nnew mode 100755\n",
        ("run.sh", "run.sh", "modified"),
    ),
    "empty file": (
        b"diff --git a/p/__init__.py b/p/__init__.py\nnew file mode 100644\nindex 0..e\n",
        ("p/__init__.py", "", "added"),
    ),
    "without git": (
        (
            b"--- a/plain.c\t2024-01-01 00:00:00\n+++ b/plain.c\t2024-01-02 00:00:00\n"
            b"@@ -1 +1 @@\n-a\n+b\n"
        ),
        ("plain.c", "plain.c", "modified"),
    ),
    "quoted": (
        (
            b'diff --git "a/\\303\\244 b.py" "b/\\303\\244 b.py"\n--- "a/\\303\\244 b.py"\n'
            b'+++ "b/\\303\\244 b.py"\n@@ -1 +1 @@\n-a\n+b\n'
        ),
        ("ä b.py", "ä b.py", "modified"),
    ),
    "quoted, no names": (
        b'diff --git "a/q\\"\\t.sh" "b/q\\"\\t.sh"\nold mode 100644\nnew mode 100755\n',
        ('q"\ufffd.sh', 'q"\ufffd.sh', "modified"),
    ),
    "spaces": (
        b"diff --git a/a b c.py b/a b c.py\nold mode 100644\nnew mode 100755\n",
        ("a b c.py", "a b c.py", "modified"),
    ),
    "carriage returns": (
        b"diff --git a/w.c b/w.c\r\n--- a/w.c\r\n+++ b/w.c\r\n@@ -1 +1 @@\r\n-a\r\n+b\r\n",
        ("w.c", "w.c", "modified"),
    ),
    "no prefixes": (
        b"diff --git x.py x.py\n--- x.py\n+++ x.py\n@@ -1 +1 @@\n-a\n+b\n",
        ("x.py", "x.py", "modified"),
    ),
}


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_names_its_file(name):
    diff, expected = SECTIONS[name]
    file = only_file(diff)
    assert (file.path, file.old_path, file.status) == expected


def test_content_that_looks_like_headers_stays_content():
    diff = (
        b"--- a/x.diff\n+++ b/x.diff\n@@ -1,3 +1,3 @@\n--- a/y\n-@@ -1 +1 @@\n"
        b"+++ b/y\n+@@ -1 +1 @@\n diff --git a/z b/z\n"
    )
    parsed = parse(KEY, diff)
    assert (len(parsed.files), len(parsed.hunks), parsed.problems) == (1, 1, ())
    assert (parsed.added, parsed.removed) == (2, 2)


def test_a_stripped_context_line_counts_as_context():
    diff = b"--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n a\n\n-b\n+c\n"
    parsed = parse(KEY, diff)
    assert parsed.hunks[0].lines == (" a", "", "-b", "+c")
    assert parsed.problems == ()


def test_the_mark_of_a_missing_newline_belongs_to_its_hunk():
    diff = b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\n\\ No newline\n"
    parsed = parse(KEY, diff)
    assert len(parsed.hunks[0].lines) == 4
    assert parsed.problems == ()


@pytest.mark.parametrize(
    ("diff", "problem"),
    [
        (b"--- a/x\n+++ b/x\n@@ -1,5 +1,5 @@\n a\n", "ends before its counts"),
        (b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n+c\n", "goes on beyond its counts"),
        (b"--- a/x\n+++ b/x\n@@ -1,99999999999 +1 @@\n", "gives no counts"),
        (b"@@ -1 +1 @@\n-a\n+b\n", "without a file"),
        (b"diff --cc x\n@@@ -1 -1 +1 @@@\n++a\n", "combined diff"),
    ],
)
def test_what_does_not_parse_is_said_with_its_line(diff, problem):
    problems = parse(KEY, diff).problems
    assert problem in problems[0]
    assert problems[0].startswith("line ")


@pytest.mark.parametrize("diff", [b"\0" * 100, b"some text\n", b"<html>404</html>"])
def test_what_holds_no_file_at_all_is_said(diff):
    parsed = parse(KEY, diff)
    assert parsed.files == ()
    assert parsed.problems == ("line 1: no file of a diff in all of it",)


def test_nothing_is_a_diff_of_nothing():
    parsed = parse(KEY, b"")
    assert (parsed.files, parsed.hunks, parsed.problems) == ((), (), ())


def test_a_mail_around_a_diff_is_passed_over():
    mail = b"From 0123 Mon\nSubject: [PATCH] x\n\nBody\n---\n x | 1 +\n\n" + KERNEL.encode()
    parsed = parse(KEY, mail + b"-- \n2.39.0\n\n")
    assert (len(parsed.files), len(parsed.hunks), parsed.problems) == (1, 1, ())
    assert parsed.hunks[0].diff_line == 12


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "/etc/passwd", "a/../../b", "..\\..\\x", "~root/x", "a\x1bb"]
)
def test_paths_that_no_repository_holds_are_counted(path):
    diff = f"diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-a\n+b\n"
    parsed = parse(KEY, diff.encode())
    assert parsed.odd_paths == 1
    assert not any(ord(mark) < 32 for mark in parsed.files[0].path)


def test_bytes_that_are_no_text_become_replacement_characters():
    diff = b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-\xff\xfe\n+a\0b\n"
    assert parse(KEY, diff).hunks[0].lines == ("-\ufffd\ufffd", "+a\0b")


def test_a_first_line_that_states_a_licence_is_kept():
    diff = (
        b"--- /dev/null\n+++ b/x.cu\n@@ -0,0 +1,2 @@\n+// SPDX-License-Identifier: MIT\n+int x;\n"
    )
    assert only_file(diff).licence == "MIT"


@given(st.lists(st.binary(max_size=8).filter(lambda line: b"\n" not in line)))
def test_lines_are_those_that_grep_counts(lines):
    content = b"".join(line + b"\n" for line in lines)
    assert raw_lines(content) == lines
    assert raw_lines(content + b"x") == [*lines, b"x"]
