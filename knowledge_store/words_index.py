"""One tantivy index of texts, with numbers to find them again by. Everything tantivy is in here.

A folder holds the index and `stamp.json`: what the index is made of, and size and checksum of every
file of it. A file that is not as stamped makes the index unusable, which is what its owner rebuilds
it for; it is never searched in part.
"""

import json
import shutil
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from knowledge_store import tokens
from knowledge_store.errors import StoreError

_FORMAT = 2
_STAMP = "stamp.json"
_ANALYSER = "words"
_HEAP_BYTES = 96_000_000
# `.managed.json` lists files for a later clean-up and grows while a writer works: it is no part of
# what is searched.
_UNSTAMPED = frozenset({_STAMP, ".managed.json", ".tantivy-writer.lock", ".tantivy-meta.lock"})


@dataclass(frozen=True, slots=True)
class Entry:
    """A text to index."""

    key: str
    """Whose it is; entries are replaced by key."""
    number: int
    """What a search returns for it."""
    repo: str
    text: str


@dataclass(frozen=True, slots=True)
class Ranked:
    """An entry that a search found."""

    number: int
    score: float
    """Of BM25; comparable within one search only."""


class WordsIndex:
    """An index of entries in one folder. One writer at a time, which its owner sees to."""

    def __init__(self, folder: Path) -> None:
        """Open the index of a folder.

        Raises:
            StoreError: there is none, or it is damaged or of another version.
        """
        self.folder = folder
        self.about = _checked_stamp(folder)
        try:
            self._index = _opened(folder)
            self._searcher = self._index.searcher()
        except (ValueError, OSError) as error:
            raise StoreError(f"the index in {folder} cannot be opened: {error}") from error
        self._library = _library()

    @property
    def entries(self) -> int:
        """Return how many entries the index holds."""
        return int(self._searcher.num_docs)

    def search(
        self,
        terms: Iterable[tuple[str, float]],
        limit: int,
        *,
        pairs: Iterable[tuple[str, str, float]] = (),
        repo: str = "",
    ) -> tuple[Ranked, ...]:
        """Rank entries by BM25.

        Args:
            terms: analysed terms with their weights.
            limit: most entries returned.
            pairs: terms that count more where they follow each other, with the weight of that; for
                an index that keeps positions.
            repo: only those of one repository; all where it is empty.
        """
        query, occur, schema = self._library.Query, self._library.Occur, self._index.schema
        parts = [
            (occur.Should, _weighted(query, query.term_query(schema, "text", term, "freq"), weight))
            for term, weight in terms
        ]
        for first, second, weight in pairs:
            phrase = query.phrase_query(schema, "text", [first, second])
            parts.append((occur.Should, _weighted(query, phrase, weight)))
        if not parts:
            return ()
        wanted = query.boolean_query(parts)
        if repo:
            only = query.const_score_query(query.term_query(schema, "repo", repo, "basic"), 0.0)
            wanted = query.boolean_query([(occur.Must, wanted), (occur.Must, only)])
        found = self._searcher.search(wanted, limit=limit, count=False).hits
        numbers = self._searcher.fast_field_values("number", [address for _, address in found])
        return tuple(
            Ranked(int(number), float(score))
            for (score, _), number in zip(found, numbers, strict=True)
            if number is not None
        )

    def document_frequency(self, term: str) -> int:
        """Return how many entries hold an analysed term."""
        return int(self._searcher.doc_freq("text", term))


def analysed(terms: Iterable[str]) -> tuple[str, ...]:
    """Return terms as the index holds them: stemmed, in order, repeated where they are."""
    return tuple(_analyser().analyze(" ".join(terms)))


