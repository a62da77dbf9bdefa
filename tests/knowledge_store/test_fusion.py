import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_store.fusion import CONSTANT, Ranking, fuse

KEYS = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8).map(tuple)


def test_a_key_that_two_rankers_like_beats_one_that_one_likes_best():
    fused = fuse([Ranking("words", ("a", "b")), Ranking("vectors", ("c", "b"))])
    assert [one.key for one in fused] == ["b", "a", "c"]


def test_the_score_is_the_rule_of_the_paper():
    (one,) = fuse([Ranking("x", ("a",)), Ranking("y", ("a",), weight=0.5)])
    assert one.score == pytest.approx(1.5 / (CONSTANT + 1))
    assert one.ranks == {"x": 1, "y": 1}


def test_a_weight_of_zero_changes_no_order():
    first = Ranking("x", ("a", "b", "c"))
    fused = fuse([first, Ranking("y", ("c", "b", "a"), weight=0.0)])
    assert [one.key for one in fused] == ["a", "b", "c"]


def test_ties_are_in_order_of_key():
    fused = fuse([Ranking("x", ("b",)), Ranking("y", ("a",))])
    assert [one.key for one in fused] == ["a", "b"]


def test_a_key_that_a_ranker_names_twice_counts_once():
    (one,) = fuse([Ranking("x", ("a", "a", "a"))])
    assert one.ranks == {"x": 1}


def test_nothing_fused_is_nothing():
    assert fuse([]) == ()


@given(st.lists(KEYS, max_size=4))
def test_every_key_comes_once(orders):
    fused = fuse([Ranking(str(at), keys) for at, keys in enumerate(orders)])
    assert sorted(one.key for one in fused) == sorted({key for keys in orders for key in keys})


@given(KEYS)
def test_one_ranker_keeps_its_order(keys):
    assert tuple(one.key for one in fuse([Ranking("x", keys)])) == keys


@given(st.lists(KEYS, max_size=4))
def test_the_order_of_the_rankers_does_not_matter(orders):
    rankings = [Ranking(str(at), keys) for at, keys in enumerate(orders)]
    ahead = [one.key for one in fuse(rankings)]
    behind = {one.key: one.score for one in fuse(rankings[::-1])}
    assert set(ahead) == set(behind)
    scores = [behind[key] for key in ahead]
    assert scores == pytest.approx(sorted(scores, reverse=True))


@given(KEYS, KEYS, st.sampled_from("abcdefgh"))
def test_a_better_place_never_lowers_a_score(first, second, key):
    def scored(place):
        others = tuple(one for one in second if one != key)
        order = (*others[:place], key, *others[place:])
        fused = fuse([Ranking("x", first), Ranking("y", order)])
        return next(one.score for one in fused if one.key == key)

    assert scored(0) >= scored(3)
