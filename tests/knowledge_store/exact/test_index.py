"""A search answers what a plain scan of every line would, and says how much there is."""

import itertools
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge_store.exact import Exact, engine
from knowledge_store.exact.errors import IndexMissing, PatternError, SearchTimeout
from knowledge_store.truth import Truth
from tests.knowledge_store.exact.stores import (
    KERNEL,
    LETTERS,
    TEST,
    ask,
    corpora,
    expressions,
    indexed,
    places,
    plain_pattern,
    plain_scan,
    pull,
    put,
)

DIFFS = {"x/kernels#12": KERNEL, "x/kernels#13": TEST, "y/serving#7": TEST + KERNEL}


@pytest.fixture
def exact(tmp_path):
    with indexed(tmp_path, DIFFS) as opened:
        yield opened


@pytest.fixture(params=[400, 0], ids=["small", "large"])
def sized(request, monkeypatch):
    """Let a small part be treated as one whose blocks are too many to judge here."""
    monkeypatch.setattr(engine, "_ALWAYS_BLOCKS", request.param)


@settings(max_examples=60)
@given(
    corpora,
    st.lists(
        st.one_of(
            st.tuples(st.text(LETTERS, min_size=1, max_size=4), st.just("literal")),
            st.tuples(st.text(LETTERS, min_size=1, max_size=4), st.just("word")),
            st.tuples(expressions, st.just("regex")),
        ),
        min_size=1,
        max_size=8,
    ),
    st.booleans(),
)
def test_answers_equal_a_plain_scan(diffs, queries, folds):
    with tempfile.TemporaryDirectory() as folder, indexed(Path(folder), diffs) as exact:
        for pattern, mode in queries:
            answer = exact.search(ask(pattern, mode, ignore_case=folds))
            plain = plain_pattern(pattern, mode, ignore_case=folds)
            assert places(answer) == plain_scan(diffs, plain), (pattern, mode)


@settings(max_examples=25)
@given(corpora, st.lists(expressions, min_size=1, max_size=4), st.booleans())
def test_answers_of_other_engines_equal_a_plain_scan(diffs, patterns, folds):
    always, engine._ALWAYS_BLOCKS = engine._ALWAYS_BLOCKS, 0
    try:
        with tempfile.TemporaryDirectory() as folder, indexed(Path(folder), diffs) as exact:
            for pattern in patterns:
                answer = exact.search(ask(pattern, "regex", ignore_case=folds))
                plain = plain_pattern(pattern, "regex", ignore_case=folds)
                assert places(answer) == plain_scan(diffs, plain), (pattern, answer.engine)
    finally:
        engine._ALWAYS_BLOCKS = always


@settings(max_examples=40)
@given(
    corpora,
    st.lists(st.one_of(expressions), min_size=2, max_size=3, unique=True),
    st.sampled_from(["any", "all"]),
)
def test_several_patterns_are_joined_or_met(diffs, patterns, combine):
    with tempfile.TemporaryDirectory() as folder, indexed(Path(folder), diffs) as exact:
        answer = exact.search(ask(tuple(patterns), "regex", combine=combine))
        scans = [plain_scan(diffs, plain_pattern(one, "regex")) for one in patterns]
        wanted = set.union(*scans) if combine == "any" else set.intersection(*scans)
        assert places(answer) == wanted


@pytest.mark.parametrize(
    ("pattern", "mode", "engine_said"),
    [
        ("num_warps", "literal", "index"),
        ("return", "word", "index"),
        (r"num_warps\s*=\s*8", "regex", "index"),
        (r"^$|x", "regex", "index"),
        ("(m+)+a", "regex", "ripgrep"),
        (r"((m|x)+)+\1a", "regex", "process"),
        ("(?=.*8)num", "regex", "index"),
    ],
)
def test_who_judges(exact, pattern, mode, engine_said):
    answer = exact.search(ask(pattern, mode))
    assert places(answer) == plain_scan(DIFFS, plain_pattern(pattern, mode))
    assert answer.engine == engine_said


