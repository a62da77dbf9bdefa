"""Tags: what a text is about, from words in it; and the alias map that queries go through.

The vocabulary is `configs/knowledge/tags.yaml`. A tag needs evidence: a text whose words show no
architecture has none, rather than the most common one.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from knowledge_store.errors import SourceError

CONFIGS = Path(__file__).resolve().parent.parent / "configs" / "knowledge"

_BREAKS = str.maketrans({chr(code): " " for code in range(128) if not chr(code).isalnum()})
_SUFFIXES: Mapping[str, str] = {".cu": "cuda", ".cuh": "cuda", ".ptx": "ptx", ".hip": "hip"}


@dataclass(frozen=True)
class Vocabulary:
    """Tags with the phrases that show them."""

    groups: Mapping[str, str]
    """Tag to group."""
    spelled: Mapping[str, str]
    """Tag to how code spells it."""
    by_word: Mapping[str, str]
    """A term of one word to its tag."""
    by_first_word: Mapping[str, tuple[tuple[str, str], ...]]
    """First word of a longer term to (term, tag)."""
    digest: str
    """Of the file: tags that were given by another vocabulary are given again."""

    def found(self, text: str) -> set[str]:
        """Return the tags that a text shows."""
        words = text.lower().translate(_BREAKS).split()
        distinct = set(words)
        tags = {self.by_word[word] for word in self.by_word.keys() & distinct}
        begun = self.by_first_word.keys() & distinct
        if begun:
            flat = f" {' '.join(words)} "
            for word in begun:
                tags.update(tag for term, tag in self.by_first_word[word] if f" {term} " in flat)
        return tags

    def tag(self, term: str) -> str:
        """Return the tag of a term as a whole; empty where it has none."""
        words = term.lower().translate(_BREAKS).split()
        if len(words) == 1:
            return self.by_word.get(words[0], "")
        longer = dict(self.by_first_word.get(words[0], ())) if words else {}
        return longer.get(" ".join(words), "")


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
    longer: dict[str, list[tuple[str, str]]] = {}
    for phrase, tag in owners.items():
        if " " in phrase:
            longer.setdefault(phrase.split()[0], []).append((phrase, tag))
    return Vocabulary(
        groups=groups,
        spelled=spelled,
        by_word={phrase: tag for phrase, tag in owners.items() if " " not in phrase},
        by_first_word={word: tuple(pairs) for word, pairs in longer.items()},
        digest=hashlib.sha256(content).hexdigest()[:12],
    )


@cache
def vocabulary() -> Vocabulary:
    """Return the shipped vocabulary."""
    return read_vocabulary(CONFIGS / "tags.yaml")


def tags_of(text: str, path: str = "") -> tuple[str, ...]:
    """Return the tags that a text and its path show, sorted."""
    found = vocabulary().found(f"{path} {text}")
    found.update(tag for suffix, tag in _SUFFIXES.items() if path.endswith(suffix))
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
    return name if name in words.groups else words.tag(name) or name.lower()