class WordsWriter:
    """Replaces entries of an index, in one commit.

    A process that dies on the way leaves the stamp of before; what it wrote is then either unseen,
    or found not to match that stamp.
    """

    def __init__(
        self,
        folder: Path,
        *,
        is_new: bool,
        without: Iterable[str] = (),
        has_positions: bool = False,
    ) -> None:
        """Open a folder for writing.

        Args:
            folder: of the index.
            is_new: start from nothing.
            without: keys whose entries are taken out first.
            has_positions: keep where each term stands, for pairs; of a new index only.

        Raises:
            StoreError: the index cannot be written, or another process writes it.
        """
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        try:
            index = _opened(folder) if not is_new else _made(folder, has_positions=has_positions)
            self._writer = index.writer(heap_size=_HEAP_BYTES, num_threads=1)
        except (ValueError, OSError) as error:
            raise StoreError(f"the index in {folder} cannot be written: {error}") from error
        self._document = _library().Document
        for key in without:
            self._writer.delete_documents_by_term("key", key)

    def add(self, entry: Entry) -> None:
        """Add an entry; it is found after `finish`."""
        one = self._document()
        one.add_text("key", entry.key)
        one.add_text("repo", entry.repo)
        one.add_unsigned("number", entry.number)
        one.add_text("text", tokens.words(entry.text))
        self._writer.add_document(one)

    def finish(self, about: dict[str, Any]) -> None:
        """Commit and stamp the index with what it is made of, as JSON. The last call."""
        self._writer.commit()
        self._writer.garbage_collect_files()
        self._writer.wait_merging_threads()
        _stamp(self._folder, about)


def _stamp(folder: Path, about: dict[str, Any]) -> None:
    sums = {path.name: _sum(path) for path in sorted(folder.iterdir()) if _is_stamped(path)}
    text = json.dumps({"format": _FORMAT, "tokens": tokens.VERSION, "about": about, "files": sums})
    fresh = folder / f"{_STAMP}.new"
    fresh.write_text(json.dumps({"sum": zlib.crc32(text.encode()), "text": text}), encoding="utf-8")
    fresh.replace(folder / _STAMP)


def _checked_stamp(folder: Path) -> dict[str, Any]:
    """Return what the stamp says of the index, after a look at every byte of every file."""
    try:
        outer = json.loads((folder / _STAMP).read_text(encoding="utf-8"))
        if zlib.crc32(outer["text"].encode()) != outer["sum"]:
            raise StoreError(f"{folder / _STAMP} is damaged")
        stamp = json.loads(outer["text"])
        if (stamp["format"], stamp["tokens"]) != (_FORMAT, tokens.VERSION):
            raise StoreError(f"the index in {folder} is of another version")
        for name, expected in stamp["files"].items():
            if _sum(folder / name) != expected:
                raise StoreError(f"{folder / name} is damaged")
        about: dict[str, Any] = stamp["about"]
    except FileNotFoundError as error:
        raise StoreError(f"{error.filename} is not there") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{folder / _STAMP} cannot be read: {error}") from error
    return about


def _is_stamped(path: Path) -> bool:
    return path.is_file() and path.name not in _UNSTAMPED and not path.name.endswith(".new")


def _sum(path: Path) -> list[int]:
    content = path.read_bytes()
    return [len(content), zlib.crc32(content)]


def _weighted(query: Any, one: Any, weight: float) -> Any:
    return one if weight == 1.0 else query.boost_query(one, weight)


def _made(folder: Path, *, has_positions: bool) -> Any:
    return _with_analyser(_library().Index(_schema(has_positions), path=str(folder)))


def _opened(folder: Path) -> Any:
    return _with_analyser(_library().Index.open(str(folder)))


def _with_analyser(index: Any) -> Any:
    index.register_tokenizer(_ANALYSER, _analyser())
    return index


def _library() -> Any:
    """Return the library, which is imported when an index is first opened."""
    import tantivy  # noqa: PLC0415 - `import knowledge_store` must stay light

    return tantivy


@cache
def _analyser() -> Any:
    library = _library()
    builder = library.TextAnalyzerBuilder(library.Tokenizer.whitespace())
    return builder.filter(library.Filter.stemmer("english")).build()


def _schema(has_positions: bool) -> Any:  # noqa: FBT001 - private, one caller
    builder = _library().SchemaBuilder()
    builder.add_text_field("key", tokenizer_name="raw", index_option="basic")
    builder.add_text_field("repo", tokenizer_name="raw", index_option="basic")
    builder.add_unsigned_field("number", fast=True)
    kept = "position" if has_positions else "freq"
    builder.add_text_field("text", tokenizer_name=_ANALYSER, index_option=kept)
    return builder.build()
