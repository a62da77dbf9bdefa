import re

from hypothesis import given
from hypothesis import strategies as st

from knowledge_store.cards import card_of, clean_body, indexed_text, passage_text, without_title
from knowledge_store.truth import Truth
from tests.knowledge_store.stores import SWIZZLE, make_pull


def card(tmp_path, **changes):
    with Truth(tmp_path) as truth:
        pull = make_pull(1, **changes)
        truth.put(pull, SWIZZLE.encode())
        return card_of(pull, truth.files(pull.key), truth.chunks(pull.key))


def test_a_card_says_title_body_labels_paths_and_functions(tmp_path):
    text = card(tmp_path, title="Faster stores", body="No replays.", labels=("perf",)).text()
    assert text.split("\n")[:4] == ["Faster stores", "No replays.", "perf", "csrc/epilogue.cu"]
    assert "store_epilogue" in text


def test_a_card_without_titles_holds_the_title_nowhere(tmp_path):
    made = card(tmp_path, title="Faster  stores", body="This is: faster\nSTORES, at last.")
    assert "stores" in made.text().lower()
    assert "stores" not in made.text("title").lower()
    assert "at last" in made.text("title")


def test_a_card_without_bodies_keeps_the_title(tmp_path):
    made = card(tmp_path, title="Faster stores", body="No replays.")
    assert "Faster stores" in made.text("body")
    assert "replays" not in made.text("body")


def test_prose_says_the_title_twice_and_no_paths(tmp_path):
    made = card(tmp_path, title="Faster stores", body="No replays.", labels=("perf",))
    assert made.prose().split("\n") == ["Faster stores", "Faster stores", "No replays.", "perf"]
    assert made.prose("title").split("\n") == ["", "", "No replays.", "perf"]
    assert "replays" not in made.prose("body")


def test_what_a_template_brought_is_left_out_of_a_body():
    body = (
        "<!-- describe\nyour change -->\nReal words, see [the docs](https://a.example/x).\n"
        "- [x] I ran the tests\n* [ ] I signed\n<details>kept</details> https://b.example/y"
    )
    assert clean_body(body).split() == ["Real", "words,", "see", "[the", "docs", ".", "kept"]


def test_a_body_of_any_length_is_bounded():
    assert len(clean_body("word " * 100_000)) <= 12_000


def test_a_vector_is_made_from_added_lines_first(tmp_path):
    with Truth(tmp_path) as truth:
        truth.put(make_pull(1), SWIZZLE.encode())
        (chunk,) = truth.chunks("maker/fastlib#1")
    rows = passage_text(chunk, "Title").split("\n")
    assert rows[:2] == ["Title", "csrc/epilogue.cu"]
    assert rows.index("smem[column] = out[lane];") < rows.index("__syncthreads();")


def test_an_indexed_text_is_whole(tmp_path):
    with Truth(tmp_path) as truth:
        truth.put(make_pull(1), SWIZZLE.encode())
        (chunk,) = truth.chunks("maker/fastlib#1")
    text = indexed_text(chunk, "Title")
    assert text.startswith("Title\ncsrc/epilogue.cu\n")
    assert text.endswith(chunk.text)


@given(st.text(max_size=60), st.text(alphabet="ab c.(*", min_size=1, max_size=12))
def test_a_title_is_gone_whatever_stands_around_it(text, title):
    left = without_title(f"{text} {title.upper()} {text}", title)
    wanted = " ".join(title.split()).lower()
    if wanted and wanted not in " ".join(f"{text} {text}".split()).lower():
        flat = re.sub(r"\s+", " ", left).lower()
        assert wanted not in flat or len(wanted) < 3


@given(st.text(max_size=100))
def test_an_empty_title_takes_nothing_away(text):
    assert without_title(text, "  ") == text
