"""Answers at the borders: of lines, blocks, pulls and parts, of days, and of what limits allow."""

from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge_store.exact import Exact, build, engine
from knowledge_store.exact.build import BLOCK_BYTES
from knowledge_store.exact.lines import fair_shares
from knowledge_store.truth import Truth
from tests.knowledge_store.exact.stores import (
    KERNEL,
    ask,
    indexed,
    lines_of,
    places,
    plain_pattern,
    plain_scan,
    pull,
    put,
    updated,
)

BY_INDEX, BY_PROGRAM = 400, 0


@pytest.fixture(params=[BY_INDEX, BY_PROGRAM], ids=["index", "program"])
def sized(request, monkeypatch):
    """Judge in this process, or by a program as for a part of many blocks."""
    monkeypatch.setattr(engine, "_ALWAYS_BLOCKS", request.param)


def check(exact, diffs, pattern, mode="literal", *, folds=False):
    answer = exact.search(ask(pattern, mode, ignore_case=folds))
    plain = plain_pattern(pattern, mode, ignore_case=folds)
    wanted = plain_scan(diffs, plain)
    assert places(answer) == wanted, (pattern, mode, answer.engine)
    for hit in answer.hits:
        line = lines_of(diffs[hit.key])[hit.diff_line - 1]
        assert hit.text == line[:4096].decode(errors="replace")
    return wanted


@pytest.mark.usefixtures("sized")
@pytest.mark.parametrize("shift", [-7, -6, -1, 0, 1])
def test_a_word_at_the_border_of_a_block_is_found(tmp_path, shift):
    # The word's line is the last of a block, the first of the next, or ends on the border.
    head = b"+" * (BLOCK_BYTES - 2) + b"\n"
    filler = b"x" * (BLOCK_BYTES - 100 + shift) + b"\n" + b"y" * 90 + b"\n"
    diffs = {
        "a/b#1": filler + b"needle\n" + filler,
        "a/b#2": head + b"needle\n" + b"z" * BLOCK_BYTES + b"needle",
        "a/b#3": b"needle\n" + filler + b"\nneedle",
    }
    with indexed(tmp_path, diffs) as exact:
        assert len(check(exact, diffs, "needle")) == 5
        assert len(check(exact, diffs, "needle", "word")) == 4
        check(exact, diffs, "^needle$", "regex")
        check(exact, diffs, "(?<=z)needle", "regex")
        check(exact, diffs, "^$", "regex")


@settings(max_examples=15)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=40),
    st.lists(st.integers(0, 40), max_size=40),
    st.sampled_from([16, 17, 31, 64]),
    st.sampled_from([BY_INDEX, BY_PROGRAM]),
)
def test_lines_keep_their_numbers_whatever_the_blocks(tmp_path_factory, first, second, size, many):
    diffs = {
        "a/b#1": b"\n".join(b"%d:" % n + b"k" * width for n, width in enumerate(first)),
        "a/b#2": b"",
        "a/c#1": b"".join(b"k" * width + b"\n" for width in second),
    }
    before = build.BLOCK_BYTES, engine._ALWAYS_BLOCKS
    build.BLOCK_BYTES, engine._ALWAYS_BLOCKS = size, many
    try:
        with indexed(tmp_path_factory.mktemp("s"), diffs) as exact:
            for pattern, mode in (
                ("kkk", "literal"),
                ("k", "word"),
                ("^k*$", "regex"),
                ("1:", "literal"),
            ):
                check(exact, diffs, pattern, mode)
    finally:
        build.BLOCK_BYTES, engine._ALWAYS_BLOCKS = before


@pytest.mark.usefixtures("sized")
def test_lines_of_several_parts_keep_their_numbers(tmp_path):
    diffs = {f"a/b#{n}": b"+first %d\n" % n * 3 + b"+end" for n in range(1, 30)}
    indexed(tmp_path, diffs).close()
    late = {f"a/a#{n}": b"+end\n\n+first 7" for n in range(1, 4)}
    put(tmp_path, {**late, "a/a#9": b"", "a/b#5": b"+first 7\r\n"})
    diffs |= {**late, "a/a#9": b"", "a/b#5": b"+first 7\r\n"}
    with updated(tmp_path) as exact:
        assert len(list(exact.folder.glob("part-*"))) == 2
        for pattern in ("first 7", "end", "first"):
            check(exact, diffs, pattern)
        check(exact, diffs, "^$|7$", "regex")
        answer = exact.search(ask("first"))
    found = [(hit.repo, hit.pr, hit.diff_line) for hit in answer.hits]
    assert found == sorted(found)
    assert answer.searched_pulls == len(diffs)


@pytest.mark.usefixtures("sized")
def test_carriage_returns_are_of_the_line(tmp_path):
    diffs = {"a/b#1": b"+a\r\n+b\r\r\n\r\n+a\n+a\rb\n+c\r", "a/b#2": b"\r", "a/b#3": b"\n\r\n"}
    with indexed(tmp_path, diffs) as exact:
        for pattern in ("a$", r"a\r$", r"^\r$", r"\r", r"a\rb", "^$", r"a.", r"c\s$", r"\r\r"):
            check(exact, diffs, pattern, "regex")
        assert len(check(exact, diffs, "\r")) == 7
        assert len(check(exact, diffs, "a", "word")) == 3
        assert exact.search(ask(r"^\+c", "regex")).hits[0].text == "+c\r"


