import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_store.router import is_identifier, route


@pytest.mark.parametrize(
    ("query", "expected", "pattern"),
    [
        ('"bank conflict"', "literal", "bank conflict"),
        ("`is_blackwell`", "literal", "is_blackwell"),
        (r"/tcgen05\.(ld|st)/", "regex", r"tcgen05\.(ld|st)"),
        ("cp_async_bulk", "word", "cp_async_bulk"),
        ("ROWS_PER_XOR_PATTERN", "word", "ROWS_PER_XOR_PATTERN"),
        ("swapAB", "word", "swapAB"),
        ("tcgen05", "word", "tcgen05"),
        ("tcgen05.fence", "literal", "tcgen05.fence"),
        ("cute::copy", "literal", "cute::copy"),
        ("torch.compile()", "literal", "torch.compile()"),
        (r"num_warps\s*=\s*8", "regex", r"num_warps\s*=\s*8"),
        ("wgmma.*m64n[0-9]+k16", "regex", "wgmma.*m64n[0-9]+k16"),
        ("(hopper|blackwell)", "regex", "(hopper|blackwell)"),
        (
            "reduce bank conflicts in the epilogue",
            "meaning",
            "reduce bank conflicts in the epilogue",
        ),
        ("swizzle", "meaning", "swizzle"),
        ("Support FP8 (e4m3) KV cache", "meaning", "Support FP8 (e4m3) KV cache"),
        ("  padded words  ", "meaning", "padded words"),
        ("(unbalanced.*", "meaning", "(unbalanced.*"),
        ("Why is it slow?", "meaning", "Why is it slow?"),
        ("[Kernel] Add fused MoE", "meaning", "[Kernel] Add fused MoE"),
        ("Use int8 * fp8 mix", "meaning", "Use int8 * fp8 mix"),
    ],
)
def test_a_query_takes_the_route_it_is_written_for(query, expected, pattern):
    routed = route(query)
    assert (routed.route, routed.pattern) == (expected, pattern)
    assert routed.why


@pytest.mark.parametrize("word", ["kernel", "Hopper", "GEMM", "two words", "", "a-b"])
def test_words_of_prose_are_no_identifiers(word):
    assert not is_identifier(word)


@given(st.text(min_size=1, max_size=80).filter(str.strip))
def test_any_text_has_a_route(text):
    assert route(text).route in {"literal", "word", "regex", "meaning"}


@given(st.from_regex(r"[a-z]{2,6}_[a-z]{2,6}", fullmatch=True))
def test_snake_case_is_searched_as_a_word(name):
    assert route(name).route == "word"
