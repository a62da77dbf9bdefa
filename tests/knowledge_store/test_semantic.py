import pytest

from knowledge_store import semantic
from knowledge_store.embedding_cache import EmbeddingCache
from knowledge_store.pulls import Chunk
from knowledge_store.truth import Truth
from knowledge_store.vectors import MemoryStore
from tests.knowledge_store.models import WordEmbedder
from tests.knowledge_store.stores import SWIZZLE, fill, make_pull


@pytest.fixture
def store(tmp_path):
    return fill(tmp_path / "store")


@pytest.fixture
def cache(tmp_path):
    made = EmbeddingCache(tmp_path / "embeddings.sqlite")
    yield made
    made.close()


def texts_of(store, a_pull=6, withheld=""):
    with Truth(store, read_only=True) as truth:
        return [
            *semantic.card_texts(truth, withheld),
            *semantic.chunk_texts(truth, a_pull, withheld),
        ]


def make_chunk(path, added, place=0):
    return Chunk(
        chunk_id=f"a/b#1:{place}",
        key="a/b#1",
        path=path,
        heading="",
        diff_line=1 + place,
        new_start=1,
        text="+x",
        added=added,
        removed=0,
        part=0,
        parts=1,
    )


def test_every_pull_request_has_a_card_and_diffs_have_chunks(store):
    found = [(one.entry.kind, one.entry.key) for one in texts_of(store)]
    assert found.count(("card", "other/lib#9")) == 1
    assert ("chunk", "other/lib#9") not in found
    assert found.count(("chunk", "maker/fastlib#2")) == 2
    assert len({one.entry.entry_id for one in texts_of(store)}) == len(found)


def test_no_chunks_where_none_are_asked_for(store):
    assert {one.entry.kind for one in texts_of(store, a_pull=0)} == {"card"}


def test_a_withheld_field_is_in_no_text(store):
    assert all("conflicts" not in one.text for one in texts_of(store, withheld="title"))
    assert all("replays" not in one.text for one in texts_of(store, withheld="body"))
    assert any("replays" in one.text for one in texts_of(store))


def test_each_file_has_its_turn_and_kernels_come_first():
    chunks = tuple(
        make_chunk(path, added, place)
        for place, (path, added) in enumerate(
            [("a.md", 90), ("k.cu", 10), ("k.cu", 50), ("t.py", 70)]
        )
    )
    kinds = {"a.md": "doc", "k.cu": "kernel", "t.py": "test"}
    assert semantic.telling(chunks, kinds, 4) == [2, 3, 0, 1]
    assert semantic.telling(chunks, kinds, 1) == [2]
    assert semantic.telling((), {}, 5) == []


def test_an_update_puts_exactly_these_texts(store, cache):
    held, texts = MemoryStore(), texts_of(store)
    report = semantic.update(held, cache, WordEmbedder(), texts)
    assert (report.added, report.removed, report.total) == (len(texts), 0, len(texts))
    assert held.ids() == {one.entry.entry_id for one in texts}
    assert semantic.update(held, cache, WordEmbedder(), texts).added == 0


def test_an_update_follows_what_changed_and_embeds_only_that(store, cache):
    held = MemoryStore()
    semantic.update(held, cache, WordEmbedder(), texts_of(store))
    with Truth(store) as truth:
        truth.put(make_pull(1, title="A wholly new title"), SWIZZLE.encode())
        truth.drop("other/lib#7", "withdrawn")
    embedder, texts = WordEmbedder(), texts_of(store)
    semantic.update(held, cache, embedder, texts)
    assert held.ids() == {one.entry.entry_id for one in texts}
    assert not any("other/lib#7" in name for name in held.ids())
    assert embedder.embedded
    assert all("wholly new" in text for text in embedder.embedded)


def test_what_an_update_leaves_equals_a_store_made_anew(store, cache):
    held = MemoryStore()
    semantic.update(held, cache, WordEmbedder(), texts_of(store))
    with Truth(store) as truth:
        truth.put(make_pull(2, title="Other words entirely"), SWIZZLE.encode())
    semantic.update(held, cache, WordEmbedder(), texts_of(store))
    fresh = MemoryStore()
    semantic.update(fresh, cache, WordEmbedder(), texts_of(store))
    question = WordEmbedder().embed(["Other words entirely"])[0]
    assert held.nearest(question, 9, kind="card") == fresh.nearest(question, 9, kind="card")


def test_a_store_in_memory_has_what_the_cache_has(store, cache):
    texts = texts_of(store)
    assert semantic.in_memory(cache, WordEmbedder(), iter(texts)).ids() == frozenset()
    semantic.update(MemoryStore(), cache, WordEmbedder(), texts[:2])
    held = semantic.in_memory(cache, WordEmbedder(), iter(texts))
    assert held.ids() == {one.entry.entry_id for one in texts[:2]}


def test_a_damaged_store_is_thrown_away_and_why_is_said(tmp_path, store, cache):
    folder = tmp_path / "chroma"
    made, why = semantic.opened(folder, WordEmbedder())
    semantic.update(made, cache, WordEmbedder(), texts_of(store))
    made.close()
    assert not why
    (folder / "chroma.sqlite3").write_bytes(b"damage" * 4000)
    again, why = semantic.opened(folder, WordEmbedder())
    assert "cannot be used" in why
    assert again.ids() == frozenset()
    report = semantic.update(again, cache, WordEmbedder(), texts_of(store))
    assert report.added == len(again.ids())
    again.close()
