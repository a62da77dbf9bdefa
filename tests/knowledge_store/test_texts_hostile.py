"""Texts of pull requests and queries that are long, broken or written to be a burden."""

import re
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_store.cards import clean_body
from knowledge_store.fusion import Ranking, fuse
from knowledge_store.lexical import question_of
from knowledge_store.pages import NoSuchPage, mentions, resolve
from knowledge_store.router import is_identifier, route
from knowledge_store.tokens import words
from tests.knowledge_store.stores import make_pull

LONGEST = 65_536
"""Characters that a forge takes in a body."""


@pytest.mark.parametrize(
    "piece", ["\n", " \n", "<!--", "](", "<a", "- [", "<!-- -->", "http://", "\t", "-->"]
)
def test_a_body_of_one_piece_again_and_again_is_cleaned(piece):
    # A rule that looks to the end from every place would take minutes here.
    cleaned = clean_body(piece * (LONGEST // len(piece)))
    assert len(cleaned) <= 12_000
    assert cleaned == cleaned.strip()


@pytest.mark.parametrize(
    ("body", "cleaned"),
    [
        ("a <!-- b --> c", "a c"),
        ("a <!-- b <!-- c --> d", "a d"),
        ("a --> b", "a --> b"),
        ("a <!-- b", "a <!-- b"),
        ("a <!-- b --> c <!-- d", "a c <!-- d"),
        ("- [x] done\nkept\n\t* [ ] open\n- [] odd", "kept"),
        ("- [link] stays", "- [link] stays"),
        ("1 - [x] stays", "1 - [x] stays"),
        ("\n\n- [x] after blank lines\nkept", "kept"),
        ("see [this](http://a/b) and http://c/d.", "see [this and"),
        ("if a<b and c>d", "if a d"),
        ("x < y > z", "x < y > z"),
    ],
)
def test_what_a_template_brings_goes_and_the_rest_stays(body, cleaned):
    assert clean_body(body).split() == cleaned.split()


@given(st.text(alphabet="<!->ab \n[]()x*", max_size=60))
def test_words_that_no_markup_touches_survive(text):
    kept = clean_body(f"{text}\nplainword\n{text}")
    if "<" not in text and "](" not in text:
        assert "plainword" in kept


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("#" + "1" * 5000, ()),
        ("a/b#" + "1" * 19, ()),
        ("https://github.com/a/b/pull/" + "7" * 5000, ()),
        ("a/b#" + "1" * 18, ("a/b#" + "1" * 18,)),
        ("#0012", ("maker/fastlib#12",)),
        ("(#12)", ("maker/fastlib#12",)),
        ("#12abc", ()),
        ("https://github.com/maker/fastlib/pull/1 and maker/fastlib#1", ()),
        ("https://github.com/a/b/issues/4", ()),
        ("a/b#3#4", ("a/b#3",)),
    ],
)
def test_numbers_of_any_length_are_mentions_or_none(body, named):
    assert mentions(make_pull(1, title="t", body=body)) == named


@given(st.text(alphabet="#/ab1-.:", max_size=40))
def test_whatever_is_mentioned_is_a_key(body):
    for key in mentions(make_pull(1, title="t", body=body)):
        assert re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", key)


KEYS = ("a/lib#1", "b/lib#1", "a/lib#11", "A/Other#2", "a/lib.rs#3", "a/my-lib#4", "a/lib-4#4")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("a/lib#1", "a/lib#1"),
        ("a/lib#01", "a/lib#1"),
        ("lib#11", "a/lib#11"),
        ("a/other#2", "A/Other#2"),
        ("OTHER#2", "A/Other#2"),
        ("pr-lib.rs-3", "a/lib.rs#3"),
        ("pr-my-lib-4", "a/my-lib#4"),
        ("pr-lib-4-4", "a/lib-4#4"),
        ("http://git.example/B/LIB/pull/1?w=1", "b/lib#1"),
        ("https://github.com/a/lib/pull/11/", "a/lib#11"),
    ],
)
def test_each_kind_of_name_resolves(name, key):
    assert resolve(name, KEYS) == key


@pytest.mark.parametrize("name", ["lib#1", "pr-lib-1", "LIB#1", "pr-LIB-1", "lib#001"])
def test_an_ambiguous_name_says_every_key_that_it_may_be(name):
    with pytest.raises(NoSuchPage) as caught:
        resolve(name, KEYS)
    assert "a/lib#1 or b/lib#1" in str(caught.value)
    assert "a/lib#11" not in str(caught.value)


