import json
import shutil

import pytest

from knowledge_store.errors import StoreError
from knowledge_store.words_index import Entry, WordsIndex, WordsWriter, analysed

STAMP = "stamp.json"


def write(folder, *entries, is_new=True, without=(), about=None, has_positions=False):
    writer = WordsWriter(folder, is_new=is_new, without=without, has_positions=has_positions)
    for entry in entries:
        writer.add(entry)
    writer.finish(about or {"revision": 1})
    return WordsIndex(folder)


def entry(number, text, key="a/b#1", repo="a/b"):
    return Entry(key, number, repo, text)


def found(index, words, **options):
    return [one.number for one in index.search([(t, 1.0) for t in analysed(words)], 10, **options)]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "index"


def test_rarer_words_count_more(folder):
    index = write(
        folder, entry(1, "kernel kernel"), entry(2, "kernel swizzle"), entry(3, "kernel copy")
    )
    assert found(index, ["kernel", "swizzle"])[0] == 2


def test_words_are_found_by_their_stems(folder):
    index = write(folder, entry(1, "specialized warps are waiting"))
    assert found(index, ["warp"]) == [1]
    assert analysed(["specialized", "specializing"]) == ("special", "special")


def test_only_one_repository_where_one_is_named(folder):
    index = write(folder, entry(1, "tma"), entry(2, "tma", key="c/d#1", repo="c/d"))
    assert found(index, ["tma"], repo="c/d") == [2]


def test_a_filter_by_repository_leaves_scores_as_they_are(folder):
    index = write(folder, entry(1, "tma copy"), entry(2, "tma", key="c/d#1", repo="c/d"))
    free = {one.number: one.score for one in index.search([("tma", 1.0)], 10)}
    (only,) = index.search([("tma", 1.0)], 10, repo="c/d")
    assert only.score == pytest.approx(free[2])


def test_weights_are_factors(folder):
    index = write(folder, entry(1, "tma"))
    (single,) = index.search([("tma", 1.0)], 1)
    (double,) = index.search([("tma", 2.0)], 1)
    assert double.score == pytest.approx(2 * single.score)


def test_neighbours_count_more_where_they_are_neighbours(folder):
    apart, together = entry(1, "page of a big table"), entry(2, "big page_table here")
    index = write(folder, apart, together, has_positions=True)
    terms = [("page", 1.0), ("tabl", 1.0)]
    plain = {one.number: one.score for one in index.search(terms, 9)}
    paired = {
        one.number: one.score for one in index.search(terms, 9, pairs=[("page", "tabl", 0.5)])
    }
    assert paired[1] == pytest.approx(plain[1])
    assert paired[2] > plain[2]


def test_an_index_keeps_positions_when_entries_are_replaced(folder):
    write(folder, entry(1, "page table"), has_positions=True)
    index = write(folder, entry(2, "page table", key="c/d#1"), is_new=False)
    assert len(index.search([], 9, pairs=[("page", "tabl", 1.0)])) == 2


def test_no_terms_find_nothing(folder):
    assert write(folder, entry(1, "tma")).search([], 10) == ()


def test_entries_are_replaced_by_key(folder):
    write(folder, entry(1, "old words"), entry(2, "others", key="c/d#1"))
    index = write(folder, entry(3, "new words"), is_new=False, without=["a/b#1"])
    assert found(index, ["old"]) == []
    assert found(index, ["words"]) == [3]
    assert index.entries == 2


def test_an_open_index_goes_on_with_what_it_opened(folder):
    before = write(folder, entry(1, "old"))
    after = write(folder, entry(2, "new"), is_new=False, without=["a/b#1"])
    assert found(before, ["old"]) == [1]
    assert found(after, ["old"]) == []


def test_the_stamp_says_what_the_index_is_made_of(folder):
    assert write(folder, about={"revision": 7, "keys": ["ü"]}).about == {
        "revision": 7,
        "keys": ["ü"],
    }


def test_a_count_of_entries_with_a_term(folder):
    index = write(folder, entry(1, "tma tma"), entry(2, "tma"), entry(3, "copy"))
    assert index.document_frequency("tma") == 2
    assert index.document_frequency("absent") == 0


def files_of(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "remove"])
def test_damage_to_any_file_is_seen(folder, tmp_path, damage):
    write(folder, entry(1, "tma copy"), entry(2, "swizzle"))
    for name in files_of(folder):
        copy = tmp_path / f"{damage}-{name}"
        shutil.copytree(folder, copy)
        path = copy / name
        content = path.read_bytes()
        if damage == "remove":
            path.unlink()
        elif damage == "flip":
            at = len(content) // 2
            path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        else:
            path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
        with pytest.raises(StoreError):
            WordsIndex(copy)


def test_an_index_of_another_version_is_refused(folder):
    write(folder, entry(1, "tma"))
    outer = json.loads((folder / STAMP).read_text())
    assert '"format": 2' in outer["text"]
    (folder / STAMP).write_text(json.dumps({"text": outer["text"], "sum": outer["sum"] + 1}))
    with pytest.raises(StoreError, match="damaged"):
        WordsIndex(folder)


def test_a_folder_without_an_index_is_refused(tmp_path):
    with pytest.raises(StoreError, match="is not there"):
        WordsIndex(tmp_path)


def test_two_writers_of_one_index_do_not_mix(folder):
    write(folder, entry(1, "tma"))
    first = WordsWriter(folder, is_new=False)
    with pytest.raises(StoreError, match="cannot be written"):
        WordsWriter(folder, is_new=False)
    first.finish({"revision": 2})


def test_what_was_not_finished_is_not_there(folder):
    write(folder, entry(1, "tma"))
    writer = WordsWriter(folder, is_new=False, without=["a/b#1"])
    writer.add(entry(2, "copy"))
    del writer
    assert found(WordsIndex(folder), ["tma", "copy"]) == [1]