@pytest.mark.usefixtures("sized")
@pytest.mark.parametrize("combine", ["any", "all"])
@pytest.mark.parametrize(
    ("patterns", "mode"),
    [
        (("num_warps", "8"), "literal"),
        (("fmaxf", "__shfl_xor_sync", "16"), "literal"),
        ((r"m\s*=", r"x\s*\+", "(?=.*i)f"), "regex"),
        (("m", "(m+)+a"), "regex"),
    ],
)
def test_any_and_all_by_every_engine(exact, patterns, mode, combine):
    scans = [plain_scan(DIFFS, plain_pattern(one, mode)) for one in patterns]
    wanted = set.union(*scans) if combine == "any" else set.intersection(*scans)
    assert places(exact.search(ask(patterns, mode, combine=combine))) == wanted


def test_a_hit_says_where_it_stands(exact):
    (first, *_) = exact.search(ask("__ldg")).hits
    assert asdict(first) == {
        "key": "x/kernels#12",
        "repo": "x/kernels",
        "pr": 12,
        "diff_line": 9,
        "path": "csrc/softmax.cu",
        "new_line": 12,
        "text": "+  for (int i = lane; i < n; i += 32) m = fmaxf(m, __ldg(x + i));",
        "licence": "unknown",
    }


def test_hits_come_in_order_of_repository_number_and_line(exact):
    found = [(hit.repo, hit.pr, hit.diff_line) for hit in exact.search(ask("m")).hits]
    assert found == sorted(found)


def test_totals_are_of_all_hits_whatever_the_limit(exact):
    answer = exact.search(ask("num_warps", limit=1))
    assert (len(answer.hits), answer.total_hits, answer.total_pulls) == (1, 6, 3)
    assert answer.is_truncated
    assert answer.is_complete
    assert answer.searched_pulls == 3


def test_a_limit_is_shared_by_repositories(tmp_path):
    many = b"".join(b"+swizzle %d\n" % number for number in range(200))
    few = b"+swizzle\n"
    diffs = {"a/loud#1": many, "a/loud#2": many, "b/quiet#1": few, "c/quiet#9": few}
    with indexed(tmp_path, diffs) as exact:
        hits = exact.search(ask("swizzle", limit=10)).hits
    assert [(hit.repo, hit.pr) for hit in hits] == (
        [("a/loud", 1)] * 4 + [("a/loud", 2)] * 4 + [("b/quiet", 1), ("c/quiet", 9)]
    )


def test_hits_of_one_repository_can_be_bounded(exact):
    answer = exact.search(ask("num_warps", per_repo=1))
    assert [hit.repo for hit in answer.hits] == ["x/kernels", "y/serving"]
    assert answer.total_hits == 6


@pytest.mark.usefixtures("sized")
@pytest.mark.parametrize(
    ("filters", "keys"),
    [
        ({"repos": ("x/kernels",)}, {"x/kernels#12", "x/kernels#13"}),
        ({"repos": ("Kernels",)}, {"x/kernels#12", "x/kernels#13"}),
        ({"repos": ("nobody",)}, set()),
        ({"paths": ("tests/*",)}, {"x/kernels#13", "y/serving#7"}),
        ({"paths": ("*.cu", "none")}, {"x/kernels#12", "y/serving#7"}),
        ({"kinds": ("test",)}, {"x/kernels#13", "y/serving#7"}),
        ({"kinds": ("kernel",), "repos": ("serving",)}, {"y/serving#7"}),
    ],
)
def test_filters_of_repositories_and_files(exact, filters, keys):
    answer = exact.search(ask("num_warps", **filters))
    assert {hit.key for hit in answer.hits} == keys
    assert answer.total_pulls == len(keys)
    assert answer.total_hits == len(answer.hits)


def test_filters_of_files_leave_the_hits_of_other_files_out(exact):
    answer = exact.search(ask("num_warps", paths=("tests/*",), repos=("serving",)))
    assert [(hit.path, hit.diff_line) for hit in answer.hits] == [("tests/test_softmax.py", 8)]


