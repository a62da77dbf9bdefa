"""Messages about YAML documents."""

from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from gpu_runner.message import Message
from graph.explain import DocumentError, dotted, explain, line_of, nearest, read_yaml

PATH = Path("file.yaml")


class Inner(Message):
    height: int
    width: int | None = None


class Outer(Message):
    name: str
    items: tuple[Inner, ...] = ()
    by_name: dict[str, Inner] = Field(default_factory=dict)
    maybe: Inner | None = None


def explained(text: str) -> str:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(read_yaml(PATH, text))
    return explain(caught.value, Outer, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nitmes: b\n", "line 2: itmes: unknown key; did you mean 'items'?"),
        (
            "name: a\nitems:\n  - {height: 1}\n  - {hieght: 1, height: 1}\n",
            "line 4: items[1].hieght: unknown key; did you mean 'height'?",
        ),
        (
            "name: a\nby_name:\n  left:\n    height: 1\n    widht: 2\n",
            "line 5: by_name.left.widht: unknown key; did you mean 'width'?",
        ),
        (
            "name: a\nmaybe: {height: 1, zzz: 2}\n",
            "line 2: maybe.zzz: unknown key; known: height, width",
        ),
        ("name: a\nmaybe: {}\n", "line 2: maybe.height: missing"),
        ("items: []\n", "name: missing"),
    ],
)
def test_a_problem_is_named_by_line_key_path_and_nearest_key(text, message):
    assert explained(text) == message


def test_a_wrong_value_is_shown():
    assert "height" in explained("name: a\nmaybe: {height: tall}\n")
    assert "(found 'tall')" in explained("name: a\nmaybe: {height: tall}\n")


def test_several_problems_are_several_lines():
    assert len(explained("nam: a\nmaybe: {hight: 1}\n").splitlines()) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2\nb: 3\n", "line 2"),
        ("a: b: c\n", "line 1"),
        ("- 1\n- 2\n", "expected a mapping"),
        ("", "expected a mapping"),
        ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' is given twice"),
        ("a:\n  b: 1\n  b: 2\n", "line 3: the key 'b' is given twice"),
        ("a: !!python/object/apply:os.system ['true']\n", "line 1"),
        ("a: \x00\n", "file.yaml"),
        ("a:\n  " + "[" * 100_000, "line 2: more than 100 collections"),
    ],
)
def test_what_is_no_mapping_is_refused_with_its_line(text, message):
    with pytest.raises(DocumentError) as caught:
        read_yaml(PATH, text)
    assert message in str(caught.value)
    assert "file.yaml" in str(caught.value)


def test_yaml_is_read_as_it_is_written():
    assert read_yaml(PATH, "N: 1\na: [1, 'x']\n") == {"N": 1, "a": [1, "x"]}


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("sofmax", ("softmax", "rope"), "; did you mean 'softmax'?"),
        ("zzz", ("b", "a"), "; known: a, b"),
        ("zzz", (), ""),
    ],
)
def test_the_nearest_word_is_suggested(word, known, hint):
    assert nearest(word, known) == hint


@pytest.mark.parametrize(
    ("loc", "text"),
    [((), ""), (("a",), "a"), (("a", 0, "b"), "a[0].b"), ((0, "a"), "[0].a")],
)
def test_key_paths_are_written_as_users_write_them(loc, text):
    assert dotted(loc) == text


def test_lines_are_found_as_deep_as_the_document_goes():
    text = "a:\n  b:\n    - x: 1\n    - x: 2\n"
    assert line_of(text, ("a", "b", 1, "x")) == 4
    assert line_of(text, ("a", "b", 7, "x")) == 2
    assert line_of(text, ("a", "nope")) == 1
    assert line_of(text, ("nope",)) is None
    assert line_of("a: [", ("a",)) is None
