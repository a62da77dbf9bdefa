"""What a pull request says of itself in one text: title, body, paths, functions. Pure.

A card ranks a pull request as a whole, beside its chunks, which rank what it changed. A field can
be withheld, so that a query made from a title never meets that title in the index that is measured.
"""

import re
from dataclasses import dataclass
from typing import Literal

from knowledge_store.pulls import Chunk, DiffFile, PullRequest

VERSION = 3
Withheld = Literal["", "title", "body"]
"""A field that is left out; empty where nothing is."""

_MOST_BODY = 12_000
_MOST_PATHS = 150
_MOST_HEADINGS = 120
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_COMMENT_END = "-->"
_TAG = re.compile(r"</?[a-zA-Z][^>\n]{0,200}>")
_TARGET = re.compile(r"\]\([^)\s]{0,1000}\)|https?://\S+")
_BOX = re.compile(r"^[^\S\n]*[-*][^\S\n]*\[[ xX]?\].*$", re.MULTILINE)
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The fields of a card, already cleaned."""

    key: str
    title: str
    body: str
    paths: tuple[str, ...]
    headings: tuple[str, ...]
    labels: tuple[str, ...]

    def prose(self, withheld: Withheld = "") -> str:
        """Return what the author wrote, the title twice, without the field that is withheld."""
        title = "" if withheld == "title" else self.title
        body = "" if withheld == "body" else self.body
        if withheld == "title":
            body = without_title(body, self.title)
        # A title says in ten words what a body says in hundreds.
        return "\n".join((title, title, body, *self.labels))

    def text(self, withheld: Withheld = "") -> str:
        """Return all fields in one text, without the one that is withheld."""
        written = self.prose(withheld)
        if withheld != "title":
            written = written.removeprefix(f"{self.title}\n")
        return "\n".join((written, *self.paths, *self.headings))


def card_of(pull: PullRequest, files: tuple[DiffFile, ...], chunks: tuple[Chunk, ...]) -> Card:
    """Make the card of a pull request from what the truth holds of it."""
    headings = dict.fromkeys(chunk.heading for chunk in chunks if chunk.heading)
    return Card(
        key=pull.key,
        title=pull.title,
        body=clean_body(pull.body),
        paths=tuple(file.path for file in files[:_MOST_PATHS]),
        headings=tuple(headings)[:_MOST_HEADINGS],
        labels=pull.labels,
    )


def clean_body(body: str) -> str:
    """Return a body without what its template brought: comments, boxes, markup, link targets."""
    # Up to the last end of a comment, as one that never ends would be looked for to the end of the
    # text, from each place where one begins: a body may be hostile, or only a log.
    end = body.rfind(_COMMENT_END) + len(_COMMENT_END) if _COMMENT_END in body else 0
    text = _COMMENT.sub(" ", body[:end]) + body[end:]
    text = _BOX.sub(" ", text)
    text = _TARGET.sub(" ", text)
    return _TAG.sub(" ", text)[:_MOST_BODY].strip()


def without_title(text: str, title: str) -> str:
    """Return a text without any occurrence of a title, whatever its case and spacing."""
    words = [re.escape(word) for word in _SPACE.split(title.strip()) if word]
    if not words:
        return text
    return re.sub(r"\s+".join(words), " ", text, flags=re.IGNORECASE)


def passage_text(chunk: Chunk, title: str) -> str:
    """Return what a vector of a chunk is made from: a model reads its beginning only.

    Title, path and function come first, then the added lines, then the removed and unchanged ones.
    """
    lines = chunk.text.split("\n")
    added = [line[1:].strip() for line in lines if line.startswith("+")]
    rest = [line[1:].strip() for line in lines if not line.startswith("+")]
    return "\n".join(filter(None, (title, chunk.path, chunk.heading, *added, *rest)))


def indexed_text(chunk: Chunk, title: str) -> str:
    """Return what the words of a chunk are taken from: its pull request's title goes before it."""
    return f"{title}\n{chunk.path}\n{chunk.heading}\n{chunk.text}"
