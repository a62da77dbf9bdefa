"""The base of every noun: frozen, closed, finite, and one identity for one content."""

import hashlib
import json
import math
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError

from gpu_runner.message import Digest, JobId, Message, Name, canonical_json, digest_of


class Point(Message):
    """A noun of this test."""

    name: Name
    x: float = 0.0
    tags: tuple[str, ...] = ()
    counts: dict[str, int] = Field(default_factory=dict)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=5), children, max_size=4)
    ),
    max_leaves=12,
)
POINTS = st.builds(
    Point,
    name=st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_]{0,20}\Z"),
    x=st.floats(allow_nan=False, allow_infinity=False),
    tags=st.lists(st.text(), max_size=3).map(tuple),
    counts=st.dictionaries(st.text(max_size=4), st.integers(), max_size=4),
)


def reversed_keys(value):
    """The same JSON value with every object's keys the other way round."""
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    if isinstance(value, list):
        return [reversed_keys(item) for item in value]
    return value


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=5), JSON, max_size=5))
def test_canonical_json_is_read_back_equal_and_knows_no_order(value):
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(reversed_keys(value)) == text
    assert canonical_json(json.loads(text)) == text


@settings(deadline=None)
@given(JSON)
def test_canonical_json_is_one_line_of_ascii(value):
    text = canonical_json(value)
    assert text.isascii()
    assert b"\n" not in text


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_no_number_that_json_lacks_gets_through(number):
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"deep": [{"er": number}]})
    with pytest.raises(ValidationError, match="finite number"):
        Point(name="p", x=number)


@settings(deadline=None)
@given(POINTS)
def test_a_message_comes_back_from_json_with_its_identity(point):
    again = Point.model_validate_json(point.model_dump_json())
    assert again == point
    assert digest_of(again) == digest_of(point)


@settings(deadline=None)
@given(POINTS, POINTS)
def test_identity_is_content(one, other):
    assert (digest_of(one) == digest_of(other)) == (
        one.model_dump_json() == other.model_dump_json()
        or canonical_json(one.model_dump(mode="json"))
        == canonical_json(other.model_dump(mode="json"))
    )


def test_a_digest_is_that_of_the_canonical_text():
    point = Point(name="p", tags=("b", "a"), counts={"z": 1, "a": 2})
    text = b'{"counts":{"a":2,"z":1},"name":"p","tags":["b","a"],"x":0.0}'
    assert digest_of(point) == hashlib.sha256(text).hexdigest()
    assert digest_of(text) == digest_of(point)


def test_the_order_of_a_tuple_is_content_and_that_of_a_mapping_is_not():
    assert digest_of(Point(name="p", tags=("a", "b"))) != digest_of(
        Point(name="p", tags=("b", "a"))
    )
    assert digest_of(Point(name="p", counts={"a": 1, "b": 2})) == digest_of(
        Point(name="p", counts={"b": 2, "a": 1})
    )


def test_a_message_does_not_change_and_takes_nothing_it_does_not_know():
    point = Point(name="p")
    with pytest.raises(ValidationError, match="frozen"):
        point.x = 1.0  # type: ignore[misc]  # what is tested
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Point.model_validate({"name": "p", "y": 1})
    assert point == Point(name="p")


@pytest.mark.parametrize(
    ("alias", "text", "is_right"),
    [
        (Name, "x", True),
        (Name, "_2" + "a" * 62, True),
        (Name, "_2" + "a" * 63, False),
        (Name, "2x", False),
        (Name, "a-b", False),
        (Name, "é", False),
        (Name, "", False),
        (Name, "a\n", False),
        (JobId, "r1-k003.l0_check", True),
        (JobId, "0" * 128, True),
        (JobId, "0" * 129, False),
        (JobId, "-a", False),
        (JobId, ".a", False),
        (JobId, "A", False),
        (JobId, "a\n", False),
        (Digest, "0f" * 32, True),
        (Digest, "0F" * 32, False),
        (Digest, "0f" * 31, False),
        (Digest, "0g" * 32, False),
        (Digest, "0f" * 32 + "\n", False),
    ],
)
def test_names_ids_and_digests_are_what_c_files_and_paths_can_hold(alias, text, is_right):
    adapter = TypeAdapter(alias)
    if is_right:
        assert adapter.validate_python(text) == text
        return
    with pytest.raises(ValidationError, match="should match pattern"):
        adapter.validate_python(text)


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", Decimal(1)])
def test_what_is_not_json_is_not_canonical(value):
    with pytest.raises(TypeError, match="not JSON serializable"):
        canonical_json({"a": value})
