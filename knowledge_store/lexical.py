"""Ranking by words: BM25 over chunks of diffs, over cards, over what authors wrote, over all of it.

A card has paths and functions beside title and body; prose has these two alone; the whole has a
card and every token of the diff once, so that a question whose words are scattered over a pull
request finds it, and a long diff says no more by repeating itself. Neighbours of a question count
more where they are neighbours in a card or in prose (a sequential dependence model); in chunks of
code that costs ten times as much and finds nothing more.

An index over the truth that can be thrown away. It remembers the truth's revision that it holds, so
an update reads what changed since; a damaged or outdated index is made anew.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from knowledge_store import cards, locks, tokens
from knowledge_store.cards import Withheld, card_of, indexed_text
from knowledge_store.errors import StoreError
from knowledge_store.truth import Truth
from knowledge_store.words_index import Entry, WordsIndex, WordsWriter, analysed

_CHUNK_BITS = 16
_DEEPEST = 600
"""Chunks looked at: many of a search's best belong to the same pull requests."""
_EVERY = 50
_PARTS = ("chunks", "cards", "prose", "whole")
_WITH_POSITIONS = frozenset({"cards", "prose"})
_PAIR_WEIGHT = 0.4


@dataclass(frozen=True, slots=True)
class WordRank:
    """A pull request that a search found, at the best of its entries."""

    key: str
    score: float
    chunk: int | None = None
    """Position of the best chunk among those of its pull request; None for a card."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question as the indices search it."""

    terms: tuple[tuple[str, float], ...]
    """Distinct, with their weights."""
    pairs: tuple[tuple[str, str, float], ...] = ()
    """Neighbours, with the weight of standing together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LexicalReport:
    """What an update did."""

    replaced: int
    """Pull requests indexed now."""
    dropped: int
    is_rebuilt: bool
    reason: str = ""
    """Why it was rebuilt; empty where it was not."""


class Lexical:
    """The indices of one folder, opened for searching."""

    def __init__(self, folder: Path) -> None:
        """Open what `update` wrote.

        Raises:
            StoreError: an index is absent, damaged or of another version; `update` puts it right.
        """
        with locks.shared(_lock(folder)):
            parts = [WordsIndex(folder / part) for part in _PARTS]
        self._chunks, self._cards, self._prose, self._whole = parts
        about = self._chunks.about
        if any(one.about != about for one in parts) or about.get("cards") != cards.VERSION:
            raise StoreError(f"the indices in {folder} are not of one making")
        self.revision = int(about["revision"])
        self.withheld: Withheld = about["withheld"]
        self._keys: list[str] = about["keys"]

    @property
    def keys(self) -> tuple[str, ...]:
        """Return every key that was ever indexed here, in the order of their numbers."""
        return tuple(self._keys)

    @property
    def chunks(self) -> int:
        """Return how many chunks are indexed."""
        return self._chunks.entries

    @property
    def cards(self) -> int:
        """Return how many cards are indexed."""
        return self._cards.entries

    def by_chunks(self, question: Question, limit: int, *, repo: str = "") -> list[WordRank]:
        """Rank pull requests by the best of their chunks."""
        found = self._chunks.search(question.terms, _DEEPEST, repo=repo)
        best: dict[str, WordRank] = {}
        for one in found:
            key = self._keys[one.number >> _CHUNK_BITS]
            if key not in best:
                chunk = one.number & ((1 << _CHUNK_BITS) - 1)
                best[key] = WordRank(key, one.score, chunk)
        return list(best.values())[:limit]

    def by_cards(self, question: Question, limit: int, *, repo: str = "") -> list[WordRank]:
        """Rank pull requests by their cards."""
        return self._by_pull(self._cards, question, limit, repo)

    def by_prose(self, question: Question, limit: int, *, repo: str = "") -> list[WordRank]:
        """Rank pull requests by title and body alone."""
        return self._by_pull(self._prose, question, limit, repo)

    def by_whole(self, question: Question, limit: int, *, repo: str = "") -> list[WordRank]:
        """Rank pull requests by all that they hold, each token of a diff once."""
        alone = Question(question.terms)
        return self._by_pull(self._whole, alone, limit, repo)

    def _by_pull(
        self, index: WordsIndex, question: Question, limit: int, repo: str
    ) -> list[WordRank]:
        found = index.search(question.terms, limit, pairs=question.pairs, repo=repo)
        return [WordRank(self._keys[one.number >> _CHUNK_BITS], one.score) for one in found]


def question_of(text: str, aliases: Iterable[str] = ()) -> Question:
    """Return the question that a text asks.

    Args:
        text: as it was asked.
        aliases: other spellings of what it names. Together they weigh as much as one of its words:
            a short question needs them, a sentence has words enough.
    """
    asked = analysed(tokens.words(text).split())
    weights = dict.fromkeys(asked, 1.0)
    others = dict.fromkeys(analysed(tokens.words(" ".join(aliases)).split()))
    share = 1.0 / max(1, len(weights), len(others))
    for term in others:
        weights.setdefault(term, share)
    neighbours = dict.fromkeys(pair for pair in pairwise(asked) if pair[0] != pair[1])
    return Question(
        tuple(weights.items()), tuple((first, second, _PAIR_WEIGHT) for first, second in neighbours)
    )


def update(
    folder: Path,
    truth: Truth,
    *,
    withheld: Withheld = "",
    tell: Callable[[int, int], None] = lambda _done, _of: None,
) -> LexicalReport:
    """Bring the indices of a folder to the truth's revision.

    Args:
        folder: of both; created.
        truth: what is indexed.
        withheld: a field to leave out of every entry, for a measurement.
        tell: pull requests done, and how many there are to do.
    """
    with locks.exclusive(folder.with_name(f"{folder.name}.update.lock")):
        before, reason = _before(folder, withheld)
        since = before.revision if before else 0
        revision = truth.revision
        keys = list(before.keys) if before else []
        changed = list(truth.keys(since))
        gone = list(truth.dropped(since)) if before else []
        if before and not changed and not gone:
            return LexicalReport(replaced=0, dropped=0, is_rebuilt=False)
        numbers = {key: number for number, key in enumerate(keys)}
        for key in changed:
            numbers.setdefault(key, len(numbers))
        about = {
            "revision": revision,
            "withheld": withheld,
            "cards": cards.VERSION,
            "keys": list(numbers),
        }
        _write(
            folder, _Change(truth, changed, gone, numbers, withheld), about, tell, before is None
        )
        return LexicalReport(
            replaced=len(changed),
            dropped=len(gone),
            is_rebuilt=before is None and bool(reason),
            reason=reason,
        )


@dataclass(frozen=True, slots=True)
class _Change:
    truth: Truth
    changed: list[str]
    gone: list[str]
    numbers: dict[str, int]
    withheld: Withheld

    def entries(self) -> Iterator[tuple[list[Entry], ...]]:
        """Yield the entries of each changed pull request, in the order of the parts."""
        for key in self.changed:
            pull = self.truth.pull(key)
            if pull is None:
                continue
            chunks = self.truth.chunks(key)
            title = "" if self.withheld == "title" else pull.title
            first = self.numbers[key] << _CHUNK_BITS
            card = card_of(pull, self.truth.files(key), chunks)
            text = card.text(self.withheld)
            whole = f"{text}\n{tokens.distinct(chunk.text for chunk in chunks)}"
            yield (
                [
                    Entry(key, first + place, pull.repo, indexed_text(chunk, title))
                    for place, chunk in enumerate(chunks[: 1 << _CHUNK_BITS])
                ],
                [Entry(key, first, pull.repo, text)],
                [Entry(key, first, pull.repo, card.prose(self.withheld))],
                [Entry(key, first, pull.repo, whole)],
            )


def _write(
    folder: Path,
    change: _Change,
    about: dict[str, Any],
    tell: Callable[[int, int], None],
    is_new: bool,  # noqa: FBT001 - private, one caller
) -> None:
    stale = () if is_new else (*change.changed, *change.gone)
    fresh = folder.with_name(f"{folder.name}.new") if is_new else folder
    with nullcontext() if is_new else locks.exclusive(_lock(folder)):
        writers = [
            WordsWriter(
                fresh / part, is_new=is_new, without=stale, has_positions=part in _WITH_POSITIONS
            )
            for part in _PARTS
        ]
        for done, entries in enumerate(change.entries(), start=1):
            for writer, some in zip(writers, entries, strict=True):
                for entry in some:
                    writer.add(entry)
            if done % _EVERY == 0 or done == len(change.changed):
                tell(done, len(change.changed))
        for writer in writers:
            writer.finish(about)
    if is_new:
        with locks.exclusive(_lock(folder)):
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)


def _before(folder: Path, withheld: Withheld) -> tuple[Lexical | None, str]:
    """Return the indices as they are, or None and why they are made anew."""
    if not folder.is_dir():
        return None, ""
    try:
        found = Lexical(folder)
    except StoreError as error:
        return None, str(error)
    if found.withheld != withheld:
        return None, f"it withholds {found.withheld or 'nothing'}, not {withheld or 'nothing'}"
    return found, ""


def _lock(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
