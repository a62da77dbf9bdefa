import multiprocessing
import sqlite3

import numpy as np
import pytest

from knowledge_store.embedding_cache import EmbeddingCache
from tests.knowledge_store.models import WIDTH, WordEmbedder


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "embeddings.sqlite"


def embedded(path, texts, embedder=None):
    cache = EmbeddingCache(path)
    try:
        return cache.embed(embedder or WordEmbedder(), texts)
    finally:
        cache.close()


def test_rows_are_those_of_the_embedder_in_order(path):
    texts = ["tma copy", "swizzle", "tma copy"]
    rows = embedded(path, texts)
    expected = WordEmbedder().embed(texts)
    np.testing.assert_allclose(rows, expected, atol=5e-3)
    assert rows.dtype == np.float32
    assert rows.shape == (3, WIDTH)


def test_a_text_is_embedded_once(path):
    first, second = WordEmbedder(), WordEmbedder()
    embedded(path, ["a", "b", "a"], first)
    again = embedded(path, ["b", "c"], second)
    assert (first.embedded, second.embedded) == (["a", "b"], ["c"])
    np.testing.assert_allclose(again, WordEmbedder().embed(["b", "c"]), atol=5e-3)


def test_models_do_not_share_vectors(path):
    embedded(path, ["a"])
    other = WordEmbedder("another")
    embedded(path, ["a"], other)
    assert other.embedded == ["a"]


def test_known_returns_what_is_at_hand_only(path):
    embedded(path, ["a", "b"])
    cache = EmbeddingCache(path)
    assert set(cache.known("words-1", ["a", "c"])) == {"a"}
    assert cache.known("another", ["a"]) == {}
    cache.close()


def test_more_texts_than_one_statement_takes(path):
    texts = [f"text {number}" for number in range(1100)]
    embedded(path, texts)
    cache = EmbeddingCache(path)
    assert len(cache.known("words-1", texts)) == 1100
    cache.close()


def test_no_texts_give_no_rows(path):
    assert embedded(path, []).shape[0] == 0


def test_progress_counts_what_had_to_be_made(path):
    heard = []
    cache = EmbeddingCache(path)
    cache.embed(WordEmbedder(), ["a", "b"])
    cache.embed(WordEmbedder(), ["b", "c"], lambda done, of: heard.append((done, of)))
    cache.close()
    assert heard == [(1, 1)]


def test_what_was_made_before_a_failure_is_kept(path):
    class Failing(WordEmbedder):
        def embed(self, texts):
            if "bad" in texts:
                raise RuntimeError("no more")
            return super().embed(texts)

    texts = [f"t{number}" for number in range(256)] + ["bad"]
    with pytest.raises(RuntimeError):
        embedded(path, texts, Failing())
    cache = EmbeddingCache(path)
    assert len(cache.known("words-1", texts)) == 256
    cache.close()


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\0" * 64])
def test_a_damaged_cache_is_made_anew(path, content):
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert embedded(path, ["a"]).shape == (1, WIDTH)


def test_a_cache_of_another_format_is_emptied(path):
    embedded(path, ["a"])
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    again = WordEmbedder()
    embedded(path, ["a"], again)
    assert again.embedded == ["a"]


def fill_range(path, first):
    embedded(path, [f"text {number}" for number in range(first, first + 300)])


@pytest.mark.processes
def test_two_processes_fill_one_cache(path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=fill_range, args=(path, first)) for first in (0, 150)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    cache = EmbeddingCache(path)
    assert len(cache.known("words-1", [f"text {number}" for number in range(450)])) == 450
    cache.close()
