import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.expression import ExpressionError, evaluate, names_in

SIZES = {"B": 8, "N": 4096, "H": 7}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("B * N", 32768),
        ("N // 3 + N % 3", 1366),
        ("-H", -7),
        ("1 << B", 256),
        ("N >> 2", 1024),
        ("min(B, H, 3)", 3),
        ("max(B, H)", 8),
        ("abs(H - B)", 1),
        ("ceil_div(N, 1000)", 5),
        ("B < H or N == 4096", 1),
        ("B < H and N == 4096", 0),
        ("not B", 0),
        ("1 <= B <= 8", 1),
        ("1 <= B <= 7", 0),
        ("N if B > 7 else H", 4096),
        ("True", 1),
        ("  B  ", 8),
    ],
)
def test_an_expression_has_the_value_of_its_python_meaning(text, value):
    assert evaluate(text, SIZES) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("B.bit_length()", "not allowed"),
        ("__import__('os')", "not allowed"),
        ("[B][0]", "not allowed"),
        ("'B'", "not allowed"),
        ("B / H", "not allowed"),
        ("B ** N", "not allowed"),
        ("min(a=B)", "not allowed"),
        ("min()", "not allowed"),
        ("lambda: B", "not allowed"),
        ("(B := 3)", "not allowed"),
        ("Q", "known: B, H, N"),
        ("B // (H - 7)", "divides by zero"),
        ("ceil_div(B, 0)", "has no value"),
        ("ceil_div(B)", "has no value"),
        ("1 << 64", "shifts by 64"),
        ("1 << -1", "shifts by -1"),
        ("9223372036854775808", "beyond 64 bits"),
        ("B *", "cannot be read"),
        ("B\0", "cannot be read"),
        ("B+" * 300 + "B", "at most 500"),
    ],
)
def test_what_is_no_expression_over_axes_is_refused_with_its_text(text, words):
    with pytest.raises(ExpressionError, match=words):
        evaluate(text, SIZES)


def test_names_are_axes_and_not_functions():
    assert names_in("min(B, ceil_div(N, 4)) + H if B else 1") == {"B", "N", "H"}


@given(st.integers(-(2**31), 2**31), st.integers(-(2**31), 2**31), st.integers(1, 999))
def test_arithmetic_is_that_of_python(a, b, c):
    sizes = {"a": a, "b": b, "c": c}
    assert evaluate("a * c + b // c - b % c", sizes) == a * c + b // c - b % c


@given(st.text(max_size=60))
def test_any_text_gives_a_value_or_an_expression_error(text):
    try:
        value = evaluate(text, SIZES)
    except ExpressionError:
        return
    assert isinstance(value, int)