def test_filters_of_dates(tmp_path):
    with Truth(tmp_path) as truth:
        for number, day in enumerate(("2024-12-31", "2025-01-01", "2025-06-30", ""), start=1):
            truth.put(pull(f"x/y#{number}", merged_at=day), KERNEL)
        exact = Exact(tmp_path)
        exact.update(truth)

    def found(**filters):
        return {hit.pr for hit in exact.search(ask("__ldg", **filters)).hits}

    assert found() == {1, 2, 3, 4}
    assert found(since="2025-01-01") == {2, 3}
    assert found(until="2025-01-01") == {1, 2}
    assert found(since="2025-01-01", until="2025-01-01") == {2}
    exact.close()


def test_filters_of_tags_take_what_the_truth_says(exact, tmp_path):
    with Truth(tmp_path, read_only=True) as truth:
        tags = {key: {t for c in truth.chunks(key) for t in c.tags} for key in DIFFS}
    assert any(tags.values())
    for tag in set().union(*tags.values()):
        hits = exact.search(ask("m", tags=(tag,))).hits
        assert {hit.key for hit in hits} == {key for key, own in tags.items() if tag in own}
    for pair in itertools.combinations(sorted(set().union(*tags.values())), 2):
        hits = exact.search(ask("m", tags=pair)).hits
        assert {hit.key for hit in hits} == {key for key, own in tags.items() if own >= {*pair}}


def test_pulls_without_a_diff_are_named(tmp_path):
    with indexed(tmp_path, {"x/y#1": KERNEL, "x/y#2": None, "z/w#3": None}) as exact:
        answer = exact.search(ask("__ldg"))
        assert answer.without_diff == ("x/y#2", "z/w#3")
        assert not answer.is_complete
        assert answer.searched_pulls == 1
        assert exact.search(ask("__ldg", repos=("x/y",))).without_diff == ("x/y#2",)


def test_without_an_index_the_remedy_is_said(tmp_path):
    with pytest.raises(IndexMissing, match="knowledge build"):
        Exact(tmp_path).search(ask("x"))


def test_an_empty_truth_makes_an_empty_index(tmp_path):
    put(tmp_path, {})
    with indexed(tmp_path, {}) as exact:
        answer = exact.search(ask("x"))
    assert (answer.total_hits, answer.searched_pulls, answer.is_complete) == (0, 0, True)


def test_a_pattern_that_is_none_is_refused(exact):
    with pytest.raises(PatternError, match="not a regular expression"):
        exact.search(ask("(", "regex"))


def test_a_catastrophic_pattern_ends_with_an_error_in_time(tmp_path):
    diffs = {"x/y#1": b"+b " + b"a" * 60 + b"c\n"}
    with indexed(tmp_path, diffs) as exact:
        with pytest.raises(SearchTimeout, match=r"within 0\.\d+ s: add a literal"):
            exact.search(ask(r"((a+)+)\1b|(a|aa)+$(?!c)", "regex", timeout_s=0.5))
        linear = exact.search(ask("(a+)+b", "regex", timeout_s=5))
        assert (linear.total_hits, linear.engine) == (0, "ripgrep")
        assert exact.search(ask("aac")).total_hits == 1


def test_a_long_line_is_found_and_its_text_bounded(tmp_path):
    line = b"+" + b"x" * 3_000_000 + b"needle" + b"y" * 3_000_000
    with indexed(tmp_path, {"x/y#1": b"+a\n" + line + b"\n+needle\n"}) as exact:
        answer = exact.search(ask("needle"))
        assert [hit.diff_line for hit in answer.hits] == [2, 3]
        assert len(answer.hits[0].text) == 4096
        assert exact.search(ask("x.*needle.*y", "regex")).total_hits == 1


def test_a_search_can_be_made_by_any_thread(exact):
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: exact.search(ask("num_warps")).total_hits, range(40)))
    assert set(answers) == {6}
