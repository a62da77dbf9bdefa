"""Bundles: folders of `review.diff`, `ORIGIN.yaml` and `upstream.json`, one a pull request.

Several generations of such collections exist side by side: origins with `repo` and `pr_number`, or
with `upstream_repo` and `origin_url`; metadata as the forge's full object, a slimmed one, or a flat
record. Everything needed is looked for under each of its names. A bundle without a diff is kept and
named; one that says neither repository nor number is a problem of the report.
"""

import os
import re
from collections import OrderedDict
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from knowledge_store.errors import SourceError
from knowledge_store.licences import settled_licence
from knowledge_store.progress import Progress, Report, Tell, silent
from knowledge_store.pulls import PullRequest
from knowledge_store.sources.archive import is_archive, members
from knowledge_store.sources.catalogue import Catalogue, shipped_catalogue
from knowledge_store.sources.reading import (
    MOST_META_BYTES,
    Refused,
    commit_of,
    day_of,
    file_bytes,
    fingerprint,
    json_mapping,
    mapping_at,
    names_of,
    number_at,
    printable,
    text_at,
    yaml_mapping,
)
from knowledge_store.truth import Truth
from knowledge_store.truth_batch import MOST_DIFF_BYTES, Batch

_FORMAT = "1"
"""Of what is read out of a bundle: a change looks at all of them again."""
_DIFF, _ORIGIN, _UPSTREAM = "review.diff", "ORIGIN.yaml", "upstream.json"
_FILES = (_DIFF, _ORIGIN, _UPSTREAM)
_MOST_OPEN = 64
_MOST_OPEN_BYTES = 128 * 1024 * 1024
"""Of bundles of an archive of which files may still come."""
_URL = re.compile(r"https?://[^/]+/([^/\s]+/[^/\s]+)/pull/(\d+)")
_KEY = re.compile(r"([^/\s]+/[^#\s]+)#(\d+)")
_TAIL = re.compile(r"-(\d+)$")


@dataclass(slots=True)
class _Bundle:
    name: str
    """Its folder, relative to the collection."""
    contents: dict[str, bytes] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        return len(self.contents) + len(self.refused) == len(_FILES)


def ingest(
    truth: Truth, source: Path, *, tell: Tell = silent, catalogue: Catalogue | None = None
) -> Report:
    """Take in every bundle of a collection; those that have not changed cost a look.

    Args:
        truth: the open store.
        source: a folder with bundles at any depth, or an archive of one.
        tell: hears how far it is.
        catalogue: licences and decisions; the shipped ones where none is given.

    Raises:
        SourceError: there is no such folder or archive.
    """
    report = Report(source=str(source))
    total = None
    if source.is_dir():
        names = list(_folders(source, report))
        bundles = _from_folder(source, names)
        total = len(names)
        if not names:
            report.problems.append(f"no bundle in {source}: none of {', '.join(_FILES)} below it")
    elif source.is_file() and is_archive(source):
        bundles = _from_archive(source, report)
    else:
        raise SourceError(f"{source} is neither a folder of bundles nor an archive of one")
    taker = _Taker(truth, report, catalogue or shipped_catalogue())
    with closing(bundles), truth.batch() as batch:
        for done, bundle in enumerate(bundles, 1):
            taker.take(batch, bundle)
            tell(Progress(stage="bundles", done=done, total=total, item=bundle.name))
    return report


class _Taker:
    """Takes in one bundle after another."""

    def __init__(self, truth: Truth, report: Report, catalogue: Catalogue) -> None:
        self.truth = truth
        self.report = report
        self.catalogue = catalogue
        self.format = f"{_FORMAT} {fingerprint(catalogue.model_dump_json())}"
        self.buried = {tombstone.key for tombstone in truth.tombstones()}
        self.met: dict[str, str] = {}

    def take(self, batch: Batch, bundle: _Bundle) -> None:
        """Take in a bundle; whatever is wrong with it goes into the report."""
        for name, reason in bundle.refused.items():
            self.report.contain(reason)
            self.report.problems.append(f"{bundle.name}/{name}: {reason}")
        try:
            self._take(batch, bundle)
        except Refused as refusal:
            self.report.problems.append(f"{bundle.name}: {refusal}")

    def _take(self, batch: Batch, bundle: _Bundle) -> None:
        item = f"bundle:{bundle.name}"
        parts = [bundle.contents.get(name) for name in _FILES]
        mark = fingerprint(self.format, *parts, *bundle.refused.values())
        seen, key = self.truth.seen(item)
        problems = len(self.report.problems)
        if seen == mark:
            pull = None
        else:
            pull = self._pull(bundle)
            key = pull.key
        if self.met.setdefault(key, bundle.name) != bundle.name:
            raise Refused(f"the same pull request as {self.met[key]}")
        if not {_DIFF} & {*bundle.contents, *bundle.refused}:
            self.report.missing.append(key)
        if pull is None:
            self.report.count("dropped" if key in self.buried else "unchanged")
        elif not self._is_deferred(batch, key):
            self.report.count(batch.put(pull, bundle.contents.get(_DIFF)))
            if problems == len(self.report.problems):  # else they are to be told the next time too
                batch.mark(item, mark, key)

    def _is_deferred(self, batch: Batch, key: str) -> bool:
        row = self.catalogue.by_hand(key)
        if row is None or row.decision == "include":
            batch.decide(key, "include", row.reason if row else "somebody bundled it")
            return False
        batch.decide(key, row.decision, row.reason)
        self.report.count("deferred")
        return True

    def _pull(self, bundle: _Bundle) -> PullRequest:
        origin, upstream = self._said(bundle, _ORIGIN), self._said(bundle, _UPSTREAM)
        pull = pull_of(origin, upstream, bundle.name)
        is_too_large = bundle.refused.get(_DIFF) == "too large"
        return pull.model_copy(
            update={
                "licence": settled_licence(pull.licence, self.catalogue.licence(pull.repo)),
                "diff_state": "too_large" if is_too_large else "missing",
            }
        )

    def _said(self, bundle: _Bundle, name: str) -> Mapping[str, object]:
        """Return what a file says; what it cannot say the other one may."""
        content = bundle.contents.get(name)
        if content is None:
            return {}
        try:
            return yaml_mapping(content) if name == _ORIGIN else json_mapping(content)
        except Refused as refusal:
            self.report.problems.append(f"{bundle.name}/{name}: {refusal}")
            return {}