@pytest.mark.usefixtures("sized")
@pytest.mark.parametrize("pattern", ["^", "$", "x*", "^$", "(?:)", "(?=)"])
def test_what_matches_nothing_matches_each_line_once(tmp_path, pattern):
    diffs = {"a/b#1": b"", "a/b#2": b"\n", "a/b#3": b"\n\n", "a/b#4": b"a", "a/b#5": b"a\n\nb"}
    with indexed(tmp_path, diffs) as exact:
        wanted = check(exact, diffs, pattern, "regex")
        assert len(wanted) == (7 if pattern != "^$" else 4)
        assert not any(key == "a/b#1" for key, _ in wanted)
        assert exact.search(ask(pattern, "regex")).searched_pulls == 5


def test_a_store_of_empty_diffs_has_no_lines(tmp_path):
    with indexed(tmp_path, {"a/b#1": b"", "a/b#2": b""}) as exact:
        for pattern, mode in (("abc", "literal"), ("^", "regex"), (r"(a)?\1", "regex")):
            answer = exact.search(ask(pattern, mode))
            assert (answer.total_hits, answer.searched_pulls, answer.is_complete) == (0, 2, True)


@pytest.mark.usefixtures("sized")
def test_bytes_beside_a_word_that_are_no_letters_of_ascii_end_it(tmp_path):
    beside = [bytes((byte,)) for byte in range(256) if byte != 10] + ["é".encode(), b"\xc3"]
    lines = [
        b"",
        b"word",
        *(side + b"word" for side in beside),
        *(b"word" + side for side in beside),
    ]
    lines += [b"wordword", b"wordword word", b"word_ _word", "éwordé".encode()]
    diffs = {"a/b#1": b"\n".join(lines)}
    with indexed(tmp_path, diffs) as exact:
        wanted = check(exact, diffs, "word", "word")
        assert len(wanted) == 1 + 2 * (len(beside) - 63) + 2
        check(exact, diffs, r"\bword\b", "regex")
        check(exact, diffs, "WORD", "word", folds=True)
        check(exact, diffs, "é", "word")


@pytest.mark.usefixtures("sized")
@pytest.mark.parametrize("combine", ["any", "all"])
@pytest.mark.parametrize(
    ("patterns", "mode"),
    [
        (("aba", "bab"), "literal"), (("abab", "ab", "b"), "literal"), (("aba", "aba"), "literal"),
        (("aba", "ABA"), "literal"), (("ab", "aba"), "word"), (("^a", "a$", "b"), "regex"),
        (("a.*b", r"(?=.*ba)a", "^.{4,}$"), "regex"), (("ab|ba", "(a)b?\\1", "$"), "regex"),
        (("aba", "nowhere"), "literal"), (("no", "where"), "literal"),
    ],
)  # fmt: skip
def test_terms_that_overlap_are_each_met(tmp_path, patterns, mode, combine):
    diffs = {
        "a/b#1": b"aba\nbab\nabab\nab aba\nb\n\na\naba\r\nABA\n",
        "a/b#2": b"x" * 5000 + b"aba" + b"x" * 5000 + b"bab\nabaXbab",
    }
    scans = [plain_scan(diffs, plain_pattern(one, mode)) for one in patterns]
    wanted = set.union(*scans) if combine == "any" else set.intersection(*scans)
    with indexed(tmp_path, diffs) as exact:
        assert places(exact.search(ask(patterns, mode, combine=combine))) == wanted


