"""The index of one store: searched, checked, brought up to the truth."""

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from knowledge_store.exact import manifest as manifests
from knowledge_store.exact import update as updates
from knowledge_store.exact.engine import Request, search
from knowledge_store.exact.errors import IndexCorrupt
from knowledge_store.exact.lines import shown
from knowledge_store.exact.manifest import Manifest
from knowledge_store.exact.nouns import ExactAnswer, ExactQuery, Hit
from knowledge_store.exact.part import Part
from knowledge_store.exact.update import Report
from knowledge_store.progress import Tell, silent
from knowledge_store.truth import Truth

FOLDER = "exact"
_ATTEMPTS = 5


class Exact:
    """Exact search over the diffs of one store. Threads may share it; they take turns."""

    def __init__(self, store: Path) -> None:
        """Name the store; nothing is opened yet."""
        self.folder = store / FOLDER
        self._turn = threading.RLock()
        self._manifest: Manifest | None = None
        self._settled: Manifest | None = None
        self._seen: tuple[int, int, int] | None = None
        self._parts: dict[str, Part] = {}
        self._searched = 0
        self._without_diff: tuple[tuple[Part, int], ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what searches opened; the next search opens it again."""
        with self._turn:
            for part in self._parts.values():
                part.close()
            self._parts, self._manifest, self._settled, self._seen = {}, None, None, None

    # Searching

    def search(self, query: ExactQuery) -> ExactAnswer:
        """Find every line that a query asks for.

        Raises:
            PatternError: a pattern is not of the dialect.
            IndexMissing: nothing is indexed yet.
            IndexCorrupt: a file of the index is damaged; `update` builds it again.
            SearchTimeout: not every line was judged in time.
            EngineError: a program that judges failed.
        """
        start = time.perf_counter()
        request = request_of(query)
        with self._turn:
            opened = self._opened()
            groups, engine = search(opened, request)
            lines = [*shown(groups, query.limit, query.per_repo)]
            without = tuple(
                sorted(
                    part.pull(number).key
                    for part, number in self._without_diff
                    if request.wants(part.pull(number))
                )
            )
            searched = self._searched
        total = sum(len(group.hits) for group in groups)
        hits = tuple(
            Hit(
                key=line.key,
                repo=line.repo,
                pr=line.number,
                diff_line=line.diff_line,
                path=line.path,
                new_line=line.new_line,
                text=line.text,
                licence=line.licence,
            )
            for line in lines
        )
        return ExactAnswer.model_construct(
            hits=hits,
            total_hits=total,
            total_pulls=len(groups),
            is_complete=not without,
            is_truncated=total > len(hits),
            searched_pulls=searched,
            without_diff=without,
            seconds=time.perf_counter() - start,
            engine=engine,
        )

    def revision(self) -> int:
        """Return the revision of the truth that searches see."""
        return manifests.read(str(self.folder)).revision

    def check(self) -> None:
        """Read every file of the index and compare it with its checksum.

        Raises:
            IndexMissing: nothing is indexed yet.
            IndexCorrupt: a file is not what was written.
        """
        listed = manifests.read(str(self.folder)).parts
        for part in listed:
            try:
                manifests.check(str(self.folder), part, fully=True)
            except FileNotFoundError as error:
                raise _gone(self.folder, error) from error

    def _opened(self) -> list[tuple[Part, frozenset[int]]]:
        """Return the parts of the current manifest, open and as they were written."""
        for attempt in range(_ATTEMPTS):
            try:
                current = self._current()
                for listed in current.parts:
                    manifests.check(str(self.folder), listed)
                    if listed.name not in self._parts:
                        self._parts[listed.name] = Part(str(self.folder / listed.name))
            except FileNotFoundError as error:
                # An update replaced the part after the manifest was read: read it again.
                self._seen = None
                if attempt == _ATTEMPTS - 1:
                    raise _gone(self.folder, error) from error
                continue
            if current is not self._settled:
                self._settle(current)
            return [(self._parts[listed.name], listed.dead) for listed in current.parts]
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _current(self) -> Manifest:
        try:
            status = (self.folder / manifests.NAME).stat()
        except FileNotFoundError:
            self._seen = None
            return manifests.read(str(self.folder))
        seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        if seen != self._seen or self._manifest is None:
            self._manifest = manifests.read(str(self.folder))
            self._seen = seen
        return self._manifest

    def _settle(self, current: Manifest) -> None:
        """Close the parts of manifests before and count what there is to search."""
        names = {listed.name for listed in current.parts}
        for name in [name for name in self._parts if name not in names]:
            self._parts.pop(name).close()
        without: list[tuple[Part, int]] = []
        self._searched = 0
        for listed in current.parts:
            part = self._parts[listed.name]
            for pull in part.pulls():
                if pull.id in listed.dead:
                    continue
                if pull.has_diff:
                    self._searched += 1
                else:
                    without.append((part, pull.id))
        self._without_diff = tuple(without)
        self._settled = current

    def update(self, truth: Truth, tell: Tell = silent) -> Report:
        """Bring the index to what the truth holds; damaged parts are built again.

        Waits for another process that updates. Searches go on meanwhile.

        Raises:
            StoreError: the truth cannot be read.
        """
        return updates.update(self.folder, truth, tell)


def request_of(query: ExactQuery) -> Request:
    """Return what the engine reads.

    Raises:
        PatternError: a pattern is not of the dialect.
    """
    request = Request(
        query.patterns,
        query.mode,
        is_all=query.combine == "all",
        ignore_case=query.ignore_case,
        timeout_s=query.timeout_s,
    )
    request.narrow(
        repos=query.repos,
        paths=query.paths,
        since=query.since,
        until=query.until,
        kinds=query.kinds,
        tags=query.tags,
    )
    return request


def _gone(folder: Path, error: FileNotFoundError) -> IndexCorrupt:
    return IndexCorrupt(
        f"{error.filename or folder} is gone; run `kernelpilot knowledge update` to build it again"
    )