def pull_of(origin: Mapping[str, object], upstream: Mapping[str, object], name: str) -> PullRequest:
    """Return the pull request that a bundle's two records describe.

    Args:
        origin: of any of the known shapes; empty where there is none.
        upstream: the same.
        name: of the bundle's folder, which ends in the number.

    Raises:
        Refused: nothing names the repository or the number.
    """
    forge = mapping_at(upstream, "pull") or upstream
    url = (
        text_at(forge, "html_url") or text_at(origin, "url", "origin_url") or text_at(forge, "url")
    )
    by_url = _URL.search(url) or _KEY.search(text_at(origin, "source_key"))
    repo = text_at(origin, "repo", "upstream_repo") or text_at(
        mapping_at(forge, "base", "repo"), "full_name"
    )
    number = number_at(origin, "pr_number") or number_at(forge, "number")
    if by_url:
        repo, number = repo or by_url[1], number or int(by_url[2])
    if not number and (tail := _TAIL.search(text_at(origin, "source_pr_id") or name)):
        number = int(tail[1])
    base = mapping_at(forge, "base")
    try:
        return PullRequest(
            repo=repo,
            number=number,
            title=text_at(forge, "title") or text_at(origin, "title"),
            body=text_at(forge, "body", "body_excerpt"),
            author=text_at(mapping_at(forge, "user"), "login") or text_at(forge, "author"),
            url=url if _URL.match(url) else f"https://github.com/{repo}/pull/{number}",
            merged_at=day_of(forge.get("merged_at")) or day_of(origin.get("merged_at")),
            merge_commit=commit_of(forge.get("merge_commit_sha")),
            base_branch=text_at(base, "ref"),
            labels=names_of(forge.get("labels")),
            licence=settled_licence(
                text_at(origin, "license"), text_at(mapping_at(base, "repo", "license"), "spdx_id")
            ),
            origin="bundle",
        )
    except ValidationError as error:
        raise Refused("neither record names a repository and a number") from error


def records_of(bundle: Path) -> tuple[Mapping[str, object], Mapping[str, object]]:
    """Return what the two records of a bundle's folder say; nothing where one cannot be read."""

    def said(name: str) -> Mapping[str, object]:
        try:
            content = file_bytes(bundle / name, MOST_META_BYTES)
            if content is None:
                return {}
            return yaml_mapping(content) if name == _ORIGIN else json_mapping(content)
        except Refused:
            return {}

    return said(_ORIGIN), said(_UPSTREAM)


def _folders(source: Path, report: Report) -> Iterator[str]:
    """Yield the folders that hold a bundle, in order; links are not followed."""
    for folder, folders, files in os.walk(source):
        folders.sort()
        for name in [name for name in folders if (Path(folder) / name).is_symlink()]:
            report.contain("links")
            folders.remove(name)
        if not set(_FILES).isdisjoint(files):
            folders.clear()
            yield Path(folder).relative_to(source).as_posix()


def _from_folder(source: Path, names: list[str]) -> Generator[_Bundle, None, None]:
    for name in names:
        bundle = _Bundle(printable(name))
        for file in _FILES:
            most = MOST_DIFF_BYTES if file == _DIFF else MOST_META_BYTES
            try:
                content = file_bytes(source / name / file, most)
            except Refused as refusal:
                bundle.refused[file] = str(refusal)
                continue
            if content is not None:
                bundle.contents[file] = content
        yield bundle


def _is_part(name: str) -> bool:
    path = PurePosixPath(name)
    return path.name in _FILES and "source-snapshot" not in path.parts


def _from_archive(source: Path, report: Report) -> Generator[_Bundle, None, None]:
    """Yield bundles as their files come; their order in an archive is nobody's promise."""
    bundles: OrderedDict[str, _Bundle] = OrderedDict()
    try:
        for member in members(source, _is_part, max(MOST_DIFF_BYTES, MOST_META_BYTES)):
            path = PurePosixPath(member.name)
            if not _is_part(member.name) or member.refused not in {"", "too large"}:
                report.contain(member.refused)
                continue
            name = printable(str(path.parent))
            bundle = bundles.setdefault(name, _Bundle(name))
            bundles.move_to_end(bundle.name)
            is_large_diff = path.name == _DIFF and len(member.content or b"") > MOST_DIFF_BYTES
            if member.content is None or is_large_diff:
                bundle.refused[path.name] = "too large"
            else:
                bundle.contents[path.name] = member.content
            if bundle.is_whole:
                yield bundles.pop(bundle.name)
            while len(bundles) > _MOST_OPEN or _held(bundles) > _MOST_OPEN_BYTES:
                yield bundles.popitem(last=False)[1]
    except SourceError as error:
        report.stop(str(error))
        return  # what is open may lack files that were to come
    yield from bundles.values()


def _held(bundles: Mapping[str, _Bundle]) -> int:
    return sum(len(content) for one in bundles.values() for content in one.contents.values())
