"""Tags: what a text is about, from words in it; and the alias map that queries go through.

The vocabulary is `configs/knowledge/tags.yaml`. A tag needs evidence: a text whose words show no
architecture has none, rather than the most common one.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

import yaml

from knowledge_store.errors import SourceError

CONFIGS = Path(__file__).resolve().parent.parent / "configs" / "knowledge"

_BREAKS = str.maketrans({chr(code): " " for code in range(128) if not chr(code).isalnum()})
_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    ".cu": ("cuda",),
    ".cuh": ("cuda",),
    ".ptx": ("ptx",),
    ".hip": ("hip",),
}


@dataclass(frozen=True)
class Vocabulary:
    """Tags with the phrases that show them."""

    groups: Mapping[str, str]
    """Tag to group."""
    spelled: Mapping[str, str]
    """Tag to how code spells it."""
    by_first_word: Mapping[str, tuple[tuple[str, str], ...]]
    """First word of a phrase to (phrase, tag)."""
    digest: str
    """Of the file: tags that were given by another vocabulary are given again."""

    def found(self, text: str) -> set[str]:
        """Return the tags that a text shows."""
        words = text.lower().translate(_BREAKS).split()
        known = self.by_first_word.keys() & set(words)
        if not known:
            return set()
        flat = f" {' '.join(words)} "
        return {
            tag
            for word in known
            for phrase, tag in self.by_first_word[word]
            if phrase == word or f" {phrase} " in flat
        }


def read_vocabulary(path: Path) -> Vocabulary:
    """Read a vocabulary.

    Raises:
        SourceError: the file is not groups of tags with a list of terms each, or two tags share a
            term; the message names it.
    """
    content = path.read_bytes()
    groups: dict[str, str] = {}
    spelled: dict[str, str] = {}
    owners: dict[str, str] = {}
    try:
        for group, tags in yaml.safe_load(content).items():
            for tag, terms in tags.items():
                groups[tag] = group
                spelled[tag] = str(terms[0])
                for term in terms:
                    phrase = " ".join(str(term).lower().translate(_BREAKS).split())
                    if owners.setdefault(phrase, tag) != tag:
                        raise SourceError(f"{path}: {phrase!r} shows {owners[phrase]} and {tag}")
    except (AttributeError, IndexError, KeyError, TypeError, yaml.YAMLError) as error:
        raise SourceError(f"{path} is not `group: {{tag: [term, ...]}}`: {error}") from error
    by_first: dict[str, list[tuple[str, str]]] = {}
    for phrase, tag in owners.items():
        by_first.setdefault(phrase.split()[0], []).append((phrase, tag))
    return Vocabulary(
        groups=groups,
        spelled=spelled,
        by_first_word={word: tuple(pairs) for word, pairs in by_first.items()},
        digest=hashlib.sha256(content).hexdigest()[:12],
    )


@cache
def vocabulary() -> Vocabulary:
    """Return the shipped vocabulary."""
    return read_vocabulary(CONFIGS / "tags.yaml")


def tags_of(text: str, path: str = "") -> tuple[str, ...]:
    """Return the tags that a text and its path show, sorted."""
    found = vocabulary().found(f"{path} {text}")
    found.update(_SUFFIXES.get(PurePosixPath(path).suffix, ()))
    return tuple(sorted(found))


def group_of(tag: str) -> str:
    """Return what a tag is one of: architecture, instruction, dsl, ...; empty for others."""
    return vocabulary().groups.get(tag, "")


def expand(query: str) -> tuple[str, ...]:
    """Return how code spells what a query names otherwise: `UMMA fence` gives `tcgen05`.

    Returns:
        Terms to search beside the query's own, sorted; none that the query already holds.
    """
    words = vocabulary()
    flat = f" {' '.join(query.lower().translate(_BREAKS).split())} "
    spellings = {words.spelled[tag] for tag in words.found(query)}
    return tuple(sorted(term for term in spellings if f" {term} " not in flat))


def canonical(name: str) -> str:
    """Return the tag that a name means: `UMMA` and `tcgen05` give `tcgen05`; unknown ones stay."""
    words = vocabulary()
    if name in words.groups:
        return name
    lowered = name.lower()
    phrase = " ".join(lowered.translate(_BREAKS).split())
    pairs = words.by_first_word.get(phrase.partition(" ")[0], ())
    return next((tag for known, tag in pairs if known == phrase), lowered)
