"""How commands speak to people: rows of text, and progress on standard error."""

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from knowledge_store.findings import SearchAnswer
    from knowledge_store.pages import Page
    from knowledge_store.progress import Progress

_EVERY_S = 1.0
_SHOWN_LINES = 6


class Console:
    """Says things on standard error, progress at most once a second; nothing where it is quiet."""

    def __init__(self, *, is_quiet: bool = False) -> None:
        self._is_quiet = is_quiet
        self._last = 0.0

    def say(self, line: str) -> None:
        """Say a line."""
        if not self._is_quiet:
            sys.stderr.write(f"{line}\n")

    def tell(self, progress: "Progress") -> None:
        """Say how far a stage is."""
        now = time.monotonic()
        if now - self._last >= _EVERY_S:
            self._last = now
            of = f" of {progress.total}" if progress.total is not None else ""
            self.say(f"{progress.stage}: {progress.done}{of} {progress.item}".rstrip())


def found_rows(answer: "SearchAnswer") -> Iterator[str]:
    """Yield what a reader sees of a search."""
    if answer.note:
        yield answer.note
    for place, one in enumerate(answer.found, start=1):
        yield f"{place:2d}. {one.slug}  {one.title}  [{one.licence}]"
        yield f"    {one.url or one.key}"
        yield f"    why: {'; '.join(map(str, one.why))}"
        if one.path:
            heading = f"  {one.heading}" if one.heading else ""
            yield f"    {one.path} (diff line {one.diff_line}){heading}"
        for line in one.text.split("\n")[:_SHOWN_LINES] if one.text else ():
            yield f"      {line}"
    if answer.route == "meaning":
        yield f"{len(answer.found)} of {answer.total_pulls} ranked, {_ms(answer)}; not a claim"
        return
    yield (
        f"{answer.total_lines} lines in {answer.total_pulls} of {answer.searched_pulls} pull "
        f"requests, all of them counted, {_ms(answer)}"
    )


def page_rows(page: "Page") -> Iterator[str]:
    """Yield what a reader sees of a page."""
    pull = page.pull
    yield f"{page.slug}  {pull.title}"
    for name, value in (
        ("key", page.key),
        ("url", pull.url),
        ("merged", pull.merged_at),
        ("commit", pull.merge_commit),
        ("origin", pull.origin),
        ("licence", pull.licence),
        ("labels", ", ".join(pull.labels)),
        ("diff sha256", pull.diff_sha256),
        ("warning", page.warning),
        ("mentions", ", ".join(page.related)),
        ("not in store", ", ".join(page.absent)),
    ):
        if value:
            yield f"{name:>12}  {value}"
    for file in page.files:
        yield f"{file.status:>12}  {file.path} ({file.kind}, {file.first_line}-{file.last_line})"
    if pull.body:
        yield ""
        yield pull.body
    if page.diff:
        yield ""
        yield page.diff


def _ms(answer: "SearchAnswer") -> str:
    return f"{answer.seconds * 1000:.1f} ms"