@pytest.mark.parametrize("name", ["lib#1111", "c/lib#1", "my#4", "rs#3", "pr-a/lib-1", "li#1"])
def test_a_part_of_a_name_is_no_name(name):
    with pytest.raises(NoSuchPage):
        resolve(name, KEYS)


def test_every_key_is_a_name_of_itself():
    assert [resolve(key, KEYS) for key in KEYS] == list(KEYS)


@pytest.mark.parametrize(
    "query",
    [
        "x.*b{99999999999999999999}",
        "(" * 5000 + r"\d",
        r"(?P<a>\d)(?P<a>\d)",
        r"\d[",
        r"(?<=a+)\d",
        "a|b)",
    ],
)
def test_what_no_engine_compiles_is_a_question(query):
    assert route(query).route == "meaning"


def test_a_pattern_that_may_mean_another_thing_one_day_warns_nobody():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert route("[[a]+ and").route == "regex"


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("tcgen05", "word"),
        ("num_stages", "word"),
        ("kBlockM", "word"),
        ("attention", "meaning"),
        ("Attention", "meaning"),
        ("TMA", "meaning"),
        ("__syncthreads()", "literal"),
        ("cute::copy", "literal"),
        ("a->b", "literal"),
        ("tl.dot", "literal"),
        ('"tl.dot("', "literal"),
        ("`x y`", "literal"),
        (r"tl\.dot\(", "regex"),
        ("/tma/", "regex"),
        ("num_warps = 4 in a kernel", "meaning"),
        ("how to avoid bank conflicts?", "meaning"),
        ('""', "meaning"),
        ("//", "meaning"),
        ("", "meaning"),
    ],
)
def test_each_kind_of_query_takes_its_route(query, wanted):
    assert route(query).route == wanted


@given(st.text(max_size=40))
def test_any_query_has_a_route_and_a_reason(query):
    routed = route(query)
    assert routed.why
    assert routed.pattern in query
    assert route(f"  {query}\n") == routed
    if routed.route == "word":
        assert is_identifier(routed.pattern)


@given(st.from_regex(r"[A-Za-z0-9_\-]{1,30}", fullmatch=True))
def test_terms_are_in_lower_case_and_those_of_each_word_alone(name):
    assert set(words(f"{name} {name}").split()) == set(words(name).split())
    assert words(name) == words(name).lower()


@pytest.mark.parametrize("name", ["deep_gemm", "DeepGemm", "deep-gemm", "deepGemm", "DEEP_GEMM"])
def test_every_spelling_of_a_name_gives_the_same_words(name):
    assert words(name).split() == ["deepgemm", "deep", "gemm"]


def test_a_word_longer_than_any_name_is_no_term():
    assert words("a" * 65) == ""
    assert words("a" * 64) == "a" * 64
    assert words("1234567") == ""
    assert words("123456") == "123456"
    assert words("0xdeadbeef 0XFF x the") == ""


def test_aliases_weigh_as_much_as_one_word_together():
    plain = question_of("bank conflicts")
    more = question_of("bank conflicts", ("swizzle", "padding", "stride"))
    weights = dict(more.terms)
    assert [weights[term] for term, _ in plain.terms] == [1.0, 1.0]
    assert sum(weights.values()) - len(plain.terms) == pytest.approx(1.0)
    assert more.pairs == plain.pairs


def test_a_question_of_no_words_searches_nothing():
    assert question_of("the of and ?!").terms == ()
    assert question_of("", ("",)).pairs == ()
    assert question_of("copy copy").pairs == ()


rankings = st.lists(st.lists(st.sampled_from("abcdef"), max_size=8), min_size=1, max_size=4)


@given(rankings)
def test_fusion_keeps_every_key_once_and_its_best_places(lists):
    made = [Ranking(str(n), tuple(keys)) for n, keys in enumerate(lists)]
    fused = fuse(made)
    assert sorted(one.key for one in fused) == sorted({key for keys in lists for key in keys})
    assert [one.score for one in fused] == sorted((one.score for one in fused), reverse=True)
    for one in fused:
        for n, keys in enumerate(lists):
            place = [*dict.fromkeys(keys)].index(one.key) + 1 if one.key in keys else None
            assert one.ranks.get(str(n)) == place


@given(rankings)
def test_a_ranker_without_weight_changes_no_score(lists):
    made = [Ranking(str(n), tuple(keys)) for n, keys in enumerate(lists)]
    silent = Ranking("silent", tuple("abcdef"), 0.0)
    before = {one.key: one.score for one in fuse(made)}
    after = {one.key: one.score for one in fuse([*made, silent])}
    assert {key: score for key, score in after.items() if score} == pytest.approx(before)
