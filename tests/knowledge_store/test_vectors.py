"""Both stores of vectors under one contract, then what each has alone."""

import numpy as np
import pytest

from knowledge_store.errors import StoreError
from knowledge_store.vectors import ChromaStore, MemoryStore, StoreInUse, VectorEntry, unit

WIDTH = 12


def entry(number, kind="card", repo="a/b", key=None):
    return VectorEntry(f"e{number}", key or f"{repo}#{number}", kind, repo, number)


def rows(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)


class StoreContract:
    """What every store of vectors does."""

    @pytest.fixture
    def store(self, tmp_path):
        made = self.make(tmp_path)
        yield made
        made.close()

    def make(self, tmp_path):
        raise NotImplementedError

    def test_an_empty_store_finds_nothing(self, store):
        assert store.nearest(rows(1)[0], 5, kind="card") == ()
        assert store.ids() == frozenset()

    def test_a_vector_is_nearest_to_itself(self, store):
        vectors = rows(8)
        store.put([entry(at) for at in range(8)], vectors)
        for at in range(8):
            best = store.nearest(vectors[at] * 3, 1, kind="card")[0]
            assert (best.entry_id, best.key, best.chunk) == (f"e{at}", f"a/b#{at}", at)
            assert best.similarity == pytest.approx(1.0, abs=1e-5)

    def test_similarities_are_cosines_in_falling_order(self, store):
        vectors, question = rows(20), rows(1, seed=1)[0]
        store.put([entry(at) for at in range(20)], vectors)
        near = store.nearest(question, 20, kind="card")
        cosines = unit(vectors) @ unit(question[None, :])[0]
        assert [one.similarity for one in near] == pytest.approx(
            sorted(cosines, reverse=True), abs=1e-5
        )
        for one in near:
            assert one.similarity == pytest.approx(cosines[int(one.entry_id[1:])], abs=1e-5)

    def test_kinds_are_apart(self, store):
        store.put([entry(0, "card"), entry(1, "chunk")], rows(2))
        assert [one.entry_id for one in store.nearest(rows(1)[0], 5, kind="chunk")] == ["e1"]
        assert [one.entry_id for one in store.nearest(rows(1)[0], 5, kind="card")] == ["e0"]

    def test_only_one_repository_where_one_is_named(self, store):
        store.put([entry(0), entry(1, repo="c/d")], rows(2))
        assert [one.key for one in store.nearest(rows(1)[0], 5, kind="card", repo="c/d")] == [
            "c/d#1"
        ]
        assert store.nearest(rows(1)[0], 5, kind="card", repo="x/y") == ()

    def test_a_second_entry_of_an_id_replaces_the_first(self, store):
        first, second = rows(2)
        store.put([entry(0)], first[None, :])
        store.put([entry(0)], second[None, :])
        (one,) = store.nearest(second, 5, kind="card")
        assert one.similarity == pytest.approx(1.0, abs=1e-5)
        assert store.ids() == {"e0"}

    def test_entries_are_dropped_by_key_in_both_kinds(self, store):
        store.put([entry(0, key="a/b#1"), entry(1, "chunk", key="a/b#1"), entry(2)], rows(3))
        store.drop(["a/b#1", "no/such#1"])
        assert store.ids() == {"e2"}
        assert store.nearest(rows(1)[0], 5, kind="chunk") == ()

    def test_no_more_than_the_limit(self, store):
        store.put([entry(at) for at in range(6)], rows(6))
        assert len(store.nearest(rows(1)[0], 4, kind="card")) == 4
        assert store.nearest(rows(1)[0], 0, kind="card") == ()

    def test_more_entries_than_one_batch_holds(self, store):
        count = 4100
        store.put([entry(at) for at in range(count)], rows(count))
        assert len(store.ids()) == count

    def test_a_vector_of_zeros_is_like_nothing(self, store):
        store.put([entry(0)], np.ones((1, WIDTH), np.float32))
        for one in store.nearest(np.zeros(WIDTH, np.float32), 1, kind="card"):
            assert one.similarity == pytest.approx(0.0, abs=1e-6)

    def test_putting_nothing_is_allowed(self, store):
        store.put([], np.zeros((0, WIDTH), np.float32))
        store.drop([])
        assert store.ids() == frozenset()


class TestMemoryStore(StoreContract):
    def make(self, tmp_path):
        return MemoryStore()


class TestChromaStore(StoreContract):
    def make(self, tmp_path):
        return ChromaStore(tmp_path / "chroma", "model:one/two")

    def test_entries_are_there_again_after_it_was_closed(self, store, tmp_path):
        vectors = rows(5)
        store.put([entry(at) for at in range(5)], vectors)
        store.close()
        again = self.make(tmp_path)
        assert again.nearest(vectors[3], 1, kind="card")[0].entry_id == "e3"
        again.close()

    def test_no_text_is_kept(self, store, tmp_path):
        store.put([entry(0)], rows(1))
        store.close()
        kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert b"a/b#0" in kept
        assert b"embedding_fulltext_search_content" in kept
        assert b"chroma:document" not in kept

    def test_a_second_owner_is_refused(self, store, tmp_path):
        with pytest.raises(StoreInUse, match="another process owns"):
            self.make(tmp_path)

    def test_another_model_has_other_entries(self, store, tmp_path):
        store.put([entry(0)], rows(1))
        store.close()
        other = ChromaStore(tmp_path / "chroma", "model:three")
        assert other.ids() == frozenset()
        other.close()

    def test_a_damaged_database_is_refused(self, store, tmp_path):
        store.put([entry(0)], rows(1))
        store.close()
        (tmp_path / "chroma" / "chroma.sqlite3").write_bytes(b"nothing of a database" * 500)
        with pytest.raises(StoreError, match="cannot be used"):
            self.make(tmp_path)

    def test_a_refused_store_is_owned_by_nobody(self, store, tmp_path):
        store.close()
        (tmp_path / "chroma" / "chroma.sqlite3").write_bytes(b"nothing of a database" * 500)
        for _ in range(2):
            with pytest.raises(StoreError, match="cannot be used"):
                self.make(tmp_path)

    def test_vectors_of_another_width_are_refused(self, store):
        store.put([entry(0)], rows(1))
        with pytest.raises(StoreError, match="cannot be used"):
            store.put([entry(1)], np.ones((1, WIDTH + 1), np.float32))

    def test_a_server_that_is_not_there_is_an_error(self, tmp_path):
        with pytest.raises(StoreError, match="server"):
            ChromaStore(tmp_path / "x", "model", server="127.0.0.1:9")


def test_unit_rows_have_length_one_and_zeros_stay():
    scaled = unit(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32))
    assert scaled.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 0.0]]
    assert scaled.dtype == np.float32