@pytest.mark.usefixtures("sized")
def test_very_long_lines_are_lines_like_others(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_WIDEST", 20_000)
    long = b"+" + b"ab" * 11_000
    diffs = {
        "a/b#1": b"+short\n" + long + b"needle" + long + b"\n+needle\n",
        "a/b#2": long + b"\n" + long + b"c",
        "a/b#3": b"+needle",
    }
    with indexed(tmp_path, diffs) as exact:
        assert len(check(exact, diffs, "needle")) == 3
        assert len(check(exact, diffs, "bc")) == 1
        check(exact, diffs, "ababab", folds=True)
        check(exact, diffs, "needle", "word")
        check(exact, diffs, "a.*needle.*b$", "regex")
        check(exact, diffs, r"^\+(ab)+\1c$", "regex")
        texts = {len(hit.text) for hit in exact.search(ask("abab")).hits}
    assert texts == {4096}


@pytest.mark.parametrize("width", [4094, 4095, 4096])
def test_a_shown_line_is_cut_at_its_bytes(tmp_path, width):
    line = b"x" * width + "é".encode() + b"tail"
    with indexed(tmp_path, {"a/b#1": line}) as exact:
        (hit,) = exact.search(ask("tail")).hits
    assert hit.text == line[:4096].decode(errors="replace")
    assert hit.text.endswith({4094: "é", 4095: "\ufffd", 4096: "x"}[width])


# Limits and days


@settings(max_examples=12)
@given(
    st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=3), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(1, 30), st.none() | st.integers(1, 8)), min_size=1, max_size=4),
)
def test_limits_are_shared_by_repositories_and_then_by_pulls(tmp_path_factory, repos, limits):
    sizes = {
        f"o/r{repo}#{number}": count
        for repo, own in enumerate(repos)
        for number, count in enumerate(own, start=1)
    }
    diffs = {key: b"+hit\n" * count + b"+miss\n" for key, count in sizes.items()}
    with indexed(tmp_path_factory.mktemp("s"), diffs) as exact:
        for limit, per_repo in limits:
            answer = exact.search(ask("hit", limit=limit, per_repo=per_repo))
            wants = [min(sum(own), per_repo or sum(own)) for own in repos]
            wanted = []
            for repo, share in enumerate(fair_shares(wants, limit)):
                for number, count in enumerate(fair_shares(repos[repo], share), start=1):
                    wanted += [(f"o/r{repo}#{number}", line) for line in range(1, count + 1)]
            assert [(hit.key, hit.diff_line) for hit in answer.hits] == wanted
            assert answer.total_hits == sum(sizes.values())
            assert answer.total_pulls == sum(count > 0 for count in sizes.values())
            assert answer.is_truncated == (len(wanted) < answer.total_hits)


@pytest.mark.usefixtures("sized")
def test_a_repository_is_one_whatever_parts_it_lies_in(tmp_path):
    old = {f"a/big#{n}": b"+hit\n" * 5 for n in range(1, 21)}
    indexed(tmp_path, old).close()
    put(tmp_path, {"a/big#30": b"+hit\n" * 5, "b/small#1": b"+hit\n" * 5})
    with updated(tmp_path) as exact:
        hits = exact.search(ask("hit", limit=12)).hits
        few = exact.search(ask("hit", per_repo=3)).hits
    assert {repo: len(list(own)) for repo, own in groupby(hits, lambda hit: hit.repo)} == {
        "a/big": 7,
        "b/small": 5,
    }
    assert [hit.key for hit in few] == ["a/big#1", "a/big#2", "a/big#3", *["b/small#1"] * 3]


DAYS = ("2023-12-31", "2024-01-01", "2024-02-29", "2024-12-31", "2025-01-01", "")
bounds = st.sampled_from([*DAYS, "2024-02-28", "2024-03-01", "0001-01-01", "9999-12-31"])


@pytest.fixture(scope="module")
def dated(tmp_path_factory):
    store = tmp_path_factory.mktemp("dated")
    with Truth(store) as truth:
        for number, day in enumerate(DAYS, start=1):
            diff = None if number == 4 else KERNEL
            truth.put(pull(f"x/y#{number}", merged_at=day), diff)
        with Exact(store) as exact:
            exact.update(truth)
            yield exact


@given(since=bounds, until=bounds)
def test_both_days_are_within_the_days(dated, since, until):
    answer = dated.search(ask("__ldg", since=since, until=until))
    wanted = {
        number
        for number, day in enumerate(DAYS, start=1)
        if not (since or until) or (day and since <= day <= (until or "9999-12-31"))
    }
    assert {hit.pr for hit in answer.hits} == wanted - {4}
    assert answer.without_diff == (("x/y#4",) if 4 in wanted else ())
    assert answer.is_complete == (4 not in wanted)
    assert answer.searched_pulls == 5


@pytest.mark.parametrize("day", ["2024", "2024-1-1", "2024-01-01T00:00:00Z", "01-01-2024", "now"])
def test_what_is_no_day_is_refused(day):
    for bound in ("since", "until"):
        with pytest.raises(ValueError, match=bound):
            ask("x", **{bound: day})


@pytest.mark.usefixtures("sized")
def test_filters_narrow_together(tmp_path):
    with Truth(tmp_path) as truth, Exact(tmp_path) as exact:
        for number, day in enumerate(DAYS, start=1):
            for repo in ("o/one", "O2/One", "o/two"):
                truth.put(pull(f"{repo}#{number}", merged_at=day), KERNEL)
        exact.update(truth)

        def found(**filters):
            hits = exact.search(ask("__ldg", **filters)).hits
            return {(hit.repo, hit.pr) for hit in hits}

        assert found(repos=("ONE",), since="2024-12-31") == {
            (repo, number) for repo in ("o/one", "O2/One") for number in (4, 5)
        }
        assert found(repos=("o/ONE", "two"), until="2023-12-31") == {("o/one", 1), ("o/two", 1)}
        assert found(repos=("o",)) == found(repos=("one/",)) == set()
        assert found(paths=("*.cu",), kinds=("test",)) == set()
        assert found(paths=("csrc/*",), kinds=("kernel",), until="2023-12-31", repos=("two",)) == {
            ("o/two", 1)
        }
        assert found(paths=("CSRC/*",)) == found(paths=("softmax.cu",)) == set()
        assert len(found(paths=("*softmax.c[ux]", "none"))) == 18
